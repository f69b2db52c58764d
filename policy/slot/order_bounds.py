"""Sending order for many users: within twice the optimum, with a certificate for each instance.

Sidney (1975): take the set of users whose blocks take least time per user; serve it first; repeat on the
rest. Every order that keeps these sets apart costs at most twice the optimum (Chekuri and Motwani, 1999). The
area over the chart of "users done over time" gives the lower bound sum of w_c (P_c + p_c / 2), with w_c users
and p_c seconds of set c and P_c the seconds before it (Goemans and Williamson, 2000).
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from policy.interfaces import Bool, Float

_UNITS = 2**30
"""Integer capacity of everything together: the flow solver wants 32-bit integers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NeedGroups:
    """Users with the same needs, counted together."""

    needs: Bool
    """(groups, blocks)."""
    weight: Float
    """Users of each group, (groups,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turns:
    """An order of groups and what is known about it."""

    turns: list[int]
    """Groups in serving order."""
    cost_s: float
    """Sum over users of the time at which they are served, s."""
    lower_s: float
    """No order costs less, s."""


def group_needs(needs: Bool) -> NeedGroups:
    """Join users who miss exactly the same blocks; users who miss nothing drop out."""
    asking = needs[needs.any(axis=1)]
    if asking.shape[0] == 0:
        return NeedGroups(needs=asking, weight=np.zeros(0))
    packed, first, of_user = np.unique(
        np.packbits(asking, axis=1), axis=0, return_index=True, return_inverse=True
    )
    count = np.bincount(of_user.reshape(-1), minlength=packed.shape[0])
    return NeedGroups(needs=asking[first], weight=count.astype(np.float64))


def turns_cost_s(groups: NeedGroups, seconds: Float, turns: list[int]) -> float:
    """Sum over users of the time at which they are served, s."""
    seen, time, total = np.zeros(seconds.size, dtype=bool), 0.0, 0.0
    for group in turns:
        time += float(seconds[groups.needs[group] & ~seen].sum())
        seen |= groups.needs[group]
        total += float(groups.weight[group]) * time
    return total


def greedy_turns(groups: NeedGroups, seconds: Float) -> list[int]:
    """Always the group with the least extra time per user next (Smith's rule on what is left)."""
    needs = groups.needs.astype(np.float64)
    extra = needs @ seconds
    open_blocks = np.ones(seconds.size, dtype=bool)
    live = np.ones(groups.weight.size, dtype=bool)
    turns = []
    for _ in range(groups.weight.size):
        turns.append(int(np.argmin(np.where(live, extra / groups.weight, np.inf))))
        live[turns[-1]] = False
        closed = np.flatnonzero(groups.needs[turns[-1]] & open_blocks)
        open_blocks[closed] = False
        extra -= needs[:, closed] @ seconds[closed]
    return turns


def sidney_turns(groups: NeedGroups, seconds: Float) -> Turns:
    """Order groups by Sidney's decomposition, each set inside by Smith's rule; at most twice the optimum.

    Args:
        groups: Distinct needs.
        seconds: Time of each block, (blocks,), > 0 where needed.
    """
    groups, seconds = merge_blocks(groups, seconds)
    left = np.arange(groups.weight.size)
    open_blocks = np.ones(seconds.size, dtype=bool)
    turns: list[int] = []
    before = lower = 0.0
    while left.size:
        rest = NeedGroups(needs=groups.needs[left] & open_blocks, weight=groups.weight[left])
        chosen = lightest_set(rest, seconds)
        part = NeedGroups(needs=rest.needs[chosen], weight=rest.weight[chosen])
        turns += left[chosen][greedy_turns(part, seconds)].tolist()
        used = part.needs.any(axis=0)
        spent, users = float(seconds[used].sum()), float(part.weight.sum())
        lower += users * (before + spent / 2)
        before += spent
        open_blocks &= ~used
        left = left[~chosen]
    return Turns(turns=turns, cost_s=turns_cost_s(groups, seconds, turns), lower_s=lower)


def merge_blocks(groups: NeedGroups, seconds: Float) -> tuple[NeedGroups, Float]:
    """Join blocks that the same groups need: they travel together in every good order."""
    used = np.flatnonzero(groups.needs.any(axis=0))
    packed = np.packbits(groups.needs[:, used].T, axis=1)
    _, first, merged = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    time = np.bincount(merged.reshape(-1), weights=seconds[used], minlength=first.size)
    return NeedGroups(needs=groups.needs[:, used[first]], weight=groups.weight), np.asarray(
        time, dtype=np.float64
    )


def lightest_set(groups: NeedGroups, seconds: Float) -> Bool:
    """Set of groups with the least time of its blocks per user, bool (groups,).

    Dinkelbach's iteration: the set that minimises time - ratio x users is one minimum cut.
    """
    used = groups.needs.any(axis=0)
    blocks, time = groups.needs[:, used], seconds[used]
    alone = groups.needs @ seconds / groups.weight
    chosen = np.arange(groups.weight.size) == int(alone.argmin())
    ratio = float(alone.min())
    whole = float(time.sum() / groups.weight.sum())
    if whole < ratio:
        chosen, ratio = np.ones(groups.weight.size, dtype=bool), whole
    for _ in range(64):
        lightest = _cut(blocks, time, groups.weight * ratio)
        if not lightest.any():
            break
        value = float(time[blocks[lightest].any(axis=0)].sum() / groups.weight[lightest].sum())
        if value >= ratio * (1 - 1e-7):
            break
        chosen, ratio = lightest, value
    return np.asarray(chosen, dtype=bool)


def _cut(needs: Bool, time: Float, gain: Float) -> Bool:
    """Set S of groups that minimises time of its blocks - gain of S, by a minimum cut; (groups,)."""
    groups, blocks = needs.shape
    source, sink = groups + blocks, groups + blocks + 1
    unit = _UNITS / max(float(gain.sum()), float(time.sum()), 1e-300)
    group, block = np.nonzero(needs)
    tail = np.concatenate([np.full(groups, source), group, groups + np.arange(blocks)])
    head = np.concatenate([np.arange(groups), groups + block, np.full(blocks, sink)])
    wide = np.full(group.size, _UNITS)
    room = np.concatenate([np.round(gain * unit), wide, np.round(time * unit)]).astype(np.int32)
    size = groups + blocks + 2
    graph = csr_array(coo_array((room, (tail, head)), shape=(size, size)))
    flow = maximum_flow(graph, source, sink).flow
    left = csr_array(graph - flow)
    left.data = np.where(left.data > 0, left.data, 0)
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, directed=True, return_predecessors=False)
    chosen = np.zeros(size, dtype=bool)
    chosen[reached] = True
    return np.asarray(chosen[:groups])
