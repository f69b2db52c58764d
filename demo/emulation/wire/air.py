"""What is broadcast: units as one object with a head that says what they are; and what carries it."""

import json
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from demo.parts import CodedPart, Part
from pbstore import BlockId, BlockInfo, hash_block

_HEAD = struct.Struct("<4sI")
_MAGIC = b"PBA1"
_MOST_HEAD_BYTES = 4 << 20
SYMBOL_BYTES = 1400
"""Payload of one datagram."""
PACKET_OVERHEAD_BYTES = 8 + 20 + 18 + 20
"""UDP, IP, Ethernet with its checksum, preamble and gap."""


class AirError(ValueError):
    """Bytes from the air are no object of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AirObject:
    """Coded parts that are sent in one go."""

    parts: tuple[CodedPart, ...]

    @property
    def payload_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(len(part.payload) for part in self.parts)

    def encode(self) -> bytes:
        """The object as it is sent."""
        rows = [
            {**part_row(one.part), "info": asdict(one.info), "bytes": len(one.payload)} for one in self.parts
        ]
        head = json.dumps(rows, separators=(",", ":")).encode()
        return b"".join([_HEAD.pack(_MAGIC, len(head)), head, *(one.payload for one in self.parts)])

    @classmethod
    def decode(cls, data: bytes) -> "AirObject":
        """Read what `encode` made; what a length says is not believed.

        Raises:
            AirError: If it is something else.
        """
        try:
            magic, length = _HEAD.unpack_from(data)
            if magic != _MAGIC or length > min(_MOST_HEAD_BYTES, len(data) - _HEAD.size):
                raise AirError("bytes from the air have no head of ours")
            at = _HEAD.size + length
            parts = []
            for row in json.loads(data[_HEAD.size : at]):
                end = at + int(row["bytes"])
                if not at <= end <= len(data):
                    raise AirError("an object from the air is shorter than it says")
                parts.append(CodedPart(part=part_of(row), info=info_of(row["info"]), payload=data[at:end]))
                at = end
        except (struct.error, KeyError, TypeError, ValueError) as error:
            raise AirError(f"bytes from the air are no object of ours: {error}") from None
        return cls(parts=tuple(parts))

    @staticmethod
    def hash_of(data: bytes) -> str:
        """Hash of all that is sent: holders that would send the same bytes have the same."""
        return hash_block(data)


def part_row(part: Part) -> dict[str, Any]:
    """A part as plain values."""
    return {"block": part.block_id, "index": part.index, "count": part.count}


def part_of(row: Mapping[str, Any]) -> Part:
    """A part out of plain values.

    Raises:
        ValueError: If there is no such part.
    """
    index, count = int(row["index"]), int(row["count"])
    if not 0 <= index < count:
        raise ValueError(f"a part must be one of its count, got {index} of {count}")
    return Part(BlockId(str(row["block"])), index, count)


def info_of(row: Mapping[str, Any]) -> BlockInfo:
    """A block's description out of plain values."""
    return BlockInfo(
        block_id=BlockId(str(row["block_id"])),
        raw_bytes=int(row["raw_bytes"]),
        stored_bytes=int(row["stored_bytes"]),
        codec=str(row["codec"]),
        needs=tuple(BlockId(str(one)) for one in row["needs"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One object on the air."""

    wire_bytes: int
    """Bytes of all datagrams with all headers."""
    repair_bytes: int
    """Those of them beyond the first pass."""
    missed: tuple[int, ...]
    """Users whom it did not reach."""


class Channel(Protocol):
    """The band: one object goes to many users at once."""

    def send(self, data: bytes, users: Sequence[int], rate_bit_s: float) -> Sent:
        """Send an object; returns when all have it or nothing more is tried.

        Args:
            data: The object.
            users: Who is to receive it.
            rate_bit_s: Rate at which it may go; 0: as fast as it goes.
        """


class MemoryChannel:
    """A channel within one process: packets are lost as on a real one, and sent again until all are there.

    Args:
        loss: Share of packets that each receiver loses.
        seed: Of the losses.
    """

    def __init__(self, loss: float = 0.0, seed: int = 0) -> None:
        if not 0 <= loss < 1:
            raise ValueError(f"loss must be in [0, 1), got {loss}")
        self._loss, self._rng = loss, np.random.default_rng([seed, 7])
        self._ears: dict[int, Callable[[bytes], None]] = {}
        self._mutex = threading.Lock()

    def listen(self, user: int, hear: Callable[[bytes], None]) -> None:
        """Let a user hear what is sent to it."""
        self._ears[user] = hear

    def leave(self, user: int) -> None:
        """Let a user hear nothing more."""
        self._ears.pop(user, None)

    def send(self, data: bytes, users: Sequence[int], rate_bit_s: float) -> Sent:
        """See `Channel`."""
        there = [user for user in users if user in self._ears]
        packets = -(-len(data) // SYMBOL_BYTES)
        with self._mutex:
            lost = self._rng.binomial(packets, self._loss, size=len(there)) if self._loss else [0]
        repair = round(max(map(int, lost), default=0) / (1 - self._loss)) if there else 0
        for user in there:
            self._ears[user](data)
        return Sent(
            wire_bytes=len(data) + packets * PACKET_OVERHEAD_BYTES + repair * _PACKET_BYTES,
            repair_bytes=repair * _PACKET_BYTES,
            missed=tuple(user for user in users if user not in there),
        )


_PACKET_BYTES = SYMBOL_BYTES + PACKET_OVERHEAD_BYTES
