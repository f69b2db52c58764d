"""What a node keeps of what it fetched, and what goes first: least recently used, or a policy's word."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol

from pbstore.blocks import BlockInfo
from pbstore.hashing import BlockId


class CachePolicy(Protocol):
    """Decides about fetched blocks; called from one thread at a time.

    Blocks of models that are filed in the store, of requests in progress, and that others need stay, whatever
    it says.
    """

    def wants(self, info: BlockInfo) -> bool:
        """Whether a block that was just fetched is to be kept."""

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """Blocks were used, or came in, in this order."""

    def first_to_go(self) -> Iterator[BlockId]:
        """Blocks in the order in which they are to go; only those of them that are kept are looked at."""

    def gone(self, block_id: BlockId) -> None:
        """A block is not kept any more."""


class LeastRecentlyUsed:
    """Keeps everything, and lets go of what was used longest ago."""

    def __init__(self) -> None:
        self._order: OrderedDict[BlockId, None] = OrderedDict()

    def wants(self, info: BlockInfo) -> bool:
        """See `CachePolicy`."""
        return True

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """See `CachePolicy`."""
        for block_id in block_ids:
            self._order[block_id] = None
            self._order.move_to_end(block_id)

    def first_to_go(self) -> Iterator[BlockId]:
        """See `CachePolicy`."""
        return iter(tuple(self._order))

    def gone(self, block_id: BlockId) -> None:
        """See `CachePolicy`."""
        self._order.pop(block_id, None)
