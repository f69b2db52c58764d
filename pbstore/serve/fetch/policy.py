"""What a node keeps of what it fetched, and what goes first: least recently used, or a policy's word."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Protocol

from pbstore.blocks import BlockInfo
from pbstore.hashing import BlockId

MOST_REMEMBERED = 1 << 16
"""Blocks that are not kept of which it is remembered when they were used."""


class CachePolicy(Protocol):
    """Decides about fetched blocks; called from one thread at a time.

    Blocks of models that are filed in the store, of requests in progress, and that others need stay, whatever
    it says.
    """

    def wants(self, info: BlockInfo) -> bool:
        """Whether a block that was just fetched is to be kept."""

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """Blocks that are kept were used, or came in, in this order."""

    def passed(self, block_id: BlockId) -> None:
        """A block was fetched, used, and is not kept: there is no room for it."""

    def first_to_go(self, coming: BlockId) -> Iterator[BlockId]:
        """Blocks that are to go, if need be, for one that was just fetched, the first first.

        If so much of them as it needs cannot go, none goes, and it is not kept.
        """

    def gone(self, block_id: BlockId) -> None:
        """A block is not kept any more."""


class LeastRecentlyUsed:
    """Lets go of what was used longest ago; but not for what was itself used longer ago than that, before.

    So a model that is larger than the room, or several that are read in turn, do not push out one another's
    blocks just before those are read again: what is kept of them stays, and the rest is fetched each time.
    What is new, or was used more lately, is kept as by any such cache.
    """

    def __init__(self) -> None:
        self._uses = 0
        self._kept: OrderedDict[BlockId, int] = OrderedDict()
        """When each block was last used, in uses; the longest ago first."""
        self._before: OrderedDict[BlockId, int] = OrderedDict()
        """The same of blocks that are not kept."""

    def wants(self, info: BlockInfo) -> bool:
        """See `CachePolicy`."""
        return True

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """See `CachePolicy`."""
        for block_id in block_ids:
            self._uses += 1
            self._before.pop(block_id, None)
            self._kept[block_id] = self._uses
            self._kept.move_to_end(block_id)

    def passed(self, block_id: BlockId) -> None:
        """See `CachePolicy`."""
        self._uses += 1
        self._remember(block_id, self._uses)

    def first_to_go(self, coming: BlockId) -> Iterator[BlockId]:
        """See `CachePolicy`."""
        before = self._before.get(coming, self._uses)
        return (block_id for block_id, used in tuple(self._kept.items()) if used <= before)

    def gone(self, block_id: BlockId) -> None:
        """See `CachePolicy`."""
        used = self._kept.pop(block_id, None)
        if used is not None:
            self._remember(block_id, used)

    def _remember(self, block_id: BlockId, used: int) -> None:
        self._before.pop(block_id, None)
        self._before[block_id] = used
        if len(self._before) > MOST_REMEMBERED:
            self._before.popitem(last=False)
