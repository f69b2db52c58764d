"""What unlimited caches would reach: holds for every timing, objective, policy and migration."""

import numpy as np

from policy.interfaces import Float, checked_rates
from policy.scenario import World
from policy.slot.order import MAX_EXACT_GROUPS, best_order, mean_completion
from policy.slot.order_bounds import group_needs, sidney_turns
from policy.slot.tables import mask_bits


def unlimited_costs(world: World, backlog: bool | None = None) -> Float:
    """Lower bound on each slot's cost: every block is everywhere, its fastest set sends, nothing moves.

    The order is exact up to `MAX_EXACT_GROUPS` distinct needs; beyond, the bound of Sidney's decomposition.
    Where backlog is carried, users also wait for the least work that earlier slots can have left, see
    `least_backlog_s`.

    Args:
        world: The world.
        backlog: Whether backlog counts; None: as the scenario says.

    Returns:
        (slots,), s; in mean user delay or in the sum over blocks, as the scenario counts.
    """
    slots, config = world.trace.num_slots, world.scenario.config
    alone = np.array([_slot_s(world, slot) for slot in range(slots)])
    carried = config.carries_backlog if backlog is None else backlog
    if not carried or config.objective == "total":
        return alone
    waiting = [world.needs(slot).any(axis=1).sum() / max(world.asked(slot).sum(), 1) for slot in range(slots)]
    return np.asarray(alone + least_backlog_s(world) * np.array(waiting))


def least_backlog_s(world: World) -> Float:
    """Work of the band that every policy carries into each slot at least, (slots,), s (Lindley, 1952).

    Each missed block is on the air for as long at least as the worst-placed of its users would need it alone
    from its best set of nodes, however its users are grouped. The band does at most a slot's work in a slot.
    """
    left, slot_s = [0.0], world.scenario.config.slot_s
    for slot in range(world.trace.num_slots - 1):
        left.append(max(left[-1] + _least_air_s(world, slot) - slot_s, 0.0))
    return np.array(left)


def _least_air_s(world: World, slot: int) -> float:
    """Least time on the air in a slot, s."""
    needs, nodes = world.needs(slot), world.scenario.config.num_nodes
    users = np.flatnonzero(needs.any(axis=1))
    if users.size == 0:
        return 0.0
    sets = mask_bits(nodes)[1:]
    receivers = np.zeros((users.size * len(sets), needs.shape[0]), dtype=bool)
    receivers[np.arange(len(receivers)), np.repeat(users, len(sets))] = True
    rates = checked_rates(world.delay, slot, np.tile(sets, (users.size, 1)), receivers)
    best = rates.reshape(users.size, len(sets)).max(axis=1)
    slowest = np.where(needs[users], 1.0 / best[:, None], 0.0).max(axis=0)
    return float(slowest @ (8.0 * world.sizes(slot)))


def _slot_s(world: World, slot: int) -> float:
    air = world.table(slot).air_s.min(axis=1)
    if world.scenario.config.objective == "total":
        return float(air.sum())
    needs, asked = world.needs(slot), int(world.asked(slot).sum())
    groups = group_needs(needs)
    if asked == 0 or groups.weight.size == 0:
        return 0.0
    if groups.weight.size <= MAX_EXACT_GROUPS:
        users = float(groups.weight.sum())
        return mean_completion(best_order(needs, air), needs, air) * users / asked
    return sidney_turns(groups, air).lower_s / asked
