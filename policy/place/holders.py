"""Holders of each block for any number of nodes, without tables of all sets.

Where 2^nodes sets are too many, sets grow one node at a time: next comes the node that the worst-off user of
the block hears best; the best set on the way is kept. Work grows as blocks x users x nodes a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, DelayModel, Float, Int, checked_rates
from policy.slot.problem import SlotProblem
from policy.slot.tables import ServiceRules

CHUNK = 2048
"""Blocks worked on together; bounds memory to CHUNK x users numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How far sets of holders are grown."""

    most_added: int = 6
    """Nodes added at most, unless some user is still out of reach."""
    patience: int = 2
    """Steps without gain after which a block is given up."""


def link_rates(delay: DelayModel, slot: int, users: int, nodes: int) -> Float:
    """Rate of each node alone to each user alone, (users, nodes), bit/s."""
    holders = np.tile(np.eye(nodes, dtype=bool), (users, 1))
    receivers: Bool = np.repeat(np.eye(users, dtype=bool), nodes, axis=0)
    rates = [
        checked_rates(delay, slot, holders[part], receivers[part])
        for part in _parts(users * nodes, 4 * CHUNK)
    ]
    return np.concatenate(rates).reshape(users, nodes)


def greedy_holders(
    problem: SlotProblem,
    hop_weight: float = 1.0,
    search: Search | None = None,
    alone: Float | None = None,
) -> Bool:
    """Caching nodes plus migration targets of every missed block, chosen block by block.

    Args:
        problem: The slot. With unicast (`share_air` off) sets are grown as for broadcasts.
        hop_weight: Price of a copy in units of its time.
        search: How far to look.
        alone: `link_rates` of the slot, if known already.

    Returns:
        Holders, (nodes, blocks); as cached where nobody misses the block.
    """
    search, wanted = search or Search(), problem.wanted
    if alone is None:
        alone = link_rates(problem.delay, problem.slot, problem.needs.shape[0], problem.num_nodes)
    holders = problem.cached.copy()
    for part in _parts(wanted.size, CHUNK):
        blocks = wanted[part]
        holders[:, blocks] = _grow(problem, blocks, alone, hop_weight, search).T
    return holders


def _grow(problem: SlotProblem, blocks: Int, alone: Float, hop_weight: float, search: Search) -> Bool:
    """Grow the sets of some blocks, (blocks, nodes)."""
    users, cached = problem.needs[:, blocks].T, problem.cached[:, blocks].T
    bits = problem.air_bits(blocks)
    hop = hop_weight * problem.wire_bits(blocks) / problem.links.backhaul_bit_s
    holders = cached.copy()
    lost = ~cached.any(axis=1)
    holders[lost, _fittest(alone, users[lost])] = True
    best, best_cost = holders.copy(), _air(bits, _rates(problem, holders, users))
    paid, since = np.zeros(blocks.size), np.zeros(blocks.size, dtype=np.int64)
    for step in range(holders.shape[1] if problem.rules.migration else 0):
        more = (since < search.patience) & (step < search.most_added)
        live = np.flatnonzero((more | np.isinf(best_cost)) & ~holders.all(axis=1))
        if live.size == 0:
            break
        holders[live, _next_node(alone, users[live], holders[live], problem.rules)] = True
        paid[live] += hop[live]
        cost = np.full(blocks.size, np.inf)
        cost[live] = paid[live] + _air(bits[live], _rates(problem, holders[live], users[live]))
        better = cost < best_cost
        best_cost = np.where(better, cost, best_cost)
        best[better] = holders[better]
        since = np.where(better, 0, since + 1)
    return best


def _air(bits: Float, rates: Float) -> Float:
    """Time on the air, inf where some user is out of reach."""
    with np.errstate(divide="ignore"):
        return np.asarray(bits / rates)


def _fittest(links: Float, users: Bool) -> Int:
    """Node that the worst-off user of each block hears best, (blocks,)."""
    fittest = np.zeros(users.shape[0], dtype=np.int64)
    for row, group in enumerate(users):
        fittest[row] = int(links[group].min(axis=0).argmax())
    return fittest


def _next_node(links: Float, users: Bool, holders: Bool, rules: ServiceRules) -> Int:
    """Next node for each block: the one that the user with the weakest sum of links hears best, (blocks,)."""
    row, user = np.nonzero(users)
    heard = np.einsum("pn,pn->p", holders[row].astype(np.float64), links[user])
    by_row = np.lexsort((heard if rules.comp else user, row))
    weakest = user[by_row[np.unique(row, return_index=True)[1]]]
    return np.asarray(np.where(holders, -1.0, links[weakest]).argmax(axis=1), dtype=np.int64)


def _rates(problem: SlotProblem, holders: Bool, users: Bool) -> Float:
    """Rate of one broadcast of each set; without CoMP of its best node."""
    delay, slot = problem.delay, problem.slot
    if problem.rules.comp:
        return checked_rates(delay, slot, holders, users)
    rates = np.zeros(holders.shape[0])
    for node in range(holders.shape[1]):
        has = np.flatnonzero(holders[:, node])
        alone = np.zeros((has.size, holders.shape[1]), dtype=bool)
        alone[:, node] = True
        rates[has] = np.maximum(rates[has], checked_rates(delay, slot, alone, users[has]))
    return rates


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def growing_sets(
    cached: Bool, users: Bool, delay: DelayModel, slot: int, rules: ServiceRules, most_added: int = 6
) -> list[list[tuple[Bool, int]]]:
    """Sets of holders for many nodes: who caches a block, and on the way to more.

    Next comes the node that the worst-off user hears best. What nobody caches is fetched by the node that
    suits its users best, or by one of the next two.

    Args:
        cached: Caching nodes of each block, (blocks, nodes).
        users: Users of each block, (blocks, users).
        delay: The radio.
        slot: Slot of the trace.
        rules: With CoMP the signals of holders add up.
        most_added: Nodes added at most, unless some user is still out of reach.

    Returns:
        Of each block, sets that start with the smallest, and the node that fetches from the cloud (-1: none).
    """
    alone = link_rates(delay, slot, users.shape[1], cached.shape[1])
    held: Bool = np.asarray(cached.any(axis=1))
    lists: list[list[tuple[Bool, int]]] = []
    worst = np.stack([alone[group].min(axis=0) for group in users])
    ranked = np.argsort(-worst, axis=1, kind="stable")
    holders = cached.copy()
    holders[~held, ranked[~held, 0]] = True
    steps = [holders.copy()]
    for _ in range(cached.shape[1] - 1):
        reached: Bool = np.asarray(holders.astype(np.float64) @ (alone.T > 0) > 0)
        if len(steps) > most_added and (reached | ~users).all():
            break
        full: Bool = np.asarray(holders.all(axis=1))
        following = _next_node(alone, users, holders, rules)
        holders[~full, following[~full]] = True
        steps.append(holders.copy())
    for row in range(cached.shape[0]):
        first = -1 if held[row] else int(ranked[row, 0])
        options = [(steps[0][row], first)]
        if not held[row]:
            options += [(np.arange(cached.shape[1]) == node, int(node)) for node in ranked[row, 1:3]]
        lists.append(options + [(step[row], first) for step in steps[1:]])
    return lists
