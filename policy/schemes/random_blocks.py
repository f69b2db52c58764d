"""Random: each node caches blocks in a random order, drawn once per world, until it is full."""

import numpy as np

from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill


class RandomBlocks:
    """One draw of scores; drawing anew each slot would only add cache updates."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._scores = rng.random((scenario.config.num_nodes, scenario.catalog.num_blocks))

    def decide(self, observation: Observation) -> Placement:
        """The same blocks in every slot (more of them as the update budget allows)."""
        return Placement(holds=fill(self._scenario, self._scores, observation.at_hand), value=self._scores)


ENTRY = SchemeEntry(
    name="random",
    start=RandomBlocks,
    paper="Random placement of blocks, fixed for a world; no paper",
    random=True,
)
