"""Which nodes fetch a block before it is sent, and the slot served with the best choice found."""

from dataclasses import replace

import numpy as np

from policy.config import ScenarioConfig
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int
from policy.place.holders import greedy_holders
from policy.scenario import World
from policy.serving import serve_planned
from policy.slot.backlog import Carried
from policy.slot.dynamics import SlotOutcome, serve_slot
from policy.slot.lower_bounds import asked_seconds_per_bit, slot_lower_bound
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules, from_masks, to_masks


def serve_best(
    world: World, slot: int, placement: Bool, rules: ServiceRules, carried: Carried | None = None
) -> SlotOutcome:
    """Serve a slot with the best forms, migration, groups of users and order that are known for its timing.

    Additive costs: exact migration for few nodes, in the forms with the fewest bytes. When copies overlap
    with broadcasts, all choices hang on one another: they are searched together, see `policy.serving`, for
    each of `World.deliveries`; the one with the smallest mean delay is taken, so that no form throughout
    would have been faster. Of what cannot be faster than what is known, by a lower bound, no plan is made.
    """
    if not _overlaps(world.scenario.config):
        problem = world.problem(slot, placement, rules, carried)
        outcome = _serve(world, problem, separable_holders(world, problem))
        return replace(outcome, alone=world.alone(slot))
    air, ways = world.air_times(slot), world.deliveries(slot, placement)
    problems = [world.problem(slot, placement, rules, carried, way) for way in ways]
    least = [_least_delay_s(problem, air) if len(ways) > 1 else 0.0 for problem in problems]
    served: list[SlotOutcome] = []
    for at in np.argsort(least, kind="stable").tolist():
        if not served or least[at] < min(outcome.mean_delay_s for outcome in served):
            served.append(replace(serve_planned(problems[at], air), alone=ways[at].alone))
    return min(served, key=lambda outcome: outcome.mean_delay_s)


def _least_delay_s(problem: SlotProblem, air: AirTimes) -> float:
    """A bound on how fast a slot can be served, s; 0 where there is none.

    That is where there are too many nodes, or blocks may be on the air at once, of which it does not know.
    """
    if problem.num_nodes > MAX_TABLE_NODES or problem.at_once > 1:
        return 0.0
    return slot_lower_bound(problem, asked_seconds_per_bit(problem, air))


def separable_holders(world: World, problem: SlotProblem) -> Bool:
    """Holders of each missed block, each block chosen for itself, (nodes, blocks); exact for few nodes."""
    if problem.num_nodes > MAX_TABLE_NODES:
        return greedy_holders(problem)
    target, masks = world.table(problem.slot, problem.rules).target, to_masks(problem.cached)
    chosen = np.where(problem.needs.any(axis=0), target[np.arange(masks.size), masks], masks)
    return from_masks(chosen, problem.num_nodes)


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
    outcome = _serve(world, world.problem(slot, placement, rules, carried), holders, order)
    return replace(outcome, alone=world.alone(slot))


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
    """Air times from the table, if there is one and it speaks of single broadcasts of blocks as they are."""
    rules = problem.rules
    if problem.num_nodes > MAX_TABLE_NODES or not (rules.comp and rules.share_air):
        return None
    if problem.air_bytes is not None:
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
