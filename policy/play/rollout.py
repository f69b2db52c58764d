"""Play a scheme through a world: observe, decide, update caches, serve, carry over what is not done."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from policy.config import ScenarioConfig
from policy.interfaces import Bool, Float
from policy.play.migration import serve_best, serve_with
from policy.play.scheme import History, Observation, Placement, SchemeEntry
from policy.scenario import World
from policy.slot.backlog import Carried, carry, load_of
from policy.slot.dynamics import NO_UPDATE, SlotOutcome
from policy.slot.tables import ServiceRules
from policy.slot.updates import CacheUpdate, UpdateRoom, bring, cache_update, check_placement


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
    """Delay as the config counts it; with additive timing plus the weighted time of the cache update."""
    delay = outcome.mean_delay_s if config.objective == "mean-user" else outcome.total_delay_s
    return delay + config.update_weight * outcome.update.seconds if config.charges_updates else delay


class Course:
    """The course of one world, slot by slot: its caches, and what each slot leaves to the next."""

    def __init__(self, world: World, rules: ServiceRules | None = None) -> None:
        """Start with empty caches, idle links and an idle band.

        Args:
            world: The world, already as the rules see it (`World.under`).
            rules: Ablations.
        """
        self.world, self.rules = world, rules or ServiceRules()
        config, blocks = world.scenario.config, world.scenario.catalog.num_blocks
        idle_s = np.inf if config.charges_updates else config.slot_s
        self.slot = 0
        """The slot to come."""
        self.placement = empty_placement(world)
        """Caches now, (nodes, blocks)."""
        self._update = NO_UPDATE
        self.carried = Carried.first(config.num_nodes, blocks, idle_s)
        """What the last slot left."""

    @property
    def last_update(self) -> CacheUpdate:
        """How the caches were last changed."""
        return self._update

    @property
    def at_hand(self) -> Bool:
        """Copies that are cached, or were fetched to serve the last slot, (nodes, blocks)."""
        return self.placement | self.carried.fetched

    def observation(self) -> Observation:
        """What a scheme sees before the coming slot."""
        return Observation(
            slot=self.slot,
            placement=self.placement,
            history=History(self.world, self.slot, self.rules),
            at_hand=self.at_hand,
            idle_s=self.carried.idle_s,
        )

    def step(self, decided: Placement) -> SlotOutcome:
        """Change the caches as far as the links allow, serve the slot, move on; see `update` and `serve`."""
        self.update(decided)
        return self.serve()

    def update(self, decided: Placement) -> CacheUpdate:
        """Change the caches to what a scheme wants, as far as the links allow, see `slot.updates.bring`.

        Raises:
            PlacementError: If the placement does not fit.
        """
        scenario, config = self.world.scenario, self.world.scenario.config
        sizes = scenario.catalog.sizes_bytes
        check_placement(decided.holds, self.placement, sizes, scenario.capacity_bytes)
        room = UpdateRoom(
            at_hand=self.at_hand, idle_s=self.carried.idle_s, budget_bytes=config.update_budget_bytes
        )
        self.placement, self._update = bring(
            self.placement,
            decided.holds,
            self._value(decided),
            room,
            sizes,
            scenario.capacity_bytes,
            config.links,
        )
        return self._update

    def serve(self, holders: Bool | None = None) -> SlotOutcome:
        """Serve the slot from the caches and move on; `holders` as for `play_slot`."""
        world, config = self.world, self.world.scenario.config
        outcome = _served(world, self.slot, self.placement, self.rules, holders, self.carried)
        moved = (outcome.transfers, outcome.broadcasts)
        after = carry(self.carried, *moved, config.slot_s, backlog=config.carries_backlog)
        if outcome.alone is not None:
            after = replace(after, fetched=after.fetched & ~outcome.alone)  # other forms are not cached
        load = load_of(*moved, self._update, after)
        if not config.charges_updates:
            self.carried = after
        self.slot += 1
        return replace(outcome, update=self._update, load=load)

    def _value(self, decided: Placement) -> Float:
        """What each copy is worth: as the scheme says, else what more models share comes first."""
        shape = self.placement.shape
        if decided.value is None:
            return np.broadcast_to(self.world.scenario.catalog.members.sum(axis=0, dtype=np.float64), shape)
        if decided.value.shape != shape:
            raise ValueError(f"values of copies have shape {shape}, got {decided.value.shape}")
        return decided.value


def play_slot(
    world: World,
    slot: int,
    before: Bool,
    placement: Bool,
    rules: ServiceRules | None = None,
    holders: Bool | None = None,
) -> SlotOutcome:
    """One slot by itself: change the caches in whole, then serve its requests on idle links and band.

    Args:
        world: The world, already as the rules see it (`World.under`).
        slot: Slot.
        before: Placement of the previous slot, (nodes, blocks).
        placement: Placement for this slot, (nodes, blocks).
        rules: Ablations.
        holders: Nodes that shall hold each block when it is sent (placement plus migration targets); None:
            the best known, see `policy.play.migration.serve_best`.

    Raises:
        PlacementError: If the placement breaks a capacity.
    """
    scenario = world.scenario
    sizes = scenario.catalog.sizes_bytes
    check_placement(placement, before, sizes, scenario.capacity_bytes)
    outcome = _served(world, slot, placement, rules or ServiceRules(), holders, None)
    return replace(outcome, update=cache_update(before, placement, sizes, scenario.config.links))


def _served(
    world: World,
    slot: int,
    placement: Bool,
    rules: ServiceRules,
    holders: Bool | None,
    carried: Carried | None,
) -> SlotOutcome:
    if holders is None:
        return serve_best(world, slot, placement, rules, carried)
    return serve_with(world, slot, placement, holders, rules, carried=carried)


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
    course = Course(world.under(entry.rules), entry.rules)
    scheme = entry.start(course.world.scenario, rng)
    for _ in range(world.trace.num_slots):
        began = time.perf_counter()
        decided = scheme.decide(course.observation())
        spent = time.perf_counter() - began
        outcome = course.step(decided)
        yield Step(
            placement=course.placement,
            outcome=outcome,
            decision_s=spent,
            message_bytes=decided.message_bytes,
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
