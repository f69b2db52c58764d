"""Which nodes fetch a block before it is sent, and the slot served with the best choice found."""

import numpy as np

from policy.config import ScenarioConfig
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int
from policy.place.holders import greedy_holders
from policy.scenario import World
from policy.slot.dynamics import SlotOutcome, serve_slot
from policy.slot.overlap import Parcel, base_orders, best_overlap, parcels, queue_holders
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules, from_masks, migration_table, to_masks

HOP_WEIGHTS = (1.0, 0.3)
"""Prices of a copy that are tried when copies overlap with broadcasts, in units of its time."""


def serve_best(world: World, slot: int, placement: Bool, rules: ServiceRules) -> SlotOutcome:
    """Serve a slot with the best migration and order that are known for its timing.

    Additive timing: exact migration for few nodes. When copies overlap with broadcasts, both choices hang on
    one another and on all other blocks. Then the separable optimum at two prices of a copy and, for pipelined
    timing, a choice that sees the queues are each tried with a few orders; the least mean delay is served.
    With CoMP and shared air it is never worse than the separable optimum in its plain order.
    """
    if not _overlaps(world.scenario.config):
        return serve_with(world, slot, placement, separable_holders(world, slot, placement, rules), rules)
    if placement.shape[0] > MAX_TABLE_NODES:
        return _serve_many(world, slot, placement, rules)
    holders, order = _search(world, slot, placement, rules)
    return serve_with(world, slot, placement, holders, rules, order)


def separable_holders(
    world: World, slot: int, placement: Bool, rules: ServiceRules, hop_weight: float = 1.0
) -> Bool:
    """Holders of each missed block, each block chosen for itself, (nodes, blocks); exact for few nodes."""
    needs = world.needs(slot)
    if placement.shape[0] > MAX_TABLE_NODES:
        return greedy_holders(world.scenario, world.delay, slot, needs, placement, rules, hop_weight)
    table, masks = world.table(slot, rules), to_masks(placement)
    target = table.target
    if hop_weight != 1.0:
        scenario = world.scenario
        sizes, links = scenario.catalog.sizes_bytes, scenario.config.links
        _, target = migration_table(table.air_s, sizes, links, rules.migration, hop_weight)
    chosen = np.where(needs.any(axis=0), target[np.arange(masks.size), masks], masks)
    return from_masks(chosen, placement.shape[0])


def _search(world: World, slot: int, placement: Bool, rules: ServiceRules) -> tuple[Bool, Int]:
    """Holders and order with the least mean delay among the candidates, on the clock of `slot.overlap`."""
    config, sizes = world.scenario.config, world.scenario.catalog.sizes_bytes
    nodes, needs, air = placement.shape[0], world.needs(slot), world.table(slot, rules).air_s
    blocks, wanted = np.arange(sizes.size), np.flatnonzero(needs.any(axis=0))
    if wanted.size == 0:
        return placement, wanted
    tries = [separable_holders(world, slot, placement, rules, w) for w in HOP_WEIGHTS[: 1 + rules.migration]]
    _check_reach(world, slot, tries[0], air)
    works = [
        parcels(wanted, placement, holders, sizes, air[blocks, to_masks(holders)], config.links)
        for holders in tries
    ]
    fetch_s, air_s = _fetch_s(works[0], sizes.size), _air_s(works[0], sizes.size)
    orders = base_orders(needs, fetch_s, air_s, config.timing)
    if rules.migration and config.timing == "pipelined":
        seen = queue_holders(orders[0], to_masks(placement), air, sizes, config.links, config.timing)
        tries.append(from_masks(seen, nodes))
        works.append(parcels(wanted, placement, tries[-1], sizes, air[blocks, seen], config.links))
    found = [best_overlap(orders, work, nodes, needs, config.timing) for work in works]
    best = int(np.argmin([value for _, value in found]))
    return tries[best], np.array(found[best][0], dtype=np.int64)


def _serve_many(world: World, slot: int, placement: Bool, rules: ServiceRules) -> SlotOutcome:
    """Without tables: the separable choice, then the best of a few orders by its measured air times."""
    config, sizes = world.scenario.config, world.scenario.catalog.sizes_bytes
    holders = separable_holders(world, slot, placement, rules)
    plain = serve_with(world, slot, placement, holders, rules)
    if not plain.broadcasts:
        return plain
    air, needs = np.zeros(sizes.size), world.needs(slot)
    for cast in plain.broadcasts:
        air[cast.block] += cast.end_s - cast.start_s
    wanted = np.flatnonzero(needs.any(axis=0))
    work = parcels(wanted, placement, holders, sizes, air, config.links)
    orders = base_orders(needs, _fetch_s(work, sizes.size), air, config.timing)
    order, _ = best_overlap(orders, work, placement.shape[0], needs, config.timing)
    other = serve_with(world, slot, placement, holders, rules, np.array(order, dtype=np.int64))
    return min(plain, other, key=lambda outcome: outcome.mean_delay_s)


def _fetch_s(work: dict[int, Parcel], blocks: int) -> Float:
    """Time of all copies of each block one after another, (blocks,), s."""
    made = np.zeros(blocks)
    for block, item in work.items():
        cloud = 0.0 if item.cached else item.cloud_s - item.hop_s
        made[block] = cloud + item.hop_s * len(item.missing)
    return made


def _air_s(work: dict[int, Parcel], blocks: int) -> Float:
    made = np.zeros(blocks)
    for block, item in work.items():
        made[block] = item.air_s
    return made


def serve_with(
    world: World,
    slot: int,
    placement: Bool,
    holders: Bool,
    rules: ServiceRules,
    order: Int | None = None,
) -> SlotOutcome:
    """Serve a slot with given holders and, if given, in a given order; see `slot.dynamics.serve_slot`."""
    scenario = world.scenario
    return serve_slot(
        scenario.catalog,
        world.delay,
        slot,
        asked=world.asked(slot),
        needs=world.needs(slot),
        cached=placement,
        holders=holders,
        links=scenario.config.links,
        timing=scenario.config.timing,
        rules=rules,
        order=order,
        air_s=_known_air(world, slot, holders, rules),
    )


def first_holders(world: World, slot: int) -> Bool:
    """The one node that best sends each missed block when it has to come from the cloud, (nodes, blocks)."""
    nodes = world.scenario.config.num_nodes
    table = world.table(slot, ServiceRules(migration=False))
    needed = world.needs(slot).any(axis=0)
    return np.asarray(from_masks(table.target[:, 0], nodes) & needed)


def _overlaps(config: ScenarioConfig) -> bool:
    return config.timing != "additive" and config.objective == "mean-user"


def _known_air(world: World, slot: int, holders: Bool, rules: ServiceRules) -> Float | None:
    """Air times from the table, if there is one and it speaks of single broadcasts."""
    if holders.shape[0] > MAX_TABLE_NODES or not (rules.comp and rules.share_air):
        return None
    air = world.table(slot, rules).air_s
    _check_reach(world, slot, holders, air)
    return np.asarray(air[np.arange(holders.shape[1]), to_masks(holders)])


def _check_reach(world: World, slot: int, holders: Bool, air_s: Float) -> None:
    """Refuse holders that some user cannot hear.

    Raises:
        PlacementError: If there is such a user.
    """
    air = air_s[np.arange(holders.shape[1]), to_masks(holders)]
    deaf = np.flatnonzero(world.needs(slot).any(axis=0) & np.isinf(air))
    if deaf.size:
        raise PlacementError(f"nobody can send block {deaf[0]} to all who miss it in slot {slot}")
