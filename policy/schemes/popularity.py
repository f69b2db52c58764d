"""Block popularity: each node keeps the blocks that most requests needed, its own cell's counting more."""

import numpy as np

from policy.interfaces import Float
from policy.play.scheme import History, Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import cell_counts, central_message_bytes, fill


def local_counts(history: History, models: int) -> Float:
    """How often each model was asked for in each node's cell so far, (nodes, models)."""
    return cell_counts(history, models)


class BlockPopularity:
    """Score of a block at a node: requests for any model that contains it, in the cell and in the network."""

    def __init__(
        self, scenario: Scenario, rng: np.random.Generator, memory: float = 0.3, local: float = 1.0
    ) -> None:
        self._scenario, self._memory, self._local = scenario, memory, local

    def decide(self, observation: Observation) -> Placement:
        """Most needed blocks first; ties go to what is cached, then to what more models need."""
        scenario, members = self._scenario, self._scenario.catalog.members.astype(np.float64)
        counts = cell_counts(observation.history, scenario.catalog.num_models, self._memory)
        mixed = self._local * counts + (1 - self._local) * counts.mean(axis=0)
        scores = mixed @ members + 1e-5 * observation.at_hand + 1e-8 * members.sum(axis=0)
        holds = fill(scenario, scores, observation.at_hand)
        messages = central_message_bytes(scenario) if self._local < 1 else 0
        return Placement(holds=holds, value=scores, message_bytes=messages)


ENTRY = SchemeEntry(
    name="popularity",
    start=BlockPopularity,
    paper="Most popular content first, per parameter block, cell's and network's counts mixed",
)
