"""Asking sources which blocks they have, where that is not known; each question once for all who wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pbstore.hashing import BlockId
from pbstore.serve.fetch.lanes import Lane
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.library.flights import Flights
from pbstore.serve.meter import Meter

SCOUT_S = 5.0
"""How long a source may take to say which blocks it has, s."""


class Scouts:
    """Asks some sources.

    Args:
        lanes: The sources, each in the ways in which it may be asked.
        me: Id of this node.
        meter: Counts.
        start: Starts what nobody waits for.
        failed: Notes that a source did not answer.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        me: str,
        meter: Meter,
        start: Callable[[Awaitable[None]], None],
        failed: Callable[[Lane, Exception], None],
    ) -> None:
        self._lanes, self._me, self._meter = lanes, me, meter
        self._start, self._failed = start, failed
        self._asking: Flights[tuple[int, tuple[BlockId, ...]], None] = Flights()

    async def scout(self, block_ids: Iterable[BlockId]) -> None:
        """Ask all sources which of some blocks they have, where that is not known.

        Sources that failed lately are asked, too, but waited for only where there is no other.
        """
        ids = tuple(block_ids)
        lanes = [lane for lane in self._lanes if not lane.asks_blindly and lane.speed.is_open]
        healthy = [lane for lane in lanes if not lane.speed.failures] or lanes
        for lane in lanes:
            if lane not in healthy:
                self._start(self._scout(lane, ids))
        await asyncio.gather(*(self._scout(lane, ids) for lane in healthy))

    async def _scout(self, lane: Lane, block_ids: tuple[BlockId, ...]) -> None:
        if unknown := tuple(lane.holdings.unknown(block_ids)):
            await self._asking.join((id(lane), unknown), lambda: self._ask(lane, unknown))

    async def _ask(self, lane: Lane, block_ids: tuple[BlockId, ...]) -> None:
        start = time.monotonic()
        try:
            async with asyncio.timeout(SCOUT_S):
                found = await lane.on_behalf((self._me,)).infos(block_ids)
        except (SourceError, TimeoutError) as error:
            self._failed(lane, error)
        else:
            lane.speed.note_latency(time.monotonic() - start)
            lane.speed.note(0, 0.0)
            lane.holdings.note(block_ids, found)
            self._meter.peer_up(lane.name, True)
