"""How a node chooses the form of what it fetches: by what it has, what peers have, and who else wants it."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from pbstore.blocks import BlockInfo
from pbstore.hashing import BlockId
from pbstore.serve.fetch.forms import Credit
from pbstore.serve.fetch.jobs import Job
from pbstore.serve.fetch.lanes import Lane
from pbstore.serve.fetch.source import GivesRaw


class Forms:
    """Decides for one node in which form it asks for blocks.

    Args:
        told: A block in the form in which somebody has it, as far as that is known.
        scout: Learns who has some blocks.
        is_at_peer: Whether a peer has a block.
        is_wanted: Whether somebody wants a block for itself.
        settled: Waits until it is known what those want who have just begun to ask.
    """

    def __init__(
        self,
        *,
        told: Callable[[BlockId], BlockInfo | None],
        scout: Callable[[Iterable[BlockId]], Awaitable[None]],
        is_at_peer: Callable[[BlockId], bool],
        is_wanted: Callable[[BlockId], bool],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._told = told
        self._scout, self._is_at_peer = scout, is_at_peer
        self._is_wanted, self._settled = is_wanted, settled
        self._credit = Credit()

    async def choose(self, lane: Lane, jobs: Sequence[Job], here: Collection[BlockId]) -> None:
        """Decide which of some jobs are asked for raw on their lane."""
        for job in jobs:
            job.as_raw = False
        if not isinstance(lane.source, GivesRaw):
            return
        told = {job: lane.holdings.has(job.block_id) or self._told(job.block_id) for job in jobs}
        asked = [info for job, info in told.items() if info is not None and not (job.coded or job.no_raw)]
        asked = [info for info in asked if not set(here).issuperset(info.needs)]
        if asked:
            upstream = lane.kind == "upstream" or lane.asks_blindly
            raw = await self._raw(asked, here, from_upstream=upstream)
            for job in jobs:
                job.as_raw = job.block_id in raw

    async def _raw(
        self, asked: Sequence[BlockInfo], here: Collection[BlockId], *, from_upstream: bool
    ) -> set[BlockId]:
        """Those of some blocks that are to be asked for raw.

        Args:
            asked: The blocks, as the source has them.
            here: Blocks of this node.
            from_upstream: Whether they come from there: then what a peer has costs nothing.
        """
        first = {need for info in asked for need in info.needs} - set(here)
        if all(map(self._is_wanted, first)):
            return set()
        await self._scout(first)
        await self._settled()
        missing = {need for need in first if not self._is_wanted(need)}
        if from_upstream:
            missing = {need for need in missing if not self._is_at_peer(need)}
        infos = {one: info for one in missing if (info := self._told(one)) is not None}
        nowhere = {info.block_id for info in asked if not missing.isdisjoint({*info.needs} - set(infos))}
        left = [info for info in asked if info.block_id not in nowhere]
        infos |= {info.block_id: info for info in left}
        return nowhere | self._credit.choose([info.block_id for info in left], infos)
