"""When each transfer and each broadcast of a slot starts and ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from policy.config import LinkConfig, Timing

CLOUD = -1
"""Source of a transfer that comes from the cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One block copied to one node, from another node or from the cloud (`CLOUD`)."""

    block: int
    source: int
    target: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """One block sent by its holders together to its users."""

    block: int
    holders: tuple[int, ...]
    users: tuple[int, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A broadcast to be timed: who sends to whom, and for how long."""

    holders: tuple[int, ...]
    users: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that has to happen for one block."""

    block: int
    size_bits: float
    cached: tuple[int, ...]
    """Nodes that have it in their cache."""
    holders: tuple[int, ...]
    """Nodes that must have it before it is sent; contains `cached`."""
    sends: tuple[Send, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything that happens in a slot, by start."""

    transfers: tuple[Transfer, ...]
    broadcasts: tuple[Broadcast, ...]

    @property
    def end_s(self) -> float:
        """When the last broadcast ends."""
        return max((b.end_s for b in self.broadcasts), default=0.0)


def schedule(
    jobs: Sequence[Job],
    nodes: int,
    links: LinkConfig,
    timing: Timing,
    links_free: Sequence[float] | None = None,
    band_free: float = 0.0,
) -> Timeline:
    """Time the jobs in the given order.

    A node's incoming transfers go one after another; the band carries one broadcast at a time; a broadcast
    starts when all its holders have the block.

    Args:
        jobs: In sending order.
        nodes: Number of nodes.
        links: Backhaul and cloud.
        timing: `additive`: nothing overlaps; `sequential`: all transfers (parallel over nodes), then all
            broadcasts; `pipelined`: later blocks travel while earlier ones are on the air.
        links_free: When each node's incoming link is free, (nodes,), s; None: at once.
        band_free: When the band is free, s.

    Returns:
        Transfers and broadcasts with their times.
    """
    free = [0.0] * nodes if links_free is None else list(links_free)
    band = band_free if timing != "additive" else max([band_free, *free])
    transfers: list[Transfer] = []
    ready: list[float] = []
    broadcasts: list[Broadcast] = []
    for job in jobs:
        if timing == "additive":
            free = [band] * nodes
        moved = _fetch(job, free, links, one_by_one=timing == "additive")
        transfers += moved
        ready.append(max((move.end_s for move in moved), default=0.0))
        if timing != "sequential":
            band = _send(job, max(band, ready[-1]), broadcasts)
    if timing == "sequential":
        band = max([band, *ready])
        for job in jobs:
            band = _send(job, band, broadcasts)
    return Timeline(transfers=tuple(transfers), broadcasts=tuple(broadcasts))


def _fetch(job: Job, free: list[float], links: LinkConfig, *, one_by_one: bool) -> list[Transfer]:
    """Transfers that give the block to all its holders; `free[n]` is when node n's incoming link is free."""
    missing = [n for n in job.holders if n not in job.cached]
    transfers: list[Transfer] = []
    start = min(free, default=0.0)
    if not job.cached:  # the first copy comes from the cloud, to the node that can take it first
        first = min(missing, key=lambda n: free[n])
        missing.remove(first)
        end = free[first] + job.size_bits / links.cloud_bit_s
        transfers.append(
            Transfer(block=job.block, source=CLOUD, target=first, start_s=free[first], end_s=end)
        )
        free[first] = start = end
    source = job.cached[0] if job.cached else transfers[0].target
    for node in missing:
        begin = max(free[node], start) if one_by_one or not job.cached else free[node]
        end = begin + job.size_bits / links.backhaul_bit_s
        transfers.append(Transfer(block=job.block, source=source, target=node, start_s=begin, end_s=end))
        free[node] = end
        if one_by_one:
            start = end
    return transfers


def _send(job: Job, start: float, broadcasts: list[Broadcast]) -> float:
    """Put the job's broadcasts on the band from `start` on; returns when the band is free again."""
    for send in job.sends:
        end = start + send.seconds
        broadcasts.append(
            Broadcast(block=job.block, holders=send.holders, users=send.users, start_s=start, end_s=end)
        )
        start = end
    return start
