"""LRU: each node keeps the blocks that its own users needed most recently."""

import numpy as np

from policy.interfaces import Bool, Float
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill
from policy.world.trace import nearest


def cell_needs(observation: Observation) -> Float:
    """How many users of each cell missed each block in the last slot, (nodes, blocks)."""
    history, last = observation.history, observation.slot - 1
    cells = nearest(history.node_xy, history.user_xy[last])
    in_cell: Bool = np.arange(history.node_xy.shape[0])[:, None] == cells
    return in_cell.astype(np.float64) @ history.needs(last).astype(np.float64)


class LeastRecentlyUsed:
    """Slot of the last use; within a slot, blocks with more users first."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._used = np.full((scenario.config.num_nodes, scenario.catalog.num_blocks), -1.0)

    def decide(self, observation: Observation) -> Placement:
        """Evict what was used longest ago."""
        if observation.slot:
            count = cell_needs(observation)
            share = count / (1.0 + self._scenario.config.num_users)
            self._used = np.where(count > 0, observation.slot - 1 + share, self._used)
        scores = self._used + 1e-6 * observation.at_hand
        holds = fill(self._scenario, scores, observation.at_hand, floor=-0.5)
        return Placement(holds=holds, value=scores)


ENTRY = SchemeEntry(
    name="lru",
    start=LeastRecentlyUsed,
    paper="Least recently used, per parameter block and node; no single paper",
)
