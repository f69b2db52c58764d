"""MBA-like: each cell broadcasts reusable blocks on its own; no cooperation between cells."""

import numpy as np

from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import cell_counts, fill
from policy.slot.tables import ServiceRules


class ReusableFirst:
    """Score of a block: requests of the cell that need it, weighted by how many models reuse it."""

    def __init__(
        self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.5, reuse: float = 1.5
    ) -> None:
        self._scenario, self._memory, self._reuse = scenario, memory, reuse

    def decide(self, observation: Observation) -> Placement:
        """Blocks that most requests of the cell reuse first."""
        scenario, members = self._scenario, self._scenario.catalog.members.astype(np.float64)
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        shared = members.sum(axis=0) ** self._reuse
        scores = (
            (counts + 1e-3 * counts.mean(axis=0) + 1e-6) @ members
        ) * shared + 1e-8 * observation.at_hand
        return Placement(holds=fill(scenario, scores, observation.at_hand), value=scores)


ENTRY = SchemeEntry(
    name="mba",
    start=ReusableFirst,
    paper=(
        "Broadcasting and assembling of reusable parameters, Wu, Zeng and Huang, arXiv 2307.15316: one cell, "
        "whole library at its node. Ours: limited caches filled by reuse, the best single node sends, no "
        "node-to-node copies"
    ),
    rules=ServiceRules(comp=False, migration=False),
)
