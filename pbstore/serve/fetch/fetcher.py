"""Getting blocks that are not here: once for all who wait, from the fastest source, past those that fail.

Who wants a block waits for one future of it, however many want it. Blocks that are wanted at the same time
go to their sources in batches. Whatever comes is decoded and hashed before anybody gets it; a source that
gave a wrong block is named and left alone, and another one is asked.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing

from pbstore.blocks import StoredBlock
from pbstore.errors import BlockCorruptError, BlockMissingError, PBStoreError
from pbstore.hashing import BlockId, Buffer
from pbstore.serve.fetch.choosing import Forms
from pbstore.serve.fetch.here import Here
from pbstore.serve.fetch.jobs import Job, batches_of
from pbstore.serve.fetch.keeper import Keeper
from pbstore.serve.fetch.lanes import NEVER_AGAIN, Lane, next_home, next_lane
from pbstore.serve.fetch.passing import Passing
from pbstore.serve.fetch.scouting import Scouts
from pbstore.serve.fetch.source import CutShortError, GivesRaw, SourceError
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library.flights import Flights
from pbstore.serve.meter import Meter

HEDGE_LEAST_S = 1.0
HEDGE_FACTOR = 4.0
"""A block that takes so many times as long as expected is asked for elsewhere, too."""
PAUSE_S = 0.1
"""Before the same source is asked again, s; twice as long each time."""
GetUpstream = Callable[..., Awaitable[Checked]]
"""`Fetcher.get`."""
log = logging.getLogger(__name__)


class Fetcher:
    """Gets blocks from some sources.

    Args:
        here: What this node has.
        keeper: Keeps what comes.
        meter: Counts.
        lanes: The sources, each in the ways in which it may be asked.
        me: Id of this node.
        upstream: Gets a block past all peers; None if there is no upstream.
        forms: Decides what is asked for raw; None if nothing is.
        passing: Blocks that came and are not kept, for all fetchers of a node.
    """

    def __init__(
        self,
        here: Here,
        keeper: Keeper,
        meter: Meter,
        lanes: Sequence[Lane],
        *,
        me: str = "",
        upstream: GetUpstream | None = None,
        forms: Forms | None = None,
        passing: Passing | None = None,
    ) -> None:
        self._here, self._keeper, self._meter = here, keeper, meter
        self._lanes, self._me, self._upstream = lanes, me, upstream
        self._forms, self._passing = forms, passing or Passing()
        self.get_base: Callable[[BlockId], Awaitable[Checked]] = self.get_coded
        """Gets what a block needs. Those are never more than two steps deep, so waiting for them ends."""
        self._flights: Flights[BlockId, Checked] = Flights()
        self.scout = Scouts(lanes, me, meter, self._start, self._failed).scout
        self._recent: dict[BlockId, Checked] = {}
        """Blocks that are here and on their way to the disk."""
        self._waiting: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_scheduled = False

    async def get(self, block_id: BlockId, via: tuple[str, ...] = (), *, coded: bool = False) -> Checked:
        """A block that is not here, or was not a moment ago.

        Args:
            block_id: The block.
            via: Nodes that ask for it through this one.
            coded: Whether it is wanted as others store it, even where raw it is less to fetch.

        Raises:
            BlockMissingError: If no source has it.
            SourceError: If no source that may have it can be reached.
        """
        if (block := self.at_hand(block_id)) is not None:
            return block
        return await self._flights.join(block_id, lambda: self._fetch(block_id, via, coded))

    async def get_coded(self, block_id: BlockId) -> Checked:
        """`get`, as others store it."""
        return await self.get(block_id, coded=True)

    def at_hand(self, block_id: BlockId) -> Checked | None:
        """A block that came a moment ago."""
        return self._recent.get(block_id) or self._passing.get(block_id)

    def is_coming(self, block_id: BlockId) -> bool:
        """Whether a block is on its way."""
        return block_id in self._recent or self._flights.is_going(block_id)

    async def close(self) -> None:
        """End what is going on."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fetch(self, block_id: BlockId, via: tuple[str, ...], coded: bool) -> Checked:
        job = Job(block_id, asyncio.get_running_loop().create_future(), via, coded)
        self._enqueue(job)
        try:
            return await job.done
        finally:
            job.done.cancel()
            for helper in job.helpers:
                helper.cancel()

    def _enqueue(self, job: Job) -> None:
        """Let a job go out with those that come at the same time."""
        self._waiting.append(job)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(lambda: self._start(self._dispatch()))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dispatch(self) -> None:
        """Send all waiting jobs on their ways."""
        self._is_scheduled = False
        jobs, self._waiting = [job for job in self._waiting if not job.done.done()], []
        try:
            await self._send(jobs)
        except Exception as error:
            for job in jobs:
                job.fail(error)
            raise

    async def _send(self, jobs: list[Job]) -> None:
        ids = [job.block_id for job in jobs]
        infos = [lane.holdings.has(block_id) for lane in self._lanes for block_id in ids]
        needs = {need for info in infos if info is not None for need in info.needs}
        here = await self._here.has({*ids, *needs})
        going: dict[Lane, list[tuple[Job, int]]] = {}
        for job in jobs:
            if job.block_id in here and (block := await self._here.load(job.block_id)) is not None:
                job.give(block)
                continue
            lane = self._lane_for(job, here)
            if lane is not None:
                going.setdefault(lane, []).append((job, lane.reserve(job.block_id)))
            elif self._upstream is None or job.asked_upstream:
                self._meter.block_requests("missing")
                job.fail(job.error or BlockMissingError(job.block_id))
            else:
                self._start(self._go_upstream(job))
        for lane, some in going.items():
            self._start(self._go(lane, some, here))

    async def _go(self, lane: Lane, jobs: list[tuple[Job, int]], here: Collection[BlockId]) -> None:
        """Ask one source for some blocks, each in the form that is the cheapest."""
        try:
            if self._forms is not None:
                await self._forms.choose(lane, [job for job, _ in jobs], here)
        except Exception as error:
            for job, _ in jobs:
                job.fail(error)
            lane.speed.waiting_bytes -= sum(reserved for _, reserved in jobs)
            raise
        for raw in (False, True):
            some = [one for one in jobs if one[0].as_raw is raw]
            for job, _ in some:
                self._help(job, lane, here)
            for batch in batches_of(some):
                self._start(self._run(lane, batch, raw=raw))

    def _lane_for(self, job: Job, here: Collection[BlockId]) -> Lane | None:
        """The lane for a job; None for upstream, or if there is none."""
        lane = next_lane(job.block_id, self._lanes, job.tries, here)
        if lane is None:
            has_upstream = self._upstream is not None and not job.asked_upstream
            lane = next_home(job.block_id, self._lanes, job.tries, self._me, has_upstream)
        if lane is None and self._upstream is None:  # a source that nobody stands behind may still have it
            blind = [one for one in self._lanes if one.asks_blindly and not one.node_id]
            is_open = [one for one in blind if one.speed.is_open]
            lane = next(iter(job.tries.fewest(is_open) or job.tries.fewest(blind)), None)
        return lane

    def _help(self, job: Job, lane: Lane | None, here: Collection[BlockId]) -> None:
        """Fetch what a block needs and is not here beside it."""
        info = None if lane is None else lane.holdings.has(job.block_id)
        if info is not None and not job.as_raw and not job.helpers:
            missing = [need for need in info.needs if need not in here]
            job.helpers = [asyncio.ensure_future(_await(self.get_base(need))) for need in missing]
            for helper in job.helpers:
                helper.add_done_callback(_seen)

    async def _go_upstream(self, job: Job) -> None:
        job.asked_upstream = True
        if self._upstream is None or job.done.done():
            return
        getting = asyncio.ensure_future(_await(self._upstream(job.block_id, job.via, coded=job.coded)))
        job.helpers.append(getting)
        try:
            job.give(await getting)
        except PBStoreError as error:
            self._again(job, error)

    async def _run(self, lane: Lane, jobs: list[tuple[Job, int]], *, raw: bool) -> None:
        """Ask one source for some blocks; what does not come is asked for elsewhere."""
        left = {job.block_id: job for job, _ in jobs if not job.done.done()}
        try:
            async with lane.slots:
                await self._receive(lane, left, raw=raw)
        except BlockCorruptError as error:
            self._blame(lane, error)
            self._all_again(lane, left, error)
        except CutShortError as error:
            self._failed(lane, error)
            for job in left.values():
                if error.partial is not None and error.partial.head.block_id == job.block_id:
                    job.partial = error.partial
            self._all_again(lane, left, error)
        except SourceError as error:
            self._failed(lane, error)
            self._all_again(lane, left, error)
        except Exception as error:
            for job in left.values():
                job.fail(error)
            raise
        else:
            self._not_given(lane, left.values(), raw=raw)
        finally:
            lane.speed.waiting_bytes -= sum(reserved for _, reserved in jobs)

    def _not_given(self, lane: Lane, jobs: Iterable[Job], *, raw: bool) -> None:
        """A source has answered without these."""
        for job in jobs:
            if raw and not job.no_raw:
                job.no_raw = True  # it may have it in its own form only
            else:
                lane.holdings.forget(job.block_id)
                job.tries.note(lane, NEVER_AGAIN)
            self._again(job, job.error or BlockMissingError(job.block_id))

    async def _receive(self, lane: Lane, left: dict[BlockId, Job], *, raw: bool) -> None:
        """Take blocks as they come; those that came are taken out of `left`."""
        wanted = tuple(left)
        partial = next((job.partial for job in left.values() if job.partial is not None), None)
        since = time.monotonic()
        via = dict.fromkeys(one for job in left.values() for one in job.via)
        source = lane.on_behalf((*via, self._me))
        give = source.raw_blocks if raw and isinstance(source, GivesRaw) else source.blocks
        async with aclosing(give(wanted, partial)) as stream:
            while left:
                getting = asyncio.ensure_future(_next(stream))
                stored = await self._patiently(lane, left, getting)
                if stored is None:
                    break
                now = time.monotonic()
                lane.speed.note(stored.stored_bytes, now - since)
                since = now
                if (job := left.pop(stored.block_id, None)) is not None:
                    self._start(self._take(lane, job, stored))
                if all(job.done.done() for job in left.values()):
                    left.clear()

    async def _patiently(
        self, lane: Lane, left: dict[BlockId, Job], getting: "asyncio.Task[StoredBlock | None]"
    ) -> StoredBlock | None:
        """The next block; if it takes too long, what is left is asked for elsewhere, too."""
        try:
            expected = lane.expected_bytes(*_form_of(next(iter(left.values())))) / lane.speed.rate_bytes_s
            hedge_s = max(HEDGE_LEAST_S, HEDGE_FACTOR * (expected + lane.speed.latency_s))
            hedged = False
            while not (await asyncio.wait([getting], timeout=hedge_s))[0]:
                if all(job.done.done() for job in left.values()):  # come from elsewhere, or nobody waits
                    left.clear()
                    return None
                if not hedged:
                    self._hedge(lane, left.values())
                    hedged = True
            return await getting
        finally:
            if not getting.done():
                getting.cancel()
                await asyncio.wait([getting])

    def _hedge(self, lane: Lane, jobs: Iterable[Job]) -> None:
        """Ask other holders, too, for what one of them is slow with."""
        for job in jobs:
            job.tries.note(lane)
            other = next_lane(job.block_id, self._lanes, job.tries, ())
            if other is not None and other is not lane and not job.done.done():
                self._start(self._run(other, [(job, other.reserve(job.block_id))], raw=job.as_raw))

    async def _take(self, lane: Lane, job: Job, stored: StoredBlock) -> None:
        """Check a block that came, give it to those who wait, and keep it."""
        if job.done.done():
            return
        try:
            block = await self._checked(lane, stored)
        except PBStoreError as error:
            job.tries.note(lane, NEVER_AGAIN)
            self._again(job, error)
            return
        except Exception as error:
            job.fail(error)
            raise
        self._meter.fetched_bytes(lane.kind, stored.stored_bytes)
        self._meter.block_requests(lane.kind)
        self._meter.peer_up(lane.name, True)
        self._recent[job.block_id] = block
        job.give(block)
        try:
            if not await self._keeper.keep(block):
                self._passing.put(block)
        finally:
            self._recent.pop(job.block_id, None)

    async def _checked(self, lane: Lane, stored: StoredBlock) -> Checked:
        bases = [await self._base(base) for base in stored.bases]
        try:
            return await self._here.check(stored, bases)
        except BlockCorruptError as error:
            self._blame(lane, error)
            raise

    async def _base(self, block_id: BlockId) -> Buffer:
        raw = await self._here.raw(block_id)
        return (await self.get_base(block_id)).raw if raw is None else raw

    def _all_again(self, lane: Lane, left: dict[BlockId, Job], error: Exception) -> None:
        for job in left.values():
            job.tries.note(lane)
            self._again(job, error)

    def _again(self, job: Job, error: Exception) -> None:
        """Look for another way for a job, after a short while if it was tried before."""
        job.error = error
        if job.done.done():
            return
        tries = max(job.tries.count.values(), default=0)
        pause = (
            PAUSE_S * 2 ** (tries - 1) if 0 < tries < NEVER_AGAIN and isinstance(error, SourceError) else 0
        )
        asyncio.get_running_loop().call_later(pause, self._enqueue, job)

    def _failed(self, lane: Lane, error: Exception) -> None:
        lane.speed.note_failure(late=isinstance(error, TimeoutError))
        self._meter.peer_up(lane.name, False)
        log.info("%s does not answer: %s", lane.name, error)

    def _blame(self, lane: Lane, error: BlockCorruptError) -> None:
        lane.speed.note_corrupt()
        self._meter.integrity_failure(lane.name)
        log.error("%s gave a wrong block: %s", lane.name, error)


def _form_of(job: Job) -> tuple[BlockId, bool]:
    return job.block_id, job.as_raw


def _seen(task: "asyncio.Task[Checked]") -> None:
    """Nobody need have waited for a helper."""
    if not task.cancelled():
        task.exception()


async def _next(stream: AsyncIterator[StoredBlock]) -> StoredBlock | None:
    return await anext(stream, None)


async def _await(awaitable: Awaitable[Checked]) -> Checked:
    return await awaitable


async def _guarded(work: Awaitable[None]) -> None:
    """An error of ours is logged; it has reached those who wait already."""
    try:
        await work
    except Exception:
        log.exception("fetching failed")
