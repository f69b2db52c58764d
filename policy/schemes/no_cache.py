"""No cache: every missed block comes from the cloud, every time."""

import numpy as np

from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario


class NoCache:
    """Caches stay empty."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        pass

    def decide(self, observation: Observation) -> Placement:
        """Nothing, always."""
        return Placement(holds=np.zeros_like(observation.placement))


ENTRY = SchemeEntry(name="no-cache", start=NoCache, paper="Lower end of the ladder; no paper")
