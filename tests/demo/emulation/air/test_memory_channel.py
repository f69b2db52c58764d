"""Laws of the air: what arrives is what was sent, whatever is lost; and it costs what the losses cost."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.emulation.air import (
    AirSettings,
    FilePayload,
    Heard,
    MemoryChannel,
    Receiver,
    ReceiverLimits,
    spooled,
)
from tests.demo.emulation.air.laws import SMALL, Spoil, cast_of, deliver, some_bytes

MB = 1_000_000


@given(
    size=st.integers(1, 60_000),
    losses=st.lists(st.floats(0, 0.9), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_any_loss_below_one_ends_with_every_user_holding_every_bit(
    size: int, losses: list[float], seed: int
) -> None:
    data = some_bytes(size, seed)
    sent, got = deliver(cast_of(data, len(losses), dict(enumerate(losses))), seed=seed)

    assert got == {user: [data] for user in range(len(losses))}
    assert not sent.missing
    assert set(sent.delay_s) == set(got)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_spoiled_rounds_deliver_nothing_wrong_and_leave_nobody_out(seed: int) -> None:
    data = some_bytes(1 + 437 * seed, seed)
    steady = replace(SMALL, patience=200, max_stalls=200)
    spoil = Spoil(seed, 0.05 * (1 + seed % 5))

    sent, got = deliver(cast_of(data, 2), seed=seed, settings=steady, spoil=spoil)

    assert got == {0: [data], 1: [data]}
    assert not sent.missing


def test_the_same_seed_gives_the_same_bytes_on_the_air_and_another_seed_others() -> None:
    cast, scarce = cast_of(some_bytes(50_000), 3, 0.2), replace(SMALL, ahead_sigmas=-3.0)
    first, again, other = (deliver(cast, seed=seed, settings=scarce)[0] for seed in (1, 1, 2))

    assert first == again
    assert first.wire != other.wire


def test_a_clean_broadcast_costs_the_headers_and_nothing_more_however_many_listen() -> None:
    data = some_bytes(2 * MB)
    wires = [deliver(cast_of(data, users), settings=AirSettings())[0].wire for users in (1, 4)]

    assert all(wire.ethernet_bytes < 1.041 * len(data) and wire.repair_bytes == 0 for wire in wires)
    assert wires[1].ethernet_bytes - wires[0].ethernet_bytes < 100  # who is addressed


def test_one_in_twenty_lost_by_each_user_costs_an_eighth_with_headers() -> None:
    data = some_bytes(5 * MB)
    sent, _ = deliver(cast_of(data, 4, 0.05), settings=AirSettings())

    assert 1.08 < sent.wire.ethernet_bytes / len(data) < 1.13


def test_without_feedback_enough_is_sent_at_once_and_nobody_answers() -> None:
    data = some_bytes(2 * MB)
    sent, got = deliver(cast_of(data, 3, 0.1, feedback=False), settings=AirSettings())

    assert got == {user: [data] for user in range(3)}
    assert sent.wire.feedback_bytes == 0
    assert sent.wire.ethernet_bytes < 1.22 * len(data)


def test_who_is_not_addressed_hears_nothing() -> None:
    got: list[Heard] = []
    channel = MemoryChannel(SMALL)
    channel.join(Receiver(0, got.append))
    channel.join(Receiver(5, got.append))
    channel.send(cast_of(some_bytes(1000), 1))

    assert [heard.user for heard in got] == [0]


def test_a_silent_user_is_given_up_and_the_others_are_served() -> None:
    got: list[Heard] = []
    channel = MemoryChannel(SMALL)
    channel.join(Receiver(0, got.append))
    sent = channel.send(cast_of(some_bytes(30_000), 2))

    assert sent.missing == {1}
    assert len(got) == 1


def test_two_broadcasts_at_once_arrive_each_at_its_users() -> None:
    one, two = some_bytes(70_000, 1), some_bytes(50_000, 2)
    got: list[Heard] = []
    channel = MemoryChannel(SMALL)
    for user in range(3):
        channel.join(Receiver(user, got.append))
    sent = channel.send_together([cast_of(one, 2, 0.1, cast_id=1), cast_of(two, 3, 0.1, cast_id=2)])

    assert not any(each.missing for each in sent)
    assert sorted((heard.user, heard.data == one, heard.data == two) for heard in got) == [
        (0, False, True),
        (0, True, False),
        (1, False, True),
        (1, True, False),
        (2, False, True),
    ]


def test_a_large_object_passes_through_little_memory_and_a_file(tmp_path: Path) -> None:
    data = some_bytes(300_000)
    limits = ReceiverLimits(memory_bytes=1000, window_bytes=40_000)
    got: list[Heard] = []
    channel = MemoryChannel(SMALL)
    channel.join(Receiver(0, got.append, folder=tmp_path, limits=limits))
    channel.send(cast_of(data, 1, 0.3))

    assert got[0].data is None
    assert got[0].read() == data
    assert [got[0].path] == list(tmp_path.iterdir())


def test_what_is_half_here_when_a_receiver_leaves_is_gone(tmp_path: Path) -> None:
    limits = ReceiverLimits(memory_bytes=1000, window_bytes=1000)
    receiver = Receiver(0, lambda heard: None, folder=tmp_path, limits=limits)
    channel = MemoryChannel(SMALL, lambda user, datagrams: datagrams[-43:])
    channel.join(receiver)
    channel.send(replace(cast_of(some_bytes(90_000), 1), feedback=False))
    assert list(tmp_path.iterdir())

    channel.close()
    assert not list(tmp_path.iterdir())


def test_refused_objects_are_reported_as_missing() -> None:
    got: list[Heard] = []
    for receiver in (
        Receiver(0, got.append, wants=lambda object_id, size: False),
        Receiver(0, got.append, limits=ReceiverLimits(object_bytes=999)),
        Receiver(0, got.append, folder=Path("/nowhere"), limits=ReceiverLimits(memory_bytes=0)),
    ):
        channel = MemoryChannel(SMALL)
        channel.join(receiver)
        assert channel.send(cast_of(some_bytes(1000), 1)).missing == {0}
    assert not got


def test_what_a_user_does_with_an_object_holds_up_nobody_and_breaks_nothing() -> None:
    got: list[Heard] = []

    def clumsy(heard: Heard) -> None:
        got.append(heard)
        raise OSError("no space")

    channel, receiver = MemoryChannel(SMALL), Receiver(0, clumsy)
    channel.join(receiver)
    sent = [channel.send(cast_of(some_bytes(1000), 1, cast_id=number)) for number in range(2)]

    assert not any(one.missing for one in sent)
    assert len(got) == 2
    assert receiver.settle(0.0)


def test_a_second_sender_goes_on_where_the_first_died() -> None:
    data, got = some_bytes(100_000), list[Heard]()
    dying, living = MemoryChannel(SMALL, DiesAfter(600)), MemoryChannel(SMALL)
    for user in range(2):
        receiver = Receiver(user, got.append)
        dying.join(receiver)
        living.join(receiver)
    first = dying.send(cast_of(data, 2, cast_id=9, feedback=False))
    assert not got

    sent = living.send(cast_of(data, 2, cast_id=10, resume=True))
    assert [heard.data == data for heard in got] == [True, True]
    assert sent.wire.ethernet_bytes < 0.6 * first.wire.ethernet_bytes


def test_who_joins_late_is_sent_what_it_missed() -> None:
    data, got = some_bytes(100_000), list[Heard]()
    channel = MemoryChannel(SMALL, JoinsLate())
    for user in range(2):
        channel.join(Receiver(user, got.append))
    sent = channel.send(cast_of(data, 2))

    assert sorted((heard.user, heard.data == data) for heard in got) == [(0, True), (1, True)]
    assert 0.4 < sent.wire.repair_bytes / len(data) < 0.8


class JoinsLate:
    """User 1 hears nothing of the first half."""

    heard = 0

    def __call__(self, user: int, datagrams: list[bytes]) -> list[bytes]:
        self.heard += len(datagrams) * user
        return datagrams if user == 0 or self.heard > 200 else []


class DiesAfter:
    """The sender's datagrams stop."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self, _user: int, datagrams: list[bytes]) -> list[bytes]:
        self._left -= len(datagrams)
        return datagrams if self._left > 0 else []


def test_payloads_out_of_files_and_pieces_are_the_same_broadcast(tmp_path: Path) -> None:
    data = some_bytes(30_000)
    path = tmp_path / "object"
    path.write_bytes(data)
    plain = cast_of(data, 1)
    for payload in (FilePayload(path), spooled([data[:7], data[7:]])):
        assert payload.object_id == plain.payload.object_id
        sent, got = deliver(replace(plain, payload=payload))
        assert got == {0: [data]}
        assert sent.wire == deliver(plain)[0].wire
        payload.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cast_id": -1}, "cast_id"),
        ({"rate_bit_s": 0.0}, "rate_bit_s"),
        ({"users": frozenset[int]()}, "users"),
        ({"users": frozenset({2**16})}, "users"),
        ({"loss": {0: 1.0}}, "loss"),
        ({"loss": {7: 0.5}}, "loss"),
    ],
)
def test_a_broadcast_that_cannot_be_is_refused_in_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(cast_of(b"x", 1), **change)  # type: ignore[arg-type]
