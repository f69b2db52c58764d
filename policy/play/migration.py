"""Which nodes fetch a block before it is sent, and the slot served with the best choice found."""

import numpy as np

from policy.config import ScenarioConfig
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int
from policy.place.holders import greedy_holders
from policy.scenario import World
from policy.slot.backlog import Carried
from policy.slot.dynamics import SlotOutcome, serve_slot
from policy.slot.overlap import Parcel, base_orders, best_overlap, lines_of, parcels, queue_holders
from policy.slot.problem import SlotProblem
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules, from_masks, migration_table, to_masks

HOP_WEIGHTS = (1.0, 0.3)
"""Prices of a copy that are tried when copies overlap with broadcasts, in units of its time."""


def serve_best(
    world: World, slot: int, placement: Bool, rules: ServiceRules, carried: Carried | None = None
) -> SlotOutcome:
    """Serve a slot with the best migration and order that are known for its timing.

    Additive timing: exact migration for few nodes. When copies overlap with broadcasts, both choices hang on
    one another and on all other blocks. Then the separable optimum at two prices of a copy and, for pipelined
    timing, a choice that sees the queues are each tried with a few orders; the least mean delay is served.
    With CoMP and shared air it is never worse than the separable optimum in its plain order.
    """
    problem = world.problem(slot, placement, rules, carried)
    if not _overlaps(world.scenario.config):
        return _serve(world, problem, separable_holders(world, problem))
    if problem.num_nodes > MAX_TABLE_NODES:
        return _serve_many(world, problem)
    holders, order = _search(world, problem)
    return _serve(world, problem, holders, order)


def separable_holders(world: World, problem: SlotProblem, hop_weight: float = 1.0) -> Bool:
    """Holders of each missed block, each block chosen for itself, (nodes, blocks); exact for few nodes."""
    if problem.num_nodes > MAX_TABLE_NODES:
        return greedy_holders(problem, hop_weight)
    table, masks = world.table(problem.slot, problem.rules), to_masks(problem.cached)
    target = table.target
    if hop_weight != 1.0:
        migration = problem.rules.migration
        _, target = migration_table(table.air_s, problem.sizes_bytes, problem.links, migration, hop_weight)
    chosen = np.where(problem.needs.any(axis=0), target[np.arange(masks.size), masks], masks)
    return from_masks(chosen, problem.num_nodes)


def _search(world: World, problem: SlotProblem) -> tuple[Bool, Int]:
    """Holders and order with the least mean delay among the candidates, on the clock of `slot.overlap`."""
    needs, timing, rules = problem.needs, problem.timing, problem.rules
    air, blocks = world.table(problem.slot, rules).air_s, np.arange(problem.num_blocks)
    if problem.wanted.size == 0:
        return problem.cached, problem.wanted
    tries = [separable_holders(world, problem, w) for w in HOP_WEIGHTS[: 1 + rules.migration]]
    _check_reach(problem, tries[0], air)
    works = [parcels(problem, holders, air[blocks, to_masks(holders)]) for holders in tries]
    fetch_s, air_s = _fetch_s(works[0], blocks.size), _air_s(works[0], blocks.size)
    orders = base_orders(needs, fetch_s, air_s, timing)
    if rules.migration and timing == "pipelined":
        seen = queue_holders(problem, orders[0], air)
        tries.append(from_masks(seen, problem.num_nodes))
        works.append(parcels(problem, tries[-1], air[blocks, seen]))
    candidates = [best_overlap(orders, work, lines_of(problem), needs, timing) for work in works]
    best = int(np.argmin([value for _, value in candidates]))
    return tries[best], np.array(candidates[best][0], dtype=np.int64)


def _serve_many(world: World, problem: SlotProblem) -> SlotOutcome:
    """Without tables: the separable choice, then the best of a few orders by its measured air times."""
    holders = separable_holders(world, problem)
    plain = _serve(world, problem, holders)
    if not plain.broadcasts:
        return plain
    air, needs, timing = np.zeros(problem.num_blocks), problem.needs, problem.timing
    for cast in plain.broadcasts:
        air[cast.block] += cast.end_s - cast.start_s
    work = parcels(problem, holders, air)
    orders = base_orders(needs, _fetch_s(work, air.size), air, timing)
    order, _ = best_overlap(orders, work, lines_of(problem), needs, timing)
    other = _serve(world, problem, holders, np.array(order, dtype=np.int64))
    return min(plain, other, key=lambda outcome: outcome.mean_delay_s)


def _fetch_s(work: dict[int, Parcel], blocks: int) -> Float:
    """Time of all copies of each block one after another, (blocks,), s."""
    seconds = np.zeros(blocks)
    for block, item in work.items():
        cloud = 0.0 if item.cached else item.cloud_s - item.hop_s
        seconds[block] = cloud + item.hop_s * len(item.missing)
    return seconds


def _air_s(work: dict[int, Parcel], blocks: int) -> Float:
    seconds = np.zeros(blocks)
    for block, item in work.items():
        seconds[block] = item.air_s
    return seconds


def serve_with(
    world: World,
    slot: int,
    placement: Bool,
    holders: Bool,
    rules: ServiceRules,
    order: Int | None = None,
    carried: Carried | None = None,
) -> SlotOutcome:
    """Serve a slot with given holders and, if given, in a given order; see `slot.dynamics.serve_slot`."""
    return _serve(world, world.problem(slot, placement, rules, carried), holders, order)


def _serve(world: World, problem: SlotProblem, holders: Bool, order: Int | None = None) -> SlotOutcome:
    return serve_slot(problem, holders, order=order, air_s=_known_air(world, problem, holders))


def first_holders(world: World, slot: int) -> Bool:
    """The one node that best sends each missed block when it has to come from the cloud, (nodes, blocks)."""
    nodes = world.scenario.config.num_nodes
    table = world.table(slot, ServiceRules(migration=False))
    needed = world.needs(slot).any(axis=0)
    return np.asarray(from_masks(table.target[:, 0], nodes) & needed)


def _overlaps(config: ScenarioConfig) -> bool:
    return config.timing != "additive" and config.objective == "mean-user"


def _known_air(world: World, problem: SlotProblem, holders: Bool) -> Float | None:
    """Air times from the table, if there is one and it speaks of single broadcasts."""
    rules = problem.rules
    if problem.num_nodes > MAX_TABLE_NODES or not (rules.comp and rules.share_air):
        return None
    air = world.table(problem.slot, rules).air_s
    _check_reach(problem, holders, air)
    return np.asarray(air[np.arange(problem.num_blocks), to_masks(holders)])


def _check_reach(problem: SlotProblem, holders: Bool, air_s: Float) -> None:
    """Refuse holders that some user cannot hear.

    Raises:
        PlacementError: If there is such a user.
    """
    air = air_s[np.arange(problem.num_blocks), to_masks(holders)]
    deaf = np.flatnonzero(problem.needs.any(axis=0) & np.isinf(air))
    if deaf.size:
        raise PlacementError(f"nobody can send block {deaf[0]} to all who miss it in slot {problem.slot}")
