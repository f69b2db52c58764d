"""The same air on real sockets of this machine: loopback multicast, with and without the kernel's help."""

import socket
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from demo.emulation.air import AirSettings, Heard, MulticastChannel, Receiver, pace
from demo.emulation.air.pace import Pacer
from demo.emulation.air.sockets import can_join, can_segment
from tests.demo.emulation.air.laws import cast_of, some_bytes
from tests.ports import free_ports

Open = Callable[[AirSettings], MulticastChannel]
PATIENT_S = 30.0
"""Of tests on a busy machine, s."""


@pytest.fixture
def channels() -> Iterator[Open]:
    """Channels of one group and port, closed in the end."""
    opened, (port,) = list[MulticastChannel](), free_ports(1, socket.SOCK_DGRAM)

    def open_one(settings: AirSettings) -> MulticastChannel:
        opened.append(MulticastChannel(port, settings=settings))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


class Got:
    """Collects what arrives, in whatever thread."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._change = threading.Condition()

    def __call__(self, heard: Heard) -> None:
        with self._change:
            self.heard.append(heard)
            self._change.notify_all()

    def wait(self, count: int) -> list[Heard]:
        with self._change:
            assert self._change.wait_for(lambda: len(self.heard) >= count, PATIENT_S)
            return self.heard


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("feedback", [True, False])
def test_every_user_holds_every_bit(channels: Open, *, offload: bool, feedback: bool) -> None:
    channel, got, data = channels(AirSettings(offload=offload)), Got(), some_bytes(300_001)
    for user in range(3):
        channel.join(Receiver(user, got))
    sent = channel.send(replace(cast_of(data, 3, 0.1, feedback=feedback), rate_bit_s=2e8))

    assert sorted((heard.user, heard.read() == data) for heard in got.wait(3)) == [
        (u, True) for u in range(3)
    ]
    assert not sent.missing
    assert sent.seconds >= 8 * sent.wire.ethernet_bytes / 2e8
    if feedback:
        assert all(0 < delay <= sent.seconds for delay in sent.delay_s.values())
        assert len(sent.delay_s) == 3


def test_broadcasts_of_several_threads_do_not_mix(channels: Open) -> None:
    channel, got = channels(AirSettings()), Got()
    objects = [some_bytes(80_000, seed) for seed in range(3)]
    for user in range(2):
        channel.join(Receiver(user, got))
    threads = [
        threading.Thread(target=channel.send, args=[cast_of(data, 2, 0.1)]) for data in objects
    ]  # all with one cast id: the sender's port tells them apart
    for thread in threads:
        thread.start()
    heard = got.wait(6)
    for thread in threads:
        thread.join()

    assert sorted((one.user, objects.index(one.read())) for one in heard) == [
        (user, which) for user in range(2) for which in range(3)
    ]


class Mortal(Receiver):
    """Hears so many bytes, and is dead from then on: by a count, not by a clock."""

    left_bytes = 200_000

    def hear(
        self, data: bytes | memoryview, segment: int, source: Hashable = None, arrived: float | None = None
    ) -> list[bytes]:
        self.left_bytes -= len(data)
        return super().hear(data, segment, source, arrived) if self.left_bytes > 0 else []


def test_a_user_who_dies_half_way_is_given_up_and_comes_back_late(channels: Open) -> None:
    quick = AirSettings(answer_s=0.02, patience=8)  # 1.3 s: less, and a busy machine looks dead
    sender, device, got, data = channels(quick), channels(quick), Got(), some_bytes(400_000)
    mortal = Mortal(1, got)
    device.join(Receiver(0, got))
    device.join(mortal)

    assert sender.send(cast_of(data, 2)).missing == {1}
    device.leave(mortal)
    device.join(Receiver(1, got))
    assert not sender.send(replace(cast_of(data, 2), users=frozenset({1}), loss={}, rate_bit_s=1e9)).missing
    assert sorted((one.user, one.read() == data) for one in got.wait(2)) == [(0, True), (1, True)]


def test_foreign_datagrams_in_the_group_change_nothing(channels: Open) -> None:
    channel, got, data = channels(AirSettings()), Got(), some_bytes(50_000)
    channel.join(Receiver(0, got))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for length in (0, 1, 15, 16, 17, 1472, 9000):
            noise.sendto(b"\x11" * length, channel._target)
        assert not channel.send(cast_of(data, 1)).missing
    assert [one.read() == data for one in got.wait(1)] == [True]


def test_what_was_held_up_is_caught_up_with_but_not_more_than_the_credit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s, slept_s = 5.0, list[float]()

    class Sleepless(threading.Condition):
        """Waiting moves the clock and takes no time."""

        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now_s
            assert timeout is not None
            slept_s.append(timeout)
            now_s += timeout
            return False

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(pace, "threading", SimpleNamespace(Condition=Sleepless))
    pacer = Pacer(8e6, credit_bytes=50_000)  # a byte a microsecond
    now_s += 0.2
    pacer.wait(40_000)
    assert slept_s == []
    pacer.wait(110_000)
    assert sum(slept_s) == pytest.approx(0.1)


def test_what_the_kernel_can_do_is_said() -> None:
    assert {type(can_segment()), type(can_join())} == {bool}


def test_an_address_or_interface_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        MulticastChannel(1, group="nonsense")
    with pytest.raises(OSError, match="assign"):
        MulticastChannel(1, interface="203.0.113.77").send(cast_of(b"x", 1))
