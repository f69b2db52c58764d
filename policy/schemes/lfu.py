"""LFU: each node keeps the blocks that its own users needed most often, old uses fading."""

import numpy as np

from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill
from policy.schemes.lru import cell_needs


class LeastFrequentlyUsed:
    """Count of uses at the node itself, with dynamic ageing (memory 1 is plain LFU)."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.2) -> None:
        self._scenario, self._memory = scenario, memory
        self._count = np.zeros((scenario.config.num_nodes, scenario.catalog.num_blocks))

    def decide(self, observation: Observation) -> Placement:
        """Evict what was used least."""
        if observation.slot:
            self._count = self._memory * self._count + cell_needs(observation)
        scores = self._count + 1e-6 * observation.at_hand
        holds = fill(self._scenario, scores, observation.at_hand, floor=1e-5)
        return Placement(holds=holds, value=scores)


ENTRY = SchemeEntry(
    name="lfu",
    start=LeastFrequentlyUsed,
    paper="Least frequently used with ageing (LFU-DA family), per parameter block and node",
)
