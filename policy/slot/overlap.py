"""Orders and copies when transfers overlap with broadcasts: try a few good candidates on a fast clock.

The band should not wait for a block that is still travelling while others are ready, and a link should carry
first what is sent first. No order is best for both, so several are tried and the best by mean user delay is
kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy.config import Timing
from policy.interfaces import Bool, Float, Int
from policy.slot.order import best_order
from policy.slot.problem import SlotProblem
from policy.slot.tables import to_masks

MAX_DISPATCH = 200
"""Up to so many blocks orders are also rearranged by readiness (time grows with the square)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One block as the clock sees it."""

    cached: bool
    """Whether some node caches it."""
    missing: tuple[int, ...]
    """Nodes that fetch it."""
    cloud_s: float
    hop_s: float
    air_s: float


def parcels(problem: SlotProblem, holders: Bool, air_s: Float) -> dict[int, Parcel]:
    """Parcels of the missed blocks of a slot.

    Args:
        problem: The slot.
        holders: Nodes that hold each block when it is sent, (nodes, blocks).
        air_s: Time on the air of each block, (blocks,), s.
    """
    blocks, cached, links = problem.wanted, problem.cached, problem.links
    bits = problem.wire_bits(blocks)
    hops, clouds = (bits / links.backhaul_bit_s).tolist(), (bits / links.cloud_bit_s).tolist()
    air: list[float] = air_s[blocks].tolist()
    held = set(np.flatnonzero(cached[:, blocks].any(axis=0)).tolist())
    missing = (holders & ~cached)[:, blocks].T
    return {
        block: Parcel(
            cached=i in held,
            missing=tuple(np.flatnonzero(missing[i]).tolist()) if missing[i].any() else (),
            cloud_s=clouds[i],
            hop_s=hops[i],
            air_s=air[i],
        )
        for i, block in enumerate(blocks.tolist())
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """When each line is free."""

    links_free: tuple[float, ...]
    """Incoming link of each node, s."""
    band_free: float = 0.0
    """The band, s."""


def lines_of(problem: SlotProblem) -> Lines:
    """When the lines of a slot are free."""
    return Lines(links_free=tuple(problem.links_free.tolist()), band_free=problem.band_free_s)


def ready_times(order: Sequence[int], work: dict[int, Parcel], lines: Lines) -> list[float]:
    """When all holders of each block have it, in the order of fetching; as `timeline.schedule`."""
    free = list(lines.links_free)
    ready_at = []
    for block in order:
        item = work[block]
        ready, start, missing = 0.0, 0.0, item.missing
        if not item.cached:
            first = min(missing, key=free.__getitem__)
            free[first] = ready = start = free[first] + item.cloud_s
            missing = tuple(node for node in missing if node != first)
        for node in missing:
            begin = free[node] if free[node] > start else start
            free[node] = begin + item.hop_s
            ready = max(ready, free[node])
        ready_at.append(ready)
    return ready_at


def end_times(order: Sequence[int], work: dict[int, Parcel], lines: Lines, timing: Timing) -> list[float]:
    """When each broadcast ends, in the order of sending."""
    ready = ready_times(order, work, lines)
    band = max([lines.band_free, *ready]) if timing == "sequential" else lines.band_free
    ends = []
    for block, at in zip(order, ready, strict=True):
        band = (at if at > band else band) + work[block].air_s
        ends.append(band)
    return ends


def dispatch(order: Sequence[int], work: dict[int, Parcel], lines: Lines) -> list[int]:
    """The order, but with blocks that are not ready passed over by the next that is."""
    ready = dict(zip(order, ready_times(order, work, lines), strict=True))
    left, now, dispatched = list(order), lines.band_free, []
    while left:
        block = next((b for b in left if ready[b] <= now), None)
        if block is None:
            block = min(left, key=ready.__getitem__)
        left.remove(block)
        dispatched.append(block)
        now = max(now, ready[block]) + work[block].air_s
    return dispatched


def base_orders(needs: Bool, fetch_s: Float, air_s: Float, timing: Timing) -> list[list[int]]:
    """Orders that do not look at the links: by air time, by all time, what needs no travel first.

    The first, or with `sequential` the last, is the plain order of `policy.slot.dynamics.serve_slot`.
    """
    by_air = best_order(needs, air_s, fetch_s).tolist()
    if not fetch_s.any():
        return [by_air]
    by_all = best_order(needs, air_s + fetch_s, fetch_s).tolist()
    orders = [by_air, by_all, sorted(by_air, key=lambda block: fetch_s[block] > 0)]
    return orders if timing == "pipelined" else [*orders, best_order(needs, air_s).tolist()]


def mean_delay_s(order: Sequence[int], ends: Sequence[float], needs: Bool) -> float:
    """Mean end over users who miss something, s."""
    asking = needs[needs.any(axis=1)]
    if asking.shape[0] == 0:
        return 0.0
    done = np.zeros(needs.shape[1])
    done[list(order)] = ends
    return float(np.where(asking, done, 0.0).max(axis=1).mean())


def best_overlap(
    orders: Sequence[list[int]], work: dict[int, Parcel], lines: Lines, needs: Bool, timing: Timing
) -> tuple[list[int], float]:
    """Best of some orders, each also rearranged by readiness, for given holders.

    Returns:
        The order, and the mean delay of the users who miss something, s.
    """
    tries = list(orders)
    if timing == "pipelined" and len(work) <= MAX_DISPATCH:
        tries += [
            dispatched for order in orders[:2] if (dispatched := dispatch(order, work, lines)) not in tries
        ]
    values = [mean_delay_s(order, end_times(order, work, lines, timing), needs) for order in tries]
    best = int(np.argmin(values))
    return tries[best], values[best]


def queue_holders(problem: SlotProblem, order: Sequence[int], air_s: Float, hop_weight: float = 0.1) -> Int:
    """Choose the holders of one block after another by when its broadcast would end, seeing the queues.

    Unlike the separable optimum this spreads copies over links that are free, and copies that travel while
    the band is busy anyway cost it nothing. With `sequential` timing a broadcast waits for all transfers, so
    they are spread to end early.

    Args:
        problem: The slot.
        order: Blocks in sending order.
        air_s: Air time under each set of holders, (blocks, 2^nodes), s.
        hop_weight: Price of a copy in units of its time: links that are kept free help later blocks.

    Returns:
        Holders of each block as integers, (blocks,); the caching nodes where a block is not in `order`.
    """
    masks, links, timing = to_masks(problem.cached), problem.links, problem.timing
    nodes = int(air_s.shape[1]).bit_length() - 1
    members = [tuple(n for n in range(nodes) if held >> n & 1) for held in range(2**nodes)]
    free, band, chosen = problem.links_free.tolist(), problem.band_free_s, masks.copy()
    wire = problem.wire_bits(np.arange(masks.size))
    for block in order:
        bits, held = float(wire[block]), int(masks[block])
        hop, cloud = bits / links.backhaul_bit_s, bits / links.cloud_bit_s
        air = air_s[block].tolist()
        best, least, queue = held, np.inf, free
        for target in range(1, 2**nodes):
            if target & held != held:
                continue
            ready, after = _arrival(free, members[target & ~held], bool(held), hop, cloud)
            wait = ready if timing == "sequential" else max(band, ready)
            value = wait + air[target] + hop_weight * hop * len(members[target & ~held])
            if value < least:
                best, least, queue = target, value, after
        chosen[block] = best
        ready = max((queue[n] for n in members[best & ~held]), default=0.0)
        free, band = queue, max(band, ready) + air[best]
    return chosen


def _arrival(
    free: list[float], missing: tuple[int, ...], cached: bool, hop: float, cloud: float
) -> tuple[float, list[float]]:
    """When all missing nodes have a block, and when their links are free then."""
    if not missing:
        return 0.0, free
    after, start, ready = free.copy(), 0.0, 0.0
    if not cached:
        first = min(missing, key=free.__getitem__)
        after[first] = start = ready = free[first] + cloud
        missing = tuple(node for node in missing if node != first)
    for node in missing:
        after[node] = max(after[node], start) + hop
        ready = max(ready, after[node])
    return ready, after
