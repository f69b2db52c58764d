"""How fast a slot can be served at best: bounds that hold for every migration, order and split of users.

For user k that misses the blocks D_k, with t_k(B) the air time of one bit to k alone from the nodes B:

    band    users are done one after another. When all of a set S are, every block that some k of S misses has
            been sent to the slowest of them: T(S) = sum_j bits_j max over k in S that miss j of t_k.
            So the delays add up to at least the least sum of T over the prefixes of an order of users.
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
from policy.slot.tables import ServiceRules, air_table, migration_table, to_masks

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


def slot_lower_bound(problem: SlotProblem) -> float:
    """No way to serve a slot from its placement has a smaller mean user delay, s.

    Raises:
        ValueError: If there are too many nodes for tables of all sets.
    """
    nodes, every = problem.num_nodes, np.arange(problem.num_blocks)
    users = problem.needs.shape[0]
    demand = SlotNeeds(
        needs=problem.needs,
        asked=int(problem.asked.sum()),
        per_bit=user_seconds_per_bit(problem.delay, problem.slot, users, nodes, problem.rules),
        air_bits=problem.air_bits(every),
        wire_bits=problem.wire_bits(every),
    )
    if demand.asked == 0:
        return 0.0
    held = to_masks(problem.cached)
    tables = placement_tables(demand, problem.links, problem.timing, problem.rules)
    by_table = float(tables[:, every, held].sum(axis=1).max())
    waits = problem.band_free_s * int(problem.needs.any(axis=1).sum()) / demand.asked
    return max(by_table, band_bound(demand) + waits)


def band_bound(demand: SlotNeeds) -> float:
    """Bound on mean user delay whatever is cached, s: the band alone, every user at its fastest."""
    fastest = demand.per_bit[:, 1:].min(axis=1)
    users = np.flatnonzero(demand.needs.any(axis=1))
    users = users[np.argsort(fastest[users], kind="stable")]
    parts = -(-users.size // MAX_USERS)
    total = sum(_least_sum(demand, fastest, users[part::parts]) for part in range(parts))
    return total / demand.asked if demand.asked else 0.0


def _least_sum(demand: SlotNeeds, fastest: Float, users: Int) -> float:
    """Least sum of completion times over all orders of some users, s: dynamic programming over subsets."""
    needed, bits = _patterns(demand.needs[users], demand.air_bits)
    done = np.zeros((1, bits.size))  # slowest user served of each kind of block, for each subset of users
    for user, seconds in zip(needed, fastest[users], strict=True):
        done = np.concatenate([done, np.maximum(done, np.where(user, seconds, 0.0))])
    busy, best = done @ bits, np.zeros(2**users.size)
    for subsets, rests in _levels(users.size):
        best[subsets] = busy[subsets] + best[rests].min(axis=1)
    return float(best[-1])


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
