"""A scheme of one's own: every node keeps the blocks that most users of its cell needed lately.

pbcast evaluate --schemes lru,ewma-greedy,policy/examples/my_scheme.py:ENTRY --worlds 8
"""

import numpy as np

from policy.place.greedy import fill_by_score
from policy.scenario import Scenario
from policy.schemes import Observation, Placement, SchemeEntry
from policy.world.trace import nearest


class NeededNearby:
    """Plays one world; `rng` is for schemes that draw."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.8) -> None:
        self._scenario, self._memory = scenario, memory
        self._needed = np.zeros((scenario.config.num_nodes, scenario.catalog.num_blocks))

    def decide(self, seen: Observation) -> Placement:
        """See what the last slot asked for, score, and fill each cache from the best score down."""
        catalog, past = self._scenario.catalog, seen.history
        if seen.slot:
            cells = nearest(past.node_xy, past.user_xy[seen.slot - 1])
            self._needed *= self._memory
            for user, model in enumerate(past.requests[seen.slot - 1]):
                if model >= 0:
                    self._needed[cells[user]] += catalog.members[model]
        room, budget = self._scenario.capacity_bytes, self._scenario.config.update_budget_bytes
        score = self._needed + 1e-3 * seen.placement  # keep what is there among equals
        holds = fill_by_score(score, catalog.sizes_bytes, room, seen.at_hand, budget)
        return Placement(holds=holds, value=score)


ENTRY = SchemeEntry(name="needed-nearby", start=NeededNearby, paper="an example")
