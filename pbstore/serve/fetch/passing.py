"""Blocks that only pass through a node: it has no room for them, but others come for them a moment later."""

from collections import OrderedDict

from pbstore.hashing import BlockId
from pbstore.serve.fetch.take import Checked

PASSING_BYTES = 64 << 20
"""Most memory for blocks that came and are not kept; the last one may be larger."""


class Passing:
    """The blocks that came last of those that are not kept: clients ask for one block in several ranges."""

    def __init__(self, most_bytes: int = PASSING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: OrderedDict[BlockId, Checked] = OrderedDict()
        self._bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all blocks that are held."""
        return self._bytes

    def get(self, block_id: BlockId) -> Checked | None:
        """A block, None if it is not held."""
        block = self._held.get(block_id)
        if block is not None:
            self._held.move_to_end(block_id)
        return block

    def put(self, block: Checked) -> None:
        """Hold a block, and let go of those that were used longest ago."""
        self._drop(block.stored.block_id)
        self._held[block.stored.block_id] = block
        self._bytes += _size_of(block)
        while self._bytes > self._most_bytes and len(self._held) > 1:
            self._drop(next(iter(self._held)))

    def _drop(self, block_id: BlockId) -> None:
        block = self._held.pop(block_id, None)
        self._bytes -= 0 if block is None else _size_of(block)


def _size_of(block: Checked) -> int:
    payload = block.stored.payload
    return len(block.raw) + (0 if payload is block.raw else len(payload))
