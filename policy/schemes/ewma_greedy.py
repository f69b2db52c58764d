"""EWMA-greedy: add the copy that saves most delay per byte on an averaged delay table. Nothing is learned."""

import numpy as np

from policy.place.greedy import greedy_placement
from policy.place.worth import worth_in_turn
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes


class EwmaGreedy:
    """Average of past delay tables, newest weighted most, plus the price of the cache update."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        weight: float = 0.1,
        update: float = 0.5,
        prior: float = 4.0,
    ) -> None:
        self._scenario, self._update = scenario, update
        self._table = AveragedTable(scenario, weight, prior)

    def decide(self, observation: Observation) -> Placement:
        """Take in the last slot's table, then place greedily."""
        scenario = self._scenario
        self._table.observe(observation)
        sizes, at_hand = scenario.catalog.sizes_bytes, observation.at_hand
        table = self._table.with_update(at_hand, self._update)
        holds = greedy_placement(
            table,
            sizes,
            scenario.capacity_bytes,
            at_hand,
            scenario.config.update_budget_bytes,
            joint=not observation.history.rules.migration,
        )
        return Placement(
            holds=holds,
            value=worth_in_turn(table, sizes, at_hand, holds),
            message_bytes=central_message_bytes(scenario),
        )


ENTRY = SchemeEntry(
    name="ewma-greedy",
    start=EwmaGreedy,
    paper="Ours: greedy by marginal delay per byte (cost-benefit submodular greedy) on averaged tables",
)
