"""Fetching blocks ahead of the one that is sent, so many bytes and blocks of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence

from pbstore.hashing import BlockId
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library.spans import Span

AHEAD_BYTES = 32 << 20
"""Raw bytes of blocks that are fetched ahead of the one that is sent."""
AHEAD_BLOCKS = 64
Get = Callable[[BlockId], Awaitable[Checked]]


class Ahead:
    """Blocks in the order in which they will be taken.

    Args:
        get: Fetches a block.
        wanted: Blocks that are not here, each once, with their raw bytes.
    """

    def __init__(self, get: Get, wanted: Iterable[tuple[BlockId, int]]) -> None:
        self._get, self._left = get, deque(wanted)
        self._coming: dict[BlockId, tuple[asyncio.Task[Checked], int]] = {}
        self._bytes = 0

    async def take(self, block_id: BlockId) -> Checked:
        """A block; those behind it begin to be fetched."""
        self._fill(block_id)
        if block_id not in self._coming:
            return await self._get(block_id)
        task, size = self._coming.pop(block_id)
        try:
            return await task
        finally:
            self._bytes -= size
            self._fill()

    def close(self) -> None:
        """Wait for nothing more."""
        self._left.clear()
        for task, _ in self._coming.values():
            task.add_done_callback(_seen)
            task.cancel()
        self._coming.clear()

    def _fill(self, wanted: BlockId | None = None) -> None:
        while self._left and (self._has_room() or self._left[0][0] == wanted):
            block_id, size = self._left.popleft()
            self._coming[block_id] = (asyncio.ensure_future(_await(self._get(block_id))), size)
            self._bytes += size

    def _has_room(self) -> bool:
        return self._bytes < AHEAD_BYTES and len(self._coming) < AHEAD_BLOCKS


async def _await(awaitable: Awaitable[Checked]) -> Checked:
    return await awaitable


def _seen(task: "asyncio.Task[Checked]") -> None:
    if not task.cancelled():
        task.exception()


def runs_by(spans: Sequence[Span], here: Collection[BlockId]) -> Iterator[list[Span]]:
    """Spans in runs of blocks that are all here, or all not."""
    run: list[Span] = []
    for span in spans:
        if run and (span.block_id in here) != (run[0].block_id in here):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def behind(spans: Sequence[Span], sent: int) -> Iterator[Span]:
    """What of some spans is left when so many bytes were sent."""
    for span in spans:
        length = span.stop - span.start
        if sent < length:
            yield Span(span.block_id, span.start + sent, span.stop)
        sent = max(0, sent - length)
