"""What a node has already, as fetching needs it: which blocks, their raw bytes, threads to decode in."""

from collections.abc import Collection, Sequence

from pbstore.blocks import StoredBlock
from pbstore.errors import BlockMissingError, IntegrityError
from pbstore.hashing import BlockId, Buffer
from pbstore.serve.fetch import take
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library import StoreLibrary
from pbstore.serve.library.decoded import DecodedBlocks

BASES_BYTES = 128 << 20
"""Most memory for raw bytes of bases that are kept between differences."""


class Here:
    """A node's own blocks."""

    def __init__(self, library: StoreLibrary) -> None:
        self.library = library
        self._bases = DecodedBlocks(BASES_BYTES)

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """Those of some blocks that are here."""
        return await self.library.has(block_ids)

    async def load(self, block_id: BlockId) -> Checked | None:
        """A block that is here; None if it is not any more, or is damaged."""
        return await self.library.call(self._load, block_id)

    async def raw(self, block_id: BlockId) -> Buffer | None:
        """A block's raw bytes; None if it is not here."""
        return self._bases.get(block_id) or await self.library.call(self._raw, block_id)

    async def check(self, stored: StoredBlock, bases: Sequence[Buffer]) -> Checked:
        """Decode a block that came from elsewhere.

        Raises:
            BlockCorruptError: If it does not decode to its id.
        """
        known = dict(zip(stored.bases, bases, strict=True))
        return await self.library.call(take.checked, stored, known.__getitem__)

    def _load(self, block_id: BlockId) -> Checked | None:
        try:
            stored = self.library.store.export_block(block_id)
            return Checked(stored, self.library.store.get(block_id))
        except (BlockMissingError, IntegrityError):
            return None

    def _raw(self, block_id: BlockId) -> Buffer | None:
        try:
            raw = self.library.store.get(block_id)
        except (BlockMissingError, IntegrityError):
            return None
        self._bases.put(block_id, raw)
        return raw
