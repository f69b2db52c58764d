"""In which order blocks go on the air so that users finish early on average.

A user is done when the last of its blocks is. On one band this is 1 | bipartite prec | sum w C: NP-hard in
general, but some best order sends all of one user's blocks, then what a second still misses, and so on. So
with few distinct needs a dynamic programme over sets of them is exact.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.slot.order_bounds import NeedGroups, greedy_turns, group_needs, merge_blocks, sidney_turns

MAX_EXACT_GROUPS = 12
"""Up to so many distinct needs the order is exact (2^groups states)."""
MAX_SIDNEY_GROUPS = 64
"""Up to so many it is within twice the optimum; beyond, the minimum cuts take too long for every slot."""


def mean_completion(order: Int, needs: Bool, seconds: Float) -> float:
    """Mean time at which users who miss something have it all, blocks one after another in `order`."""
    done = np.zeros(seconds.size)
    done[order] = np.cumsum(seconds[order])
    ends = np.where(needs, done, 0.0).max(axis=1, initial=0.0)
    asking = needs.any(axis=1)
    return float(ends[asking].mean()) if asking.any() else 0.0


def best_order(needs: Bool, seconds: Float, fetch_s: Float | None = None) -> Int:
    """Order of the blocks that somebody misses.

    If blocks only take time one after another, the order is exact up to `MAX_EXACT_GROUPS` distinct needs,
    at most twice the optimum up to `MAX_SIDNEY_GROUPS` (`order_bounds` also certifies each instance), and
    Smith's rule without a promise beyond.

    Args:
        needs: Which user misses which block, (users, blocks).
        seconds: Time of each block, (blocks,).
        fetch_s: Time each block travels before it can be sent, if that overlaps with broadcasts of others:
            within one user's share blocks then go by `johnson_rank`. None: as numbered.

    Returns:
        Blocks in sending order.
    """
    groups = group_needs(needs)
    rank = np.arange(seconds.size) if fetch_s is None else johnson_rank(fetch_s, seconds)
    if groups.weight.size <= MAX_EXACT_GROUPS:
        return _blocks_in_turn(groups.needs, exact_turns(groups, seconds), rank)
    few = groups.weight.size <= MAX_SIDNEY_GROUPS
    turns = sidney_turns(groups, seconds).turns if few else greedy_turns(groups, seconds)
    return _blocks_in_turn(groups.needs, turns, rank)


def exact_turns(groups: NeedGroups, seconds: Float) -> list[int]:
    """Best order of groups by f[S] = min over g in S of f[S - g] + weight[g] x time(all blocks of S)."""
    count = groups.weight.size
    sets = np.arange(2**count)
    groups, seconds = merge_blocks(groups, seconds)
    union = np.zeros((2**count, seconds.size), dtype=bool)
    for group in range(count):
        half = 1 << group
        union[half : 2 * half] = union[:half] | groups.needs[group]
    time = union @ seconds
    best = np.full(2**count, np.inf)
    best[0] = 0.0
    last = np.zeros(2**count, dtype=np.int64)
    size = np.bitwise_count(sets)
    for layer in range(1, count + 1):
        here = sets[size == layer]
        for group in range(count):
            inside = here[(here >> group) % 2 == 1]
            value = best[inside ^ (1 << group)] + groups.weight[group] * time[inside]
            better = value < best[inside]
            best[inside[better]] = value[better]
            last[inside[better]] = group
    turns, left = [], 2**count - 1
    while left:
        turns.append(int(last[left]))
        left ^= 1 << turns[-1]
    return turns[::-1]


def _blocks_in_turn(needs: Bool, turns: list[int], rank: Int) -> Int:
    """Blocks of the first group by rank, then what the second still misses, and so on."""
    sent: list[int] = []
    seen = np.zeros(needs.shape[1], dtype=bool)
    for group in turns:
        fresh = np.flatnonzero(needs[group] & ~seen)
        sent.extend(fresh[np.argsort(rank[fresh], kind="stable")].tolist())
        seen |= needs[group]
    return np.array(sent, dtype=np.int64)


def johnson_rank(fetch_s: Float, air_s: Float) -> Int:
    """Order for two stages in a row, first the link, then the band: rank of each block, (blocks,).

    Johnson's rule (1954): blocks that travel for less than they are on the air first, shortest travel first;
    then the others, longest air time first. Optimal for the end of the last block if there was one link.
    """
    quick = fetch_s < air_s
    key = np.where(quick, fetch_s, -air_s)
    rank = np.empty(fetch_s.size, dtype=np.int64)
    rank[np.lexsort((key, ~quick))] = np.arange(fetch_s.size)
    return rank
