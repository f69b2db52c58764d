"""Delay tables for any number of nodes: each block gets a table over the few nodes that matter to it.

A block that users around some nodes miss is best cached and sent by nodes near them. So its table spans the
sets of `width` candidate nodes, not of all. Rates of sets come from the rates of single links, as a p-norm,
R(C) = (sum of R_n^p over n in C)^(1/p), with p fitted to a few rates of real sets: 1 when rates add, less
when amplitudes add up, more when one node does nearly all.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, DelayModel, Float, Int, checked_rates
from policy.scenario import Scenario
from policy.slot.tables import mask_bits, migration_table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotDemand:
    """What one slot asked for, and how well every link was: enough to make its local tables."""

    block: Int
    """Missed blocks, one a (block, user) pair, ascending, (pairs,)."""
    user: Int
    """The users who miss them, (pairs,)."""
    links: Float
    """Rate of each node alone to each user alone, (users, nodes), bit/s."""
    exponent: float
    """The p of the p-norm."""


def slot_demand(needs: Bool, links: Float, exponent: float) -> SlotDemand:
    """Pairs of a needs matrix (users, blocks)."""
    block, user = np.nonzero(needs.T)
    return SlotDemand(block=block, user=user, links=links, exponent=exponent)


def fit_exponent(delay: DelayModel, slot: int, links: Float, samples: int = 48) -> float:
    """The p with which link rates best predict rates of the 2 to 4 best nodes of some users, in logs."""
    users, nodes = links.shape
    if nodes == 1:
        return 1.0
    chosen = np.unique(np.linspace(0, users - 1, min(samples, users)).astype(np.int64))
    best = np.argsort(-links[chosen], axis=1)
    holders, receivers, heard = [], [], []
    for size in range(2, min(4, nodes) + 1):
        sets = np.zeros((chosen.size, nodes), dtype=bool)
        np.put_along_axis(sets, best[:, :size], True, axis=1)
        holders.append(sets)
        receivers.append(np.arange(users)[None, :] == chosen[:, None])
        heard.append(np.where(sets, links[chosen], 0.0))
    real = checked_rates(delay, slot, np.concatenate(holders), np.concatenate(receivers))
    parts = np.concatenate(heard)
    grid = np.geomspace(0.4, 8.0, 31)
    scale = parts.max(axis=1)
    guess = [scale * ((parts / scale[:, None]) ** p).sum(axis=1) ** (1 / p) for p in grid]
    good = real > 0
    errors = [np.square(np.log(g[good] / real[good])).sum() for g in guess]
    return float(grid[int(np.argmin(errors))])


def candidate_nodes(near: Float, width: int) -> Int:
    """Nodes that each block's users hear best, (blocks, width), from scores (nodes, blocks)."""
    return np.asarray(np.argsort(-near, axis=0, kind="stable")[:width].T, dtype=np.int64)


def near_scores(demand: SlotDemand, blocks: int) -> Float:
    """How much each node matters to each block: 1, 1/2, 1/4 for the best nodes of each user who misses it.

    Returns:
        (nodes, blocks).
    """
    nodes = demand.links.shape[1]
    best = np.argsort(-demand.links, axis=1)[:, :3]
    scores = np.zeros((nodes, blocks))
    for place in range(best.shape[1]):
        np.add.at(scores, (best[demand.user, place], demand.block), 0.5**place)
    return scores


def local_table(scenario: Scenario, demand: SlotDemand, candidates: Int, migration: bool = True) -> Float:
    """Delay of each block under each set of its candidates, with the best migration among them.

    Args:
        scenario: Sizes and links.
        demand: One slot.
        candidates: (blocks, width).
        migration: Whether nodes may fetch from one another.

    Returns:
        (blocks, 2^width), s; 0 where nobody missed the block.
    """
    blocks, width = candidates.shape
    table = np.zeros((blocks, 2**width))
    if demand.block.size == 0:
        return table
    p, top = demand.exponent, float(demand.links.max())
    links = np.take_along_axis(demand.links[demand.user], candidates[demand.block], axis=1) / top
    power = links**p @ mask_bits(width).T.astype(np.float64)
    wanted, first = np.unique(demand.block, return_index=True)
    slowest = np.minimum.reduceat(power, first, axis=0)
    sizes = scenario.catalog.sizes_bytes[wanted]
    rate = top * np.maximum(
        slowest ** (1 / p), 1e-3
    )  # candidates that reach not everyone are bad, not useless
    air = 8.0 * sizes[:, None] / rate
    table[wanted], _ = migration_table(air, sizes, scenario.config.planning_links, migration)
    return table


def local_masks(placement: Bool, candidates: Int) -> Int:
    """Holders of each block among its candidates, as integers; bit `width` is any other node, (blocks,)."""
    width = candidates.shape[1]
    held = np.take_along_axis(placement.T, candidates, axis=1)
    local = held @ (1 << np.arange(width))
    elsewhere = placement.sum(axis=0) > held.sum(axis=1)
    return np.asarray(local + elsewhere * (1 << width), dtype=np.int64)


def greedy_local(
    table_s: Float,
    candidates: Int,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool,
    budget_bytes: float = np.inf,
) -> Bool:
    """As `policy.place.greedy.greedy_placement`, on local tables: most seconds saved per byte first.

    Args:
        table_s: Cost of each block under each set of its candidates, (blocks, 2^width), s.
        candidates: (blocks, width).
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now, (nodes, blocks); what a node keeps costs no budget.
        budget_bytes: Most bytes a node may add.

    Returns:
        Placement, (nodes, blocks).
    """
    width = candidates.shape[1]
    ones = 1 << np.arange(width)
    sizes = np.asarray(sizes_bytes, dtype=np.float64)
    density = (table_s[:, :1] - table_s[:, ones]) / sizes[:, None]
    heap = [(-density[j, n], int(j), int(n)) for j, n in zip(*np.nonzero(density > 0), strict=True)]
    heapq.heapify(heap)
    masks = np.zeros(sizes.size, dtype=np.int64)
    room, budget = np.array(capacity_bytes, dtype=np.float64), np.full(before.shape[0], budget_bytes)
    holds = np.zeros_like(before)
    while heap:
        value, block, place = heapq.heappop(heap)
        node = int(candidates[block, place])
        price = 0.0 if before[node, block] else sizes[block]
        if -value != density[block, place] or sizes[block] > room[node] or price > budget[node]:
            continue
        holds[node, block] = True
        masks[block] |= ones[place]
        room[node] -= sizes[block]
        budget[node] -= price
        row = table_s[block]
        density[block] = (row[masks[block]] - row[masks[block] | ones]) / sizes[block]
        for other in np.flatnonzero((density[block] > 0) & ((masks[block] & ones) == 0)).tolist():
            heapq.heappush(heap, (-density[block, other], block, other))
    return holds
