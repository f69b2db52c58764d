"""Costs by look-up in delay tables, which for additive timing is exact, and EWMA-greedy tuned by them."""

import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from policy.interfaces import Float
from policy.play.rollout import empty_placement
from policy.play.scheme import History, Observation, SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.slot.tables import to_masks
from policy.slot.updates import update_seconds
from policy.world.splits import world_seed

WEIGHTS = (0.02, 0.05, 0.1, 0.2)
"""Weights of the newest table that EWMA-greedy is tuned over."""
UPDATES = (0.07, 0.15, 0.3, 0.5, 1.0)
"""Shares of the update cost that EWMA-greedy is tuned over."""
PRIORS = (4, 8)
"""Slots that the table of an unknown world counts for, that EWMA-greedy is tuned over."""
TUNING_WORLDS = 12
"""Validation worlds of the tuning."""
FIRST_TUNING_WORLD = 3000
"""Number of the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Played:
    """One episode."""

    slots_s: Float
    """Cost of each slot, (slots,), s."""
    decision_s: float
    """CPU time of a decision, s."""

    @property
    def cost_s(self) -> float:
        """Mean cost of a slot, s."""
        return float(self.slots_s.mean())


def play_by_tables(world: World, entry: SchemeEntry, rng: np.random.Generator) -> Played:
    """Play a scheme; cost by look-up.

    Raises:
        ValueError: If the scenario's cost is not additive over blocks.
    """
    config, sizes = world.scenario.config, world.scenario.catalog.sizes_bytes
    if config.timing != "additive" or config.objective != "total":
        raise ValueError("costs can be looked up for additive timing and the objective `total` alone")
    scheme, placement, rows = entry.start(world.scenario, rng), empty_placement(world), np.arange(sizes.size)
    slots = world.trace.num_slots
    costs, spent = np.zeros(slots), 0.0
    for slot in range(slots):
        seen = Observation(
            slot=slot,
            placement=placement,
            history=History(world, slot, entry.rules),
            at_hand=placement,
            idle_s=np.full(placement.shape[0], np.inf),
        )
        began = time.process_time()
        chosen = scheme.decide(seen).holds
        spent += time.process_time() - began
        before, after = to_masks(placement), to_masks(chosen)
        costs[slot] = world.table(slot, entry.rules).cost_s[rows, after].sum()
        costs[slot] += config.update_weight * update_seconds(before, after, sizes, config.links).sum()
        placement = chosen
    return Played(slots_s=costs, decision_s=spent / slots)


def ewma_settings(plain: bool = False) -> list[str]:
    """Names of the EWMA-greedys to choose from.

    Plain: those of the first prototype, which start from nothing and charge updates in full.
    """
    if plain:
        return [f"ewma-greedy:weight={w};update=1;prior=0" for w in WEIGHTS]
    grid = product(WEIGHTS, UPDATES, PRIORS)
    return [f"ewma-greedy:weight={w};update={u};prior={p}" for w, u, p in grid]


@lru_cache(maxsize=2)
def _tuning_worlds(scenario: Scenario) -> list[World]:
    numbers = [world_seed("validation", FIRST_TUNING_WORLD + i) for i in range(TUNING_WORLDS)]
    return [scenario.world(number) for number in numbers]


def tuning_cost_s(scenario: Scenario, name: str) -> float:
    """Mean cost of a scheme on the tuning worlds of a scenario, s."""
    entry, worlds = find_scheme(name), _tuning_worlds(scenario)
    costs = [play_by_tables(world, entry, np.random.default_rng(0)).cost_s for world in worlds]
    return float(np.mean(costs))
