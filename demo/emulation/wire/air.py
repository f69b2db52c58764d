"""What is broadcast: units as one object with a head that says what they are; and what is in it."""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from demo.parts import CodedPart, Part
from pbstore import BlockId, BlockInfo, hash_block

_HEAD = struct.Struct("<4sI")
_MAGIC = b"PBA1"
_MOST_HEAD_BYTES = 4 << 20


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
