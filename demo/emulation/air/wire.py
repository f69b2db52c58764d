"""Datagrams of the air: 16 bytes of header, then a body; WIRE.md says the same in words.

Everything here is pure. Whatever comes in is hostile until it has passed `read_*`, which return None or
leave out what does not: nothing in a datagram makes anybody allocate, wait or fail.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

VERSION = 1
HEADER_BYTES = 16
FRAME_BYTES = 14 + 20 + 8
"""Ethernet, IPv4 and UDP headers of one datagram; the trailer and the gap are not counted."""
LEAST_FRAME_BYTES = 60
MAX_PIECE_BYTES = 4 << 20
MAX_SYMBOL_BYTES = 8192
MAX_PIECES = 2**16 - 1
MAX_NEEDS = 300
"""Pieces that one status names; more are named when these are repaired."""

HEADER = np.dtype(
    [("kind", "u1"), ("copy", "u1"), ("piece", ">u2"), ("cast", ">u4"), ("check", "<u4"), ("symbol", ">u4")]
)
_HEADER = struct.Struct(">BBHI4sI")
_OBJECT = struct.Struct(">QIHBB32s32s")
_USER = struct.Struct(">HH")
_STATUS = struct.Struct(">HBBI")
_NEED = struct.Struct(">HH")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_WORD, _HALF = np.dtype("<u8"), np.uint64(32)
_NO_HASH = bytes(32)


class Kind(IntEnum):
    """What a datagram is; the version of the format is in the upper half of the same byte."""

    SYMBOL = VERSION << 4 | 1
    ANNOUNCE = VERSION << 4 | 2
    POLL = VERSION << 4 | 3
    STATUS = VERSION << 4 | 4


class State(IntEnum):
    """What a receiver says of an object."""

    LACKS = 0
    DONE = 1
    REFUSED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What an announcement and a poll say of the object: its size, its cut, its hash and its users."""

    object_id: bytes
    """blake3 of the object, 32 bytes."""
    size_bytes: int
    piece_bytes: int
    """Size of every piece but the last."""
    symbol_bytes: int
    feedback: bool
    users: Mapping[int, int]
    """Loss that each addressed user inflicts on itself, in 1 / 65536."""

    @property
    def num_pieces(self) -> int:
        """Pieces of the object."""
        return -(-self.size_bytes // self.piece_bytes)

    def length(self, piece: int) -> int:
        """Bytes of a piece."""
        return min(self.piece_bytes, self.size_bytes - piece * self.piece_bytes)

    def num_symbols(self, piece: int) -> int:
        """K, the source symbols of a piece."""
        return -(-self.length(piece) // self.symbol_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """An announcement (of one piece, with its hash) or a poll (of all pieces below `piece`)."""

    kind: Kind
    cast: int
    piece: int
    must_answer: bool
    """Poll: also who lacks nothing answers."""
    number: int
    """Poll: which, from 1 upwards."""
    description: Description
    piece_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A receiver's answer."""

    cast: int
    user: int
    state: State
    number: int
    """The poll that it answers; 0: not asked."""
    since_last_us: int
    """Microseconds from the last datagram that was needed to this answer, if DONE."""
    needs: Mapping[int, int]
    """Symbols still missing, by piece."""


def frame_bytes(length: int) -> int:
    """Ethernet bytes of a datagram of so many bytes."""
    return max(LEAST_FRAME_BYTES, FRAME_BYTES + length)


def checks(rows: Bytes) -> NDArray[np.uint64]:
    """Check of each datagram, (rows,), out of rows padded with zeros to whole words.

    The sum of the little-endian 64-bit words, the check itself taken as 0, times an odd constant, upper half.
    """
    words = rows.view(_WORD)
    held = rows[:, 8:12].copy().view("<u4")[:, 0].astype(np.uint64)
    return np.asarray(((words.sum(axis=1) - held) * _MIX) >> _HALF)


def seal(rows: Bytes) -> None:
    """Write the check into each row, in place."""
    rows[:, 8:12] = checks(rows).astype("<u4").view(np.uint8).reshape(-1, 4)


def as_rows(data: bytes | memoryview, segment: int) -> Bytes:
    """Datagrams of `segment` bytes each (the last may be shorter), padded with zeros to rows of 8 n bytes."""
    width, count = -(-segment // 8) * 8, -(-len(data) // segment)
    flat = np.frombuffer(data, np.uint8)
    if width == segment and count * segment == len(data):
        return flat.reshape(count, segment)
    rows = np.zeros((count, width), np.uint8)
    whole = len(data) // segment
    rows[:whole, :segment] = flat[: whole * segment].reshape(whole, segment)
    if whole < count:
        rows[whole, : len(data) - whole * segment] = flat[whole * segment :]
    return rows


def headers(rows: Bytes) -> NDArray[Any]:
    """Header of each row, (rows,) of `HEADER`."""
    return np.ascontiguousarray(rows[:, :HEADER_BYTES]).view(HEADER)[:, 0]


def symbol_head(cast: int, piece: int, copy: int) -> Bytes:
    """The header of a symbol up to its number, (12,), not yet sealed."""
    return np.frombuffer(_HEADER.pack(Kind.SYMBOL, copy, piece, cast, b"\0" * 4, 0)[:12], np.uint8)


def numbers(start: int, stop: int) -> Bytes:
    """Symbol numbers as they stand in headers, (stop - start, 4)."""
    return np.arange(start, stop, dtype=">u4").view(np.uint8).reshape(-1, 4)


def announcement(
    kind: Kind,
    cast: int,
    piece: int,
    number: int,
    description: Description,
    piece_hash: bytes | None = None,
    *,
    must_answer: bool = False,
) -> bytes:
    """An announcement of a piece or a poll."""
    one = description
    body = _OBJECT.pack(
        one.size_bytes,
        one.piece_bytes,
        one.symbol_bytes,
        one.feedback,
        len(one.users) - 1,
        one.object_id,
        piece_hash or _NO_HASH,
    )
    users = b"".join(_USER.pack(*item) for item in sorted(one.users.items()))
    return _sealed(_HEADER.pack(kind, must_answer, piece, cast, b"\0" * 4, number) + body + users)


def status(answer: Status) -> bytes:
    """A status; at most `MAX_NEEDS` pieces, the first ones."""
    needs = sorted(answer.needs.items())[:MAX_NEEDS]
    head = _HEADER.pack(Kind.STATUS, 0, len(needs), answer.cast, b"\0" * 4, answer.number)
    body = _STATUS.pack(answer.user, answer.state, 0, min(answer.since_last_us, 2**32 - 1))
    return _sealed(head + body + b"".join(_NEED.pack(*need) for need in needs))


def read_announcement(data: bytes) -> Announcement | None:
    """What an announcement or a poll says, or None if anything in it cannot be."""
    if len(data) < HEADER_BYTES + _OBJECT.size or not _intact(data):
        return None
    kind, must_answer, piece, cast, _, number = _HEADER.unpack_from(data)
    size, piece_bytes, symbol_bytes, feedback, last_user, object_id, piece_hash = _OBJECT.unpack_from(
        data, HEADER_BYTES
    )
    users = data[HEADER_BYTES + _OBJECT.size :]
    if len(users) != (last_user + 1) * _USER.size or kind not in (Kind.ANNOUNCE, Kind.POLL):
        return None
    if not (size and _can_be(piece_bytes, symbol_bytes) and -(-size // piece_bytes) <= MAX_PIECES):
        return None
    what = Description(
        object_id=object_id,
        size_bytes=size,
        piece_bytes=piece_bytes,
        symbol_bytes=symbol_bytes,
        feedback=bool(feedback),
        users=dict(_USER.iter_unpack(users)),
    )
    if piece > what.num_pieces - (kind == Kind.ANNOUNCE):
        return None
    return Announcement(
        kind=Kind(kind),
        cast=cast,
        piece=piece,
        must_answer=bool(must_answer),
        number=number,
        description=what,
        piece_hash=None if piece_hash == _NO_HASH else piece_hash,
    )


def read_status(data: bytes) -> Status | None:
    """What a status says, or None if anything in it cannot be."""
    if len(data) < HEADER_BYTES + _STATUS.size or not _intact(data):
        return None
    kind, _, count, cast, _, number = _HEADER.unpack_from(data)
    user, state, _, since_last_us = _STATUS.unpack_from(data, HEADER_BYTES)
    needs = data[HEADER_BYTES + _STATUS.size :]
    if kind != Kind.STATUS or state > State.REFUSED or len(needs) != count * _NEED.size or count > MAX_NEEDS:
        return None
    return Status(
        cast=cast,
        user=user,
        state=State(state),
        number=number,
        since_last_us=since_last_us,
        needs=dict(_NEED.iter_unpack(needs)),
    )


def cast_of(data: bytes) -> int | None:
    """Which broadcast a datagram says that it belongs to."""
    return int.from_bytes(data[4:8], "big") if len(data) >= HEADER_BYTES else None


def _can_be(piece_bytes: int, symbol_bytes: int) -> bool:
    fits = 8 <= symbol_bytes <= MAX_SYMBOL_BYTES and symbol_bytes % 8 == 0
    return fits and 0 < piece_bytes <= MAX_PIECE_BYTES and -(-piece_bytes // symbol_bytes) <= 2**15


def _sealed(data: bytes) -> bytes:
    rows = as_rows(data, len(data)).copy()
    seal(rows)
    return rows[0, : len(data)].tobytes()


def _intact(data: bytes) -> bool:
    check = int.from_bytes(data[8:12], "little")
    return int(checks(as_rows(data, len(data)))[0]) == check


def split(data: bytes | memoryview, segment: int) -> list[bytes]:
    """The datagrams that one sending of segments makes."""
    return [bytes(data[start : start + segment]) for start in range(0, len(data), segment)]
