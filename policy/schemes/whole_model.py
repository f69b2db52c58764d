"""Coarse caching: each node keeps whole models; nothing is shared, in the store or on the air."""

from functools import partial

import numpy as np

from policy.place.greedy import fill_by_score
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import cell_counts, fill, settle
from policy.schemes.ewma_greedy import EwmaGreedy
from policy.slot.tables import ServiceRules


class WholeModel:
    """Most asked for in the node's cell first; a model is one block here."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.95) -> None:
        self._scenario, self._memory = scenario, memory

    def decide(self, observation: Observation) -> Placement:
        """Keep the most popular models that fit."""
        scenario = self._scenario
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        scores = counts + 1e-3 * counts.mean(axis=0) + 1e-6 * observation.at_hand
        return Placement(holds=fill(scenario, scores, observation.at_hand), value=scores)


class SharedAir:
    """Whole models in the store, each paid in full, but a block is broadcast once to all who miss it."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.7) -> None:
        self._scenario, self._memory = scenario, memory
        self._models = np.zeros((scenario.config.num_nodes, scenario.catalog.num_models), dtype=bool)

    def decide(self, observation: Observation) -> Placement:
        """Choose models by count with undeduplicated sizes; hold the blocks of the chosen ones."""
        scenario = self._scenario
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        scores = counts + 1e-3 * counts.mean(axis=0) + 1e-6 * self._models
        self._models = fill_by_score(
            scores,
            scenario.catalog.model_bytes,
            scenario.capacity_bytes,
            self._models,
            scenario.config.update_budget_bytes,
        )
        wanted = self._models @ scenario.catalog.members
        return Placement(holds=settle(scenario, wanted, observation.at_hand))


ENTRY = SchemeEntry(
    name="whole-model",
    start=WholeModel,
    paper="Coarse-grained baseline of Fu et al., arXiv 2509.19341; LFU on whole models, our reading",
    rules=ServiceRules(whole_models=True),
)

GREEDY_ENTRY = SchemeEntry(
    name="whole-model-greedy",
    start=partial(EwmaGreedy, update=0.75),
    paper="Coarse caching with the best objective: EWMA-greedy on whole models (ours)",
    rules=ServiceRules(whole_models=True),
)

SHARED_ENTRY = SchemeEntry(
    name="whole-model-shared-air",
    start=SharedAir,
    paper="Coarse caching, but blocks are broadcast once to all who miss them: the milder coarse baseline",
)
