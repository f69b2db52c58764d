"""How fast a slot can be served at best: bounds that hold for every migration, order and split of users.

For user k that misses the blocks D_k, with t_k(B) the air time of one bit to k alone from the nodes B:

    band    users are done one after another. When all of a set S are, every block that some k of S misses has
            been sent to the slowest of them: T(S) = sum_j bits_j max over k in S that miss j of t_k.
            So the delays add up to at least the least sum of T over the prefixes of an order of users.
    cloud   meanwhile the links carry a first copy of all that some k of S misses and nobody caches: T(S) is
            also at least the level to which that work fills the links, from when each is free.
    own     the band carries all of D_k before k is done: delay_k >= sum_{j in D_k} bits_j t_k(B_j).
    links   the nodes' N incoming links carry the copies of D_k before k is done:
            N delay_k >= sum_{j in D_k} (|B_j| - |C_j|) S_j/R_bh, the first copy of what nobody caches from
            the cloud instead, where C_j caches block j and B_j sends it.

`own` and `links` both hold, so any mean of them does: share x own + (1 - share) x links. That is a sum over
blocks, and the best B_j of each block is a minimum over supersets of C_j: a table over placements.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from policy.config import LinkConfig, ScenarioConfig, Timing
from policy.interfaces import Bool, DelayModel, Float, Int
from policy.slot.problem import SlotProblem
from policy.slot.rates import COMP, SINGLE, AirTimes
from policy.slot.tables import ServiceRules, air_table, mask_bits, migration_table, to_masks

SHARES = (0.02, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of `own` against `links` that are tried."""
MAX_USERS = 12
"""Orders of more users than this are bounded in parts: users of one part as if the others were not there."""


def user_seconds_per_bit(
    delay: DelayModel, slot: int, users: int, nodes: int, rules: ServiceRules | None = None
) -> Float:
    """Air time of one bit to each user alone from each set of nodes, (users, 2^nodes), s; inf for none."""
    one = np.eye(users, dtype=bool)
    seconds = air_table(delay, slot, one, np.ones(users, dtype=np.int64), nodes, rules or ServiceRules())
    return np.asarray(seconds / 8.0)


def asked_seconds_per_bit(problem: SlotProblem, air: AirTimes) -> Float:
    """The same by what the radio has said of a slot; inf for who misses nothing, (users, 2^nodes), s."""
    (count, _), nodes = problem.needs.shape, problem.num_nodes
    asked, sets = np.flatnonzero(problem.needs.any(axis=1)), mask_bits(nodes)[1:]
    alone = np.arange(count) == np.repeat(asked, len(sets))[:, None]
    seconds = air.per_bit(np.tile(sets, (asked.size, 1)), alone)[COMP if problem.rules.comp else SINGLE]
    table = np.full((count, 2**nodes), np.inf)
    table[asked, 1:] = seconds.reshape(asked.size, -1)
    return table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotNeeds:
    """One slot's demand on a radio."""

    needs: Bool
    """Which user misses which block, (users, blocks)."""
    asked: int
    """Users who asked."""
    per_bit: Float
    """See `user_seconds_per_bit`, (users, 2^nodes)."""
    air_bits: Float
    """Of each block on the air, (blocks,)."""
    wire_bits: Float
    """Of each block on the wires, (blocks,)."""


def slot_lower_bound(problem: SlotProblem, per_bit: Float | None = None) -> float:
    """No way to serve a slot from its placement has a smaller mean user delay, s.

    Args:
        problem: The slot.
        per_bit: See `user_seconds_per_bit`, if known already.

    Raises:
        ValueError: If there are too many nodes for tables of all sets.
    """
    nodes, every = problem.num_nodes, np.arange(problem.num_blocks)
    if per_bit is None:
        users = problem.needs.shape[0]
        per_bit = user_seconds_per_bit(problem.delay, problem.slot, users, nodes, problem.rules)
    demand = SlotNeeds(
        needs=problem.needs,
        asked=int(problem.asked.sum()),
        per_bit=per_bit,
        air_bits=problem.air_bits(every),
        wire_bits=problem.wire_bits(every),
    )
    if demand.asked == 0:
        return 0.0
    held = to_masks(problem.cached)
    tables = placement_tables(demand, problem.links, problem.timing, problem.rules)
    by_table = float(tables[:, every, held].sum(axis=1).max())
    return max(by_table, band_bound(demand, _Wires.of(problem)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wires:
    """What the links must carry at least, and when links and band are free."""

    fetch_s: Float
    """Time of the first copy of what nobody caches, (blocks,), s; 0 for the others."""
    queued_s: Float
    """When the first 1, 2, ... of the links that are free first are so, added up, (nodes,), s."""
    band_free_s: float

    @classmethod
    def of(cls, problem: SlotProblem) -> "_Wires":
        lost = ~problem.cached.any(axis=0)
        bits = np.where(lost, problem.wire_bits(np.arange(problem.num_blocks)), 0.0)
        return cls(
            fetch_s=bits / problem.links.cloud_bit_s,
            queued_s=np.cumsum(np.sort(problem.links_free)),
            band_free_s=problem.band_free_s,
        )

    def filled_s(self, work: Float) -> Float:
        """When the links can have done so much work at the earliest, s."""
        level = (work[:, None] + self.queued_s) / np.arange(1, self.queued_s.size + 1)
        return np.where(work > 0, level.min(axis=1), 0.0)


def band_bound(demand: SlotNeeds, wires: _Wires | None = None) -> float:
    """Bound on mean user delay, s: users done one after another on the band, every one at its fastest.

    Args:
        demand: The slot.
        wires: What the links have to bring meanwhile; None: whatever is cached, and all lines free at once.
    """
    fastest = demand.per_bit[:, 1:].min(axis=1)
    users = np.flatnonzero(demand.needs.any(axis=1))
    users = users[np.argsort(fastest[users], kind="stable")]
    parts = -(-users.size // MAX_USERS)
    total = sum(_least_sum(demand, fastest, users[part::parts], wires) for part in range(parts))
    return total / demand.asked if demand.asked else 0.0


def _least_sum(demand: SlotNeeds, fastest: Float, users: Int, wires: _Wires | None) -> float:
    """Least sum of completion times over all orders of some users, s: dynamic programming over subsets."""
    needs = demand.needs[users]
    busy = _worst_of_all(needs, demand.air_bits, fastest[users])
    if wires is not None:
        fetched = _worst_of_all(needs, wires.fetch_s, np.ones(users.size))
        busy = np.maximum(busy + wires.band_free_s, wires.filled_s(fetched))
    best = np.zeros(2**users.size)
    for subsets, rests in _levels(users.size):
        best[subsets] = busy[subsets] + best[rests].min(axis=1)
    return float(best[-1])


def _worst_of_all(needs: Bool, amount: Float, price: Float) -> Float:
    """For each subset of users the amounts that any of them needs, at the highest price of those, (subsets,).

    Args:
        needs: Which user needs what, (users, blocks).
        amount: (blocks,).
        price: Of one unit for each user, (users,).
    """
    needed, amounts = _patterns(needs, amount)
    worst = np.zeros((1, amounts.size))
    for user, each in zip(needed, price, strict=True):
        worst = np.concatenate([worst, np.maximum(worst, np.where(user, each, 0.0))])
    return np.asarray(worst @ amounts)


@lru_cache(maxsize=MAX_USERS + 1)
def _levels(users: int) -> tuple[tuple[Int, Int], ...]:
    """Subsets of 1, 2, ... users, (subsets,), and what is left when one of them goes, (subsets, count)."""
    every = np.arange(2**users)
    members = (every[:, None] >> np.arange(users)) & 1 == 1
    levels = []
    for count in range(1, users + 1):
        subsets = every[members.sum(axis=1) == count]
        going = np.nonzero(members[subsets])[1].reshape(-1, count)
        levels.append((subsets, subsets[:, None] ^ (1 << going)))
    return tuple(levels)


def _patterns(needs: Bool, bits: Float) -> tuple[Bool, Float]:
    """Blocks that the same users miss, joined: needs (users, kinds) and bits (kinds,)."""
    kinds, of_block = np.unique(needs, axis=1, return_inverse=True)
    return kinds, np.bincount(of_block.reshape(-1), weights=bits, minlength=kinds.shape[1]).astype(np.float64)


def placement_tables(
    demand: SlotNeeds, links: LinkConfig, timing: Timing, rules: ServiceRules | None = None
) -> Float:
    """Bounds on mean user delay by the nodes that cache each block, (bounds, blocks, 2^nodes), s.

    One for each of `SHARES`; where nothing overlaps (`additive`), own air and own copies add up: one in all.

    Args:
        demand: The slot.
        links: Backhaul and cloud.
        timing: How transfers and broadcasts overlap.
        rules: Whether nodes may fetch from one another.
    """
    nodes = demand.per_bit.shape[1].bit_length() - 1
    asked, users = max(demand.asked, 1), demand.needs.sum(axis=0)
    deaf = np.isinf(demand.per_bit)
    needs = demand.needs.T.astype(np.float64)
    air = (needs @ np.where(deaf, 0.0, demand.per_bit)) * (demand.air_bits / asked)[:, None]
    lost = needs @ deaf.astype(np.float64)
    air = np.where(lost > 0, np.inf, air)
    copies = users * demand.wire_bits / asked
    if timing == "additive":
        return _best_migration(air, copies, links, rules)[None]
    by_air = np.concatenate([share * air for share in SHARES])
    by_copies = np.concatenate([(1.0 - share) / nodes * copies for share in SHARES])
    return _best_migration(by_air, by_copies, links, rules).reshape(len(SHARES), *air.shape)


def total_table(demand: SlotNeeds, links: LinkConfig, rules: ServiceRules | None = None) -> Float:
    """Bound on the sum of all blocks' delays, by the nodes that cache each block, (blocks, 2^nodes), s.

    Exact for radios whose rate to several users is that of the slowest, as the cheap ones are.
    """
    kinds, of_block = np.unique(demand.needs, axis=1, return_inverse=True)
    slowest = np.array([demand.per_bit[users].max(axis=0, initial=0.0) for users in kinds.T])
    air = slowest[of_block.reshape(-1)] * demand.air_bits[:, None]
    wanted = np.asarray(demand.needs.any(axis=0))
    return _best_migration(np.where(wanted[:, None], air, 0.0), wanted * demand.wire_bits, links, rules)


def _best_migration(air_s: Float, copy_bits: Float, links: LinkConfig, rules: ServiceRules | None) -> Float:
    migration = (rules or ServiceRules()).migration
    return migration_table(air_s, copy_bits / 8.0, links, migration)[0]  # type: ignore[arg-type]


def bound_tables(demand: SlotNeeds, config: ScenarioConfig) -> tuple[Float, float]:
    """Tables that each bound a slot's cost, and a bound whatever is cached.

    Returns:
        (tables, blocks, 2^nodes), s, and s.
    """
    if config.objective == "total":
        return total_table(demand, config.links)[None], 0.0
    return placement_tables(demand, config.links, config.timing), band_bound(demand)
