"""What unlimited caches would reach: holds for every timing, objective, policy and migration."""

import numpy as np

from policy.interfaces import Float
from policy.scenario import World
from policy.slot.order import MAX_EXACT_GROUPS, best_order, mean_completion
from policy.slot.order_bounds import group_needs, sidney_turns


def unlimited_costs(world: World) -> Float:
    """Lower bound on each slot's cost: every block is everywhere, its fastest set sends, nothing moves.

    The order is exact up to `MAX_EXACT_GROUPS` distinct needs; beyond, the bound of Sidney's decomposition.

    Returns:
        (slots,), s; in mean user delay or in the sum over blocks, as the scenario counts.
    """
    return np.array([_slot_s(world, slot) for slot in range(world.trace.num_slots)])


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
