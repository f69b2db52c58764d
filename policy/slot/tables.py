"""Delay tables of one slot: seconds of every block under every set of holders, for few nodes.

With additive timing the best migration of each block, given who caches it, is exact and separable: a minimum
over supersets of the caching nodes. Sets of nodes are integers: bit n stands for node n.
"""

from dataclasses import dataclass

import numpy as np

from policy.config import LinkConfig
from policy.interfaces import Bool, DelayModel, Float, Int, checked_rates

MAX_TABLE_NODES = 6
"""More nodes than this and tables of all sets grow too large: use `policy.place.holders`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRules:
    """How a slot is served: all on for the full scheme, one off for each ablation."""

    comp: bool = True
    """All holders send together; off: the best single holder sends."""
    migration: bool = True
    """Nodes may fetch blocks from one another; off: only what nobody holds is fetched, from the cloud."""
    share_air: bool = True
    """A block goes to all users who miss it at once; off: to one user after another."""
    groups: bool = True
    """Users of a block may be split into groups that are served one after another; off: all at once."""
    whole_models: bool = False
    """Each model is one block of its own: nothing is shared, in stores or on the air."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DelayTable:
    """One slot, all blocks, all sets of caching nodes. Rows of blocks that nobody misses are 0."""

    cost_s: Float
    """Additive delay with the best migration, given the caching nodes, (blocks, 2^nodes), s."""
    target: Int
    """Set of nodes that sends under the best migration, (blocks, 2^nodes)."""
    air_s: Float
    """Time on the air if exactly this set sends, inf for the empty set, (blocks, 2^nodes), s."""


def mask_bits(nodes: int) -> Bool:
    """Row c tells which nodes are in set c, (2^nodes, nodes)."""
    return np.asarray((np.arange(2**nodes)[:, None] >> np.arange(nodes)) % 2 == 1)


def to_masks(placement: Bool) -> Int:
    """Set of holders of each block as an integer, from (nodes, blocks) to (blocks,)."""
    return np.asarray((1 << np.arange(placement.shape[0])) @ placement.astype(np.int64), dtype=np.int64)


def from_masks(masks: Int, nodes: int) -> Bool:
    """Inverse of `to_masks`: (blocks,) to (nodes, blocks)."""
    return np.asarray((masks[None, :] >> np.arange(nodes)[:, None]) % 2 == 1)


def air_table(
    delay: DelayModel, slot: int, needs: Bool, sizes_bytes: Int, nodes: int, rules: ServiceRules
) -> Float:
    """Seconds on the air of each block if exactly a set of nodes holds it.

    Args:
        delay: The radio.
        slot: Slot of the trace.
        needs: Which user misses which block, (users, blocks).
        sizes_bytes: (blocks,).
        nodes: Number of nodes, at most `MAX_TABLE_NODES`.
        rules: Ablations.

    Returns:
        (blocks, 2^nodes), s; 0 where nobody misses the block, inf where nobody holds it.

    Raises:
        ValueError: If there are too many nodes for a table.
        RateError: If the delay model answers with no rate.
    """
    if nodes > MAX_TABLE_NODES:
        raise ValueError(
            f"tables need at most {MAX_TABLE_NODES} nodes, got {nodes}; use policy.place.holders"
        )
    table = np.zeros((needs.shape[1], 2**nodes))
    wanted = np.flatnonzero(needs.any(axis=0))
    if wanted.size == 0:
        return table
    groups, of_block = np.unique(needs.T[wanted], axis=0, return_inverse=True)
    per_bit = _seconds_per_bit(delay, slot, groups, nodes, rules)
    table[wanted] = per_bit[of_block.reshape(-1)] * (8.0 * sizes_bytes[wanted])[:, None]
    return table


def _seconds_per_bit(delay: DelayModel, slot: int, groups: Bool, nodes: int, rules: ServiceRules) -> Float:
    """Air time of one bit to each group of users from each set of nodes, (groups, 2^nodes)."""
    if not rules.share_air:
        users = np.flatnonzero(groups.any(axis=0))
        alone = np.zeros((users.size, groups.shape[1]), dtype=bool)
        alone[np.arange(users.size), users] = True
        single = _seconds_per_bit(delay, slot, alone, nodes, ServiceRules(comp=rules.comp))
        seconds = np.zeros((groups.shape[0], 2**nodes))
        for row, user in enumerate(users):
            seconds[groups[:, user]] += single[row]
        return seconds
    bits = mask_bits(nodes)
    sets = np.flatnonzero(bits.sum(axis=1) == 1) if not rules.comp else np.arange(1, 2**nodes)
    holders = np.tile(bits[sets], (groups.shape[0], 1))
    receivers: Bool = np.repeat(groups, sets.size, axis=0)
    rates = checked_rates(delay, slot, holders, receivers).reshape(groups.shape[0], sets.size)
    with np.errstate(divide="ignore"):
        times = 1.0 / rates
    seconds = np.full((groups.shape[0], 2**nodes), np.inf)
    seconds[:, sets] = times
    if not rules.comp:
        for held in range(1, 2**nodes):
            seconds[:, held] = times[:, np.flatnonzero(bits[held])].min(axis=1)
    return seconds


def migration_table(
    air_s: Float, sizes_bytes: Int, links: LinkConfig, migration: bool, hop_weight: float = 1.0
) -> tuple[Float, Int]:
    """Best additive delay of each block given its caching nodes, and the set that then sends.

    f[C] = min over B containing C of (|B| - |C|) S/R_bh + air[B], by the superset recursion
    f[C] = min(f[C], S/R_bh + f[C + n]) over one node after another. An empty C pays S/R_cloud for its
    first copy.

    Args:
        air_s: (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        links: Backhaul and cloud.
        migration: Whether nodes may fetch from one another.
        hop_weight: Price of a copy in units of its time; below 1 when copies overlap with broadcasts.

    Returns:
        Delay, s, and sending set, both (blocks, 2^nodes).
    """
    bits = 8.0 * np.asarray(sizes_bytes, dtype=np.float64)
    nodes = int(air_s.shape[1]).bit_length() - 1
    cost = air_s.copy()
    target = np.tile(np.arange(2**nodes), (air_s.shape[0], 1)).astype(np.int64)
    wanted = air_s[:, -1] > 0
    hop = np.where(wanted, hop_weight * bits / links.backhaul_bit_s, 0.0)[:, None]
    for node in range(nodes if migration else 0):
        without = np.flatnonzero((np.arange(2**nodes) >> node) % 2 == 0)
        with_node = without | (1 << node)
        better = hop + cost[:, with_node] < cost[:, without]
        cost[:, without] = np.where(better, hop + cost[:, with_node], cost[:, without])
        target[:, without] = np.where(better, target[:, with_node], target[:, without])
    singles = 1 << np.arange(nodes)
    first = singles[np.argmin(cost[:, singles], axis=1)]
    rows = np.arange(air_s.shape[0])
    cost[:, 0] = np.where(wanted, bits / links.cloud_bit_s + cost[rows, first], 0.0)
    target[:, 0] = target[rows, first]
    return cost, target


def delay_table(
    delay: DelayModel,
    slot: int,
    needs: Bool,
    sizes_bytes: Int,
    nodes: int,
    links: LinkConfig,
    rules: ServiceRules,
) -> DelayTable:
    """All of one slot: air time, best migration and its delay. See `air_table` and `migration_table`."""
    air = air_table(delay, slot, needs, sizes_bytes, nodes, rules)
    cost, target = migration_table(air, sizes_bytes, links, rules.migration)
    return DelayTable(cost_s=cost, target=target, air_s=air)
