"""What unlimited caches would reach, whatever the timing, objective, policy, migration and split of users."""

import numpy as np

from policy.interfaces import Float, checked_rates
from policy.scenario import World
from policy.slot.lower_bounds import SlotNeeds, band_bound, user_seconds_per_bit
from policy.slot.tables import mask_bits


def unlimited_costs(world: World, backlog: bool | None = None) -> Float:
    """Lower bound on each slot's cost: every block is everywhere, its fastest set sends, nothing moves.

    Users of a block may be split into groups, near ones first: see `policy.slot.lower_bounds`. Where
    backlog is carried, users also wait for the least work that earlier slots can have left, see
    `least_backlog_s`. Where blocks have several forms each weighs its smaller one and no base is sent.

    Args:
        world: The world.
        backlog: Whether backlog counts; None: as the scenario says.

    Returns:
        (slots,), s; in mean user delay or in the sum over blocks, as the scenario counts.

    Raises:
        ValueError: If blocks may be on the air at once: then a slot can be served faster.
    """
    if world.scenario.config.air.superpose > 1:
        raise ValueError("there is no such bound where blocks are on the air at once (air.superpose)")
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
    (needs, sizes), nodes = world.least(slot), world.scenario.config.num_nodes
    users = np.flatnonzero(needs.any(axis=1))
    if users.size == 0:
        return 0.0
    sets = mask_bits(nodes)[1:]
    receivers = np.zeros((users.size * len(sets), needs.shape[0]), dtype=bool)
    receivers[np.arange(len(receivers)), np.repeat(users, len(sets))] = True
    rates = checked_rates(world.delay, slot, np.tile(sets, (users.size, 1)), receivers)
    best = rates.reshape(users.size, len(sets)).max(axis=1)
    slowest = np.where(needs[users], 1.0 / best[:, None], 0.0).max(axis=0)
    return float(slowest @ (8.0 * sizes))


def _slot_s(world: World, slot: int) -> float:
    config, (needs, sizes) = world.scenario.config, world.least(slot)
    if config.objective == "total":
        return float(world.table(slot).air_s.min(axis=1).sum())
    bits = 8.0 * sizes.astype(np.float64)
    demand = SlotNeeds(
        needs=needs,
        asked=int(world.asked(slot).sum()),
        per_bit=user_seconds_per_bit(world.delay, slot, config.num_users, config.num_nodes),
        air_bits=bits,
        wire_bits=bits,
    )
    return band_bound(demand)
