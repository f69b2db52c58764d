"""M-PSO: several particle swarms search scores of (node, block) pairs; the best particle wins."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes, fill
from policy.schemes.swarms import swarm_search


class SwarmSearch:
    """Particles are scores of (node, block) pairs, best first until a node is full."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        weight: float = 0.1,
        update: float = 0.5,
        prior: float = 4.0,
        swarms: int = 3,
        particles: int = 10,
        rounds: int = 30,
        inertia: float = 0.5,
    ) -> None:
        self._scenario, self._rng, self._rounds, self._inertia = scenario, rng, int(rounds), inertia
        self._shape = (int(swarms), int(particles), scenario.config.num_nodes, scenario.catalog.num_blocks)
        self._table = AveragedTable(scenario, weight, prior)
        self._update = update
        self._last = np.zeros(self._shape[2:])

    def decide(self, observation: Observation) -> Placement:
        """Search afresh; the last slot's winner is one of the first particles."""
        scenario = self._scenario
        self._table.observe(observation)
        self._last = self._search(self._table.with_update(observation.at_hand, self._update))
        holds = fill(scenario, self._last, observation.at_hand, floor=0.0)
        return Placement(holds=holds, value=self._last, message_bytes=central_message_bytes(scenario))

    def _search(self, table_s: Float) -> Float:
        start = self._rng.random(self._shape) - 0.3
        start[0, 0] = self._last
        return swarm_search(start, lambda at: self._cost(at, table_s), self._rng, self._rounds, self._inertia)

    def _cost(self, at: Float, table_s: Float) -> Float:
        """Cost of each particle's placement on the table, (swarms, particles), s."""
        masks = self._masks(at)
        return np.asarray(table_s[np.arange(self._shape[3]), masks].sum(axis=-1))

    def _masks(self, at: Float) -> Int:
        """Best scores first until a node is full; scores <= 0 stay out, (swarms, particles, blocks)."""
        sizes = self._scenario.catalog.sizes_bytes
        ranks = np.argsort(-at, axis=-1)
        used = np.cumsum(np.where(np.take_along_axis(at, ranks, axis=-1) > 0, sizes[ranks], 0), axis=-1)
        fits = used <= self._scenario.capacity_bytes[:, None]
        held: Bool = np.zeros(at.shape, dtype=bool)
        np.put_along_axis(held, ranks, fits, axis=-1)
        held &= at > 0
        ones = (1 << np.arange(self._shape[2]))[:, None]
        return np.asarray((held * ones).sum(axis=-2), dtype=np.int64)


ENTRY = SchemeEntry(
    name="m-pso",
    start=SwarmSearch,
    paper=(
        "Multi-swarm particle swarm optimisation, after the M-PSO compared with in arXiv 2509.19341, whose "
        "exact form is not available to us; scores decoded by capacity, cost on EWMA-greedy's averaged table"
    ),
    random=True,
)
