"""Datagrams: what is written is read back; what nobody wrote is ignored and costs nothing."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.emulation.air import BytesPayload, Heard, MemoryChannel, Receiver, loss_of_margin
from demo.emulation.air.coding import Coder, decode, enough
from demo.emulation.air.loss import key_of, lost
from demo.emulation.air.wire import (
    Description,
    Kind,
    State,
    Status,
    announcement,
    as_rows,
    checks,
    read_announcement,
    read_status,
    seal,
    status,
)
from tests.demo.emulation.air.laws import SMALL, cast_of, some_bytes

WHAT = Description(
    object_id=bytes(range(32)),
    size_bytes=10**12,
    piece_bytes=4 << 20,
    symbol_bytes=1456,
    feedback=True,
    users={0: 0, 7: 3277, 65535: 65535},
)
small = st.integers(0, 2**16 - 1)


@given(cast=st.integers(0, 2**32 - 1), piece=st.integers(0, 9), number=st.integers(0, 2**32 - 1))
def test_an_announcement_is_read_back_and_no_damaged_one_is(cast: int, piece: int, number: int) -> None:
    data = announcement(Kind.ANNOUNCE, cast, piece, number, WHAT, bytes(range(32)))
    told = read_announcement(data)

    assert told is None if WHAT.num_pieces > 2**16 - 1 else told is not None
    for bit in range(0, 8 * len(data), 37):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert read_announcement(bytes(damaged)) is None
    assert all(read_announcement(data[:cut]) is None for cut in range(len(data)))


@given(
    user=small, state=st.sampled_from(State), number=small, needs=st.dictionaries(small, small, max_size=20)
)
def test_a_status_is_read_back(user: int, state: State, number: int, needs: dict[int, int]) -> None:
    answer = Status(cast=5, user=user, state=state, number=number, since_last_us=8, needs=needs)
    data = status(answer)

    assert read_status(data) == answer
    assert all(read_status(data[:cut]) is None for cut in range(len(data)))


@given(
    size=st.integers(1, 2**64 - 1),
    piece_bytes=st.integers(0, 2**32 - 1),
    symbol_bytes=small,
    piece=small,
)
def test_no_size_in_an_announcement_is_believed(
    size: int, piece_bytes: int, symbol_bytes: int, piece: int
) -> None:
    what = Description(
        object_id=bytes(32),
        size_bytes=size,
        piece_bytes=piece_bytes,
        symbol_bytes=symbol_bytes,
        feedback=True,
        users={0: 0},
    )
    receiver = Receiver(0, Heard.read)
    tracemalloc.start()
    for kind in (Kind.ANNOUNCE, Kind.POLL):
        data = announcement(kind, 1, piece, 1, what, bytes(32))
        receiver.hear(data, len(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000


@given(data=st.binary(max_size=400), segment=st.integers(0, 500), sealed=st.booleans())
@settings(max_examples=300)
def test_hostile_datagrams_are_ignored(data: bytes, segment: int, *, sealed: bool) -> None:
    got: list[Heard] = []
    receiver = Receiver(0, got.append)
    if sealed and len(data) >= 16:
        rows = as_rows(bytes([Kind.SYMBOL + len(data) % 4]) + data[1:], len(data)).copy()
        seal(rows)
        data, segment = rows[0].tobytes(), rows.shape[1]

    receiver.hear(data, segment)

    assert not got


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 200))
@settings(max_examples=10, deadline=None)
def test_forged_symbols_with_right_checks_are_never_delivered(seed: int, flips: int) -> None:
    """A forger who knows the format can cost time, but no wrong object is handed on."""
    rng, data = np.random.default_rng(seed), some_bytes(9000, seed)
    got: list[Heard] = []

    def forge(_user: int, datagrams: list[bytes]) -> list[bytes]:
        forged = []
        for one in datagrams:
            rows = as_rows(one, len(one)).copy()
            rows[0, int(rng.integers(16, len(one)))] ^= 1
            seal(rows)
            forged.append(rows[0, : len(one)].tobytes() if rng.random() < flips / 400 else one)
        return forged

    channel = MemoryChannel(SMALL, forge)
    channel.join(Receiver(0, got.append))
    channel.send(cast_of(data, 1))

    assert all(heard.data == data for heard in got)


def test_every_single_flipped_bit_changes_the_check() -> None:
    data = some_bytes(64)
    rows = as_rows(data, 64).copy()
    seal(rows)
    for bit in range(64 * 8):
        other = rows.copy()
        other[0, bit // 8] ^= 1 << bit % 8
        assert checks(other)[0] != int.from_bytes(other[0, 8:12].tobytes(), "little")


@given(length=st.integers(1, 5000), seed=st.integers(0, 99), first=st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_a_piece_comes_back_out_of_any_symbols_that_are_enough(length: int, seed: int, first: int) -> None:
    data, width = some_bytes(length, seed), 64
    count = -(-length // width)
    packets = Coder(data, width).symbols(count + first, 2 * count + first + 3)

    rows = np.frombuffer(b"".join(packets), np.uint8).reshape(-1, 4 + width)
    assert decode(length, rows) == data
    assert count == 1 or decode(length, rows[: count - 1]) is None


@given(need=st.integers(1, 5000), loss=st.floats(0, 0.95), sigmas=st.floats(0, 6))
def test_enough_symbols_are_enough_at_so_many_deviations(need: int, loss: float, sigmas: float) -> None:
    sent = enough(need, loss, sigmas)

    def left(count: int) -> float:
        return float(count * (1 - loss) - sigmas * np.sqrt(count * loss * (1 - loss)))

    assert left(sent) >= need - 1e-3
    assert left(sent - 1) < need


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_losses_have_the_share_that_was_asked_for_and_hang_on_nothing_but_the_key(share: float) -> None:
    names = np.stack([np.full(40_000, 77, np.uint64), np.arange(40_000, dtype=np.uint64)], axis=1)
    gone = lost(key_of(1, 2), round(share * 65536), names)

    assert abs(gone.mean() - share) < 0.01
    assert (lost(key_of(1, 2), round(share * 65536), names[::-1]) == gone[::-1]).all()
    assert not share or (lost(key_of(1, 3), round(share * 65536), names) != gone).any()


@given(low=st.floats(-30, 30), more=st.floats(0, 30))
def test_more_margin_never_loses_more(low: float, more: float) -> None:
    assert 0 <= loss_of_margin(low + more) <= loss_of_margin(low) <= 0.99


def test_a_payload_has_bytes() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        BytesPayload(b"")
