"""Play a scheme through a world: observe, decide, update caches, serve."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from policy.config import ScenarioConfig
from policy.interfaces import Bool, Float
from policy.play.migration import serve_best, serve_with
from policy.play.scheme import History, Observation, SchemeEntry
from policy.scenario import World
from policy.slot.dynamics import SlotOutcome
from policy.slot.tables import ServiceRules
from policy.slot.updates import cache_update, check_placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One world, played to its end."""

    outcomes: tuple[SlotOutcome, ...]
    """One for each slot."""
    placements: tuple[Bool, ...]
    """Placement in each slot, each (nodes, blocks)."""
    cost_s: Float
    """Cost of each slot, see `slot_cost_s`, (slots,)."""
    decision_s: Float
    """Time the scheme took to decide each slot, (slots,), s."""
    message_bytes: int
    """Bytes nodes sent one another to decide."""

    @property
    def mean_cost_s(self) -> float:
        """Mean cost of a slot, s."""
        return float(self.cost_s.mean())


def slot_cost_s(outcome: SlotOutcome, config: ScenarioConfig) -> float:
    """Delay as the config counts it, plus the weighted time of the cache update."""
    delay = outcome.mean_delay_s if config.objective == "mean-user" else outcome.total_delay_s
    return delay + config.update_weight * outcome.update.seconds


def play_slot(
    world: World,
    slot: int,
    before: Bool,
    placement: Bool,
    rules: ServiceRules | None = None,
    holders: Bool | None = None,
) -> SlotOutcome:
    """Change the caches, then serve the slot's requests.

    Args:
        world: The world, already as the rules see it (`World.under`).
        slot: Slot.
        before: Placement of the previous slot, (nodes, blocks).
        placement: Placement for this slot, (nodes, blocks).
        rules: Ablations.
        holders: Nodes that shall hold each block when it is sent (placement plus migration targets); None:
            the best known, see `policy.play.migration.serve_best`.

    Raises:
        PlacementError: If the placement breaks a capacity or the update budget.
    """
    rules = rules or ServiceRules()
    scenario, config = world.scenario, world.scenario.config
    sizes = scenario.catalog.sizes_bytes
    check_placement(placement, before, sizes, scenario.capacity_bytes, config.update_budget_bytes)
    if holders is None:
        outcome = serve_best(world, slot, placement, rules)
    else:
        outcome = serve_with(world, slot, placement, holders, rules)
    return replace(outcome, update=cache_update(before, placement, sizes, config.links))


def empty_placement(world: World) -> Bool:
    """All caches empty, (nodes, blocks)."""
    return np.zeros((world.scenario.config.num_nodes, world.scenario.catalog.num_blocks), dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One slot as played."""

    placement: Bool
    outcome: SlotOutcome
    decision_s: float
    message_bytes: int


def play(world: World, entry: SchemeEntry, rng: np.random.Generator) -> Iterator[Step]:
    """Play a scheme slot by slot, starting with empty caches; the scheme sees only the past.

    Args:
        world: The world in blocks; schemes on whole models are shown whole models.
        entry: The scheme's entry in the registry.
        rng: Passed to the scheme.

    Yields:
        One `Step` a slot.
    """
    seen = world.under(entry.rules)
    scheme = entry.start(seen.scenario, rng)
    placement = empty_placement(seen)
    for slot in range(world.trace.num_slots):
        began = time.perf_counter()
        history = History(seen, slot, entry.rules)
        observation = Observation(slot=slot, placement=placement, history=history)
        decided = scheme.decide(observation)
        spent = time.perf_counter() - began
        outcome = play_slot(seen, slot, placement, decided.holds, entry.rules)
        placement = decided.holds
        yield Step(
            placement=placement, outcome=outcome, decision_s=spent, message_bytes=decided.message_bytes
        )


def rollout(world: World, entry: SchemeEntry, rng: np.random.Generator) -> Episode:
    """Play a scheme through a whole world."""
    steps = list(play(world, entry, rng))
    config = world.scenario.config
    return Episode(
        outcomes=tuple(step.outcome for step in steps),
        placements=tuple(step.placement for step in steps),
        cost_s=np.array([slot_cost_s(step.outcome, config) for step in steps]),
        decision_s=np.array([step.decision_s for step in steps]),
        message_bytes=sum(step.message_bytes for step in steps),
    )
