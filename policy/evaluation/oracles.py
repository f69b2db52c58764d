"""Costs that no honest scheme can see: what is left to gain in one world."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from policy.config import ScenarioConfig
from policy.interfaces import Float
from policy.place.greedy import greedy_placement
from policy.place.worth import worth_in_turn
from policy.play.rollout import rollout
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.estimates import update_table
from policy.slot.tables import MAX_TABLE_NODES
from policy.world.cheap_radio import ProxyDelay

CLAIRVOYANT = "bound:one-step-clairvoyant"
PLANNER = "bound:true-planner"
CAUSAL = "bound:causal-lower"
HINDSIGHT_LOWER = "bound:hindsight-lower"
HINDSIGHT_UPPER = "bound:hindsight-upper"

BOUNDS = {
    # as in results: key in the report
    CLAIRVOYANT: "one_step_clairvoyant_s",
    PLANNER: "true_planner_s",
    CAUSAL: "causal_lower_s",
    HINDSIGHT_LOWER: "hindsight_lower_s",
    HINDSIGHT_UPPER: "hindsight_upper_s",
}

FUTURES = 64
"""Futures the planner with true dynamics samples per slot."""
CAUSAL_FUTURES = 32
"""Futures a slot behind the bound for policies that do not see the future."""


def bounds_for(scenario: Scenario) -> tuple[str, ...]:
    """Bounds that exist for a scenario: all of them where tables of all sets of nodes do.

    None where blocks may be on the air at once: the bounds are of a band that carries one after another.
    """
    config = scenario.config
    exist = config.num_nodes <= MAX_TABLE_NODES and config.air.superpose == 1
    return tuple(BOUNDS) if exist else ()


def is_additive(config: ScenarioConfig) -> bool:
    """Whether cost is a sum over blocks with nothing that couples slots but the caches."""
    additive = config.objective == "total" and config.timing == "additive"
    return additive and bool(np.isinf(config.update_budget_bytes))


def bound_cost_s(world: World, name: str, rng: np.random.Generator) -> float:
    """Mean cost of a slot under an oracle, or a side of the hindsight bracket, s; nan if it is not known.

    Where cost is not additive the bracket is wide: from unlimited caches to the one-step clairvoyant (or to
    the best scheme that was played, see `compare`).
    """
    additive = is_additive(world.scenario.config)
    if name == HINDSIGHT_LOWER and not additive:
        from policy.bounds import unlimited_costs

        return float(unlimited_costs(world).mean())
    if name == CLAIRVOYANT or (name == HINDSIGHT_UPPER and not additive):
        tables = [world.planning_table(slot) for slot in range(world.trace.num_slots)]
        return _greedy_cost_s(world, tables, rng)
    if name == PLANNER:
        known = bool(world.hidden) and isinstance(world.delay, ProxyDelay)
        return _planner_cost_s(world, rng) if known else float("nan")
    if name == CAUSAL:
        return _causal_cost_s(world, rng)
    return _bracket_s(world)[0 if name == HINDSIGHT_LOWER else 1]


@lru_cache(maxsize=1)
def _bracket_s(world: World) -> tuple[float, float]:
    """Both sides of the hindsight bracket; remembered, since they are asked for one after the other."""
    from policy.batched import batch_worlds
    from policy.bounds import hindsight_bracket

    bracket = hindsight_bracket(batch_worlds([world]))
    return float(bracket.lower_s[0]), float(bracket.upper_s[0])


def _causal_cost_s(world: World, rng: np.random.Generator) -> float:
    """No policy that does not see the future does better in the mean over worlds, s; nan if not known."""
    from policy.bounds import causal_bound, sampled_futures

    if not world.hidden or world.scenario.catalog.forms is not None:
        return float("nan")
    return causal_bound(world, sampled_futures(world, rng, CAUSAL_FUTURES)).lower_s


def _planner_cost_s(world: World, rng: np.random.Generator) -> float:
    from policy.bounds.oracles import mean_future_table

    links = world.scenario.config.planning_links
    tables = [mean_future_table(world, t, rng, FUTURES, links) for t in range(world.trace.num_slots)]
    return _greedy_cost_s(world, [table.double().numpy() for table in tables], rng)


def _greedy_cost_s(world: World, believed_s: Sequence[Float], rng: np.random.Generator) -> float:
    """Play the greedy on believed tables, each slot known before it is decided."""

    class Oracle:
        def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
            self._scenario = scenario

        def decide(self, observation: Observation) -> Placement:
            scenario, before = self._scenario, observation.at_hand
            sizes = scenario.catalog.sizes_bytes
            table = believed_s[observation.slot] + update_table(scenario, before)
            holds = greedy_placement(
                table,
                sizes,
                scenario.capacity_bytes,
                before,
                scenario.config.update_budget_bytes,
            )
            return Placement(holds=holds, value=worth_in_turn(table, sizes, before, holds))

    return rollout(world, SchemeEntry(name="oracle", start=Oracle, paper=""), rng).mean_cost_s
