"""When each transfer and each broadcast of a slot starts and ends.

A plan names everything but time. Each link carries its transfers, and the band its broadcasts, in a given
order; a copy waits for the one it is taken from, a broadcast for the copies of its senders. So a start is
the latest of some ends and an end is a start plus a duration: a max-plus system, in which nothing ends later
when a duration is shorter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from policy.config import Timing

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
class Piece:
    """A time in which a broadcast is on the air."""

    start_s: float
    end_s: float
    share: float
    """Of the rate that it has alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """One block sent by its holders together to its users."""

    block: int
    holders: tuple[int, ...]
    users: tuple[int, ...]
    start_s: float
    end_s: float
    pieces: tuple[Piece, ...] = ()
    """When it is on the air, where blocks go at once; empty: from start to end, with nothing beside it."""

    @property
    def alone_s(self) -> float:
        """Time on the air with nothing beside it, s."""
        if not self.pieces:
            return self.end_s - self.start_s
        return sum((piece.end_s - piece.start_s) * piece.share for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Blocks that travel together to one node, to be timed."""

    blocks: tuple[int, ...]
    seconds: tuple[float, ...]
    """Time of each block on the target's link."""
    source: int
    """Node, or `CLOUD`."""
    target: int
    after: int | None = None
    """Place in the plan of the move that brings them to the source; None: the source caches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Blocks that are sent one after another to the same users, to be timed."""

    blocks: tuple[int, ...]
    seconds: tuple[float, ...]
    """Time of each block on the air."""
    holders: tuple[int, ...]
    users: tuple[int, ...]
    after: tuple[int, ...] = ()
    """Places in the plan of the moves that it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Transfers in an order that is kept on each link, and broadcasts in the order of the band."""

    moves: tuple[Move, ...]
    casts: tuple[Cast, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything that happens in a slot, by start."""

    transfers: tuple[Transfer, ...]
    broadcasts: tuple[Broadcast, ...]

    @property
    def end_s(self) -> float:
        """When the last broadcast ends."""
        return max((b.end_s for b in self.broadcasts), default=0.0)


def busy_s(broadcasts: Sequence[Broadcast]) -> float:
    """Time in which something is on the air, s: what is sent at once counts once."""
    busy, until = 0.0, -math.inf
    for cast in sorted(broadcasts, key=lambda cast: cast.start_s):
        busy += max(0.0, cast.end_s - max(cast.start_s, until))
        until = max(until, cast.end_s)
    return busy


def run(plan: Plan, links_free: Sequence[float], band_free: float, timing: Timing) -> Timeline:
    """Time a plan.

    Args:
        plan: The plan.
        links_free: When each node's incoming link is free, (nodes,), s.
        band_free: When the band is free, s.
        timing: `pipelined`: a broadcast waits for its own moves; `sequential`: for all; `additive`: nothing
            overlaps, each block's moves and broadcasts are over before the next begins, in the plan's order.
    """
    if timing == "additive":
        return _one_by_one(plan, max([band_free, *links_free]))
    transfers, ready_s = carried(plan, links_free, timing)
    band, broadcasts = band_free, list[Broadcast]()
    for cast, ready in zip(plan.casts, ready_s, strict=True):
        band = _send(cast, max(band, ready), broadcasts)
    return Timeline(transfers=transfers, broadcasts=tuple(broadcasts))


def carried(
    plan: Plan, links_free: Sequence[float], timing: Timing
) -> tuple[tuple[Transfer, ...], list[float]]:
    """The transfers of a plan, and when all senders have what each cast sends, (casts,), s; as for `run`."""
    free, came = list(links_free), list[float]()
    transfers: list[Transfer] = []
    for move in plan.moves:
        start = free[move.target] if move.after is None else max(free[move.target], came[move.after])
        free[move.target] = _carry(move, start, transfers)
        came.append(free[move.target])
    last = max(came, default=0.0)
    ready = [
        last if timing == "sequential" else max((came[place] for place in cast.after), default=0.0)
        for cast in plan.casts
    ]
    return tuple(transfers), ready


def _one_by_one(plan: Plan, start: float) -> Timeline:
    """Each cast after its moves, and nothing at the same time."""
    transfers: list[Transfer] = []
    broadcasts: list[Broadcast] = []
    done: set[int] = set()
    for cast in plan.casts:
        for place in cast.after:
            if place not in done:
                start = _carry(plan.moves[place], start, transfers)
                done.add(place)
        start = _send(cast, start, broadcasts)
    return Timeline(transfers=tuple(transfers), broadcasts=tuple(broadcasts))


def _carry(move: Move, start: float, transfers: list[Transfer]) -> float:
    """Put a move on its link from `start` on; returns when it is over."""
    ends = list(accumulate(move.seconds, initial=start))
    transfers += [
        Transfer(block=block, source=move.source, target=move.target, start_s=begin, end_s=end)
        for block, begin, end in zip(move.blocks, ends[:-1], ends[1:], strict=True)
    ]
    return ends[-1]


def _send(cast: Cast, start: float, broadcasts: list[Broadcast]) -> float:
    """Put a cast on the band from `start` on; returns when it is over."""
    ends = list(accumulate(cast.seconds, initial=start))
    broadcasts += [
        Broadcast(block=block, holders=cast.holders, users=cast.users, start_s=begin, end_s=end)
        for block, begin, end in zip(cast.blocks, ends[:-1], ends[1:], strict=True)
    ]
    return ends[-1]
