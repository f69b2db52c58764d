"""What a store knows of a block, and the form in which a block travels between stores."""

from dataclasses import dataclass
from typing import Protocol

from pbstore.hashing import BlockId, Buffer

RAW = "raw"
"""Codec of a block whose payload is its raw bytes."""
ZSTD = "zstd"
"""Codec of text and other opaque bytes."""
CAST = "cast"
"""Codec of an exact cast of a base, plus a coded difference."""
RECAST = "recast"
"""Codec of a cast whose base needs blocks itself."""
FOLLOWERS = {CAST: 1, RECAST: 1, "derive1": 1, "derive2": 2, "derive3": 3}
"""Codecs whose bases may need blocks themselves, which then need nothing; and how many bases they have."""
MAX_BLOCK_BYTES = 1 << 30
"""No block is larger; a claim of more is refused before any memory is taken."""
PIECE_BYTES = 64 << 20
"""Tensors and files beyond this are cut, at a row where there are rows, so that memory stays bounded."""
LARGE_BYTES = 1 << 22
"""Memory of more is taken from the system, and given back to it, apart from the rest."""
PAGE_BYTES = 4096
"""Large raw payloads start, and large tensors are cut where rows allow it, at a multiple of this."""
MAX_NEEDS = 1024
"""No block needs more other blocks than this."""


class Described(Protocol):
    """What says which block a payload is of, and how it is encoded."""

    @property
    def block_id(self) -> BlockId:
        """The block."""

    @property
    def raw_bytes(self) -> int:
        """Bytes after decoding."""

    @property
    def codec(self) -> str:
        """How the payload is encoded."""

    @property
    def needs(self) -> tuple[BlockId, ...]:
        """All blocks that decoding reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """One stored block."""

    block_id: BlockId
    raw_bytes: int
    """Bytes after decoding."""
    stored_bytes: int
    """Bytes of the payload on the disk and on the wire."""
    codec: str
    needs: tuple[BlockId, ...] = ()
    """All blocks that decoding reads: delta bases, the parts of a recipe; each before its own needs."""

    @property
    def bases(self) -> tuple[BlockId, ...]:
        """Those of the needs whose raw bytes the codec takes."""
        return _bases(self.codec, self.needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block in its encoded form, as one store exports it and another imports it."""

    block_id: BlockId
    raw_bytes: int
    codec: str
    payload: Buffer
    needs: tuple[BlockId, ...] = ()

    @classmethod
    def of(cls, described: Described, payload: Buffer) -> "StoredBlock":
        """The block that is described, with its payload."""
        return cls(
            block_id=described.block_id,
            raw_bytes=described.raw_bytes,
            codec=described.codec,
            payload=payload,
            needs=described.needs,
        )

    @property
    def stored_bytes(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)

    @property
    def bases(self) -> tuple[BlockId, ...]:
        """Those of the needs whose raw bytes the codec takes."""
        return _bases(self.codec, self.needs)

    @property
    def info(self) -> BlockInfo:
        """The block without its payload."""
        return BlockInfo(
            block_id=self.block_id,
            raw_bytes=self.raw_bytes,
            stored_bytes=len(self.payload),
            codec=self.codec,
            needs=self.needs,
        )


def _bases(codec: str, needs: tuple[BlockId, ...]) -> tuple[BlockId, ...]:
    return needs[: FOLLOWERS.get(codec, len(needs))]
