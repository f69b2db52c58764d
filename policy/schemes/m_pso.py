"""M-PSO: several particle swarms search scores of (node, block) pairs; the best particle wins."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes, fill


class SwarmSearch:
    """Inertia, own best, swarm's best (Kennedy and Eberhart, 1995); swarms swap their best now and then."""

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
        rng, at = self._rng, self._rng.random(self._shape) - 0.3
        at[0, 0] = self._last
        speed = 0.1 * rng.standard_normal(self._shape)
        best_at, best = at.copy(), self._cost(at, table_s)
        for turn in range(self._rounds):
            leader = best.argmin(axis=1)
            if turn % 10 == 9:  # the overall winner leads the next swarm, too
                overall = np.unravel_index(int(best.argmin()), best.shape)
                target = (int(overall[0]) + 1) % self._shape[0]
                worst = int(best[target].argmax())
                best_at[target, worst], best[target, worst] = best_at[overall], best[overall]
                leader = best.argmin(axis=1)
            lead = best_at[np.arange(self._shape[0]), leader][:, None]
            pull = rng.random((2, *self._shape)) * 1.5
            speed = self._inertia * speed + pull[0] * (best_at - at) + pull[1] * (lead - at)
            speed = np.clip(speed, -0.5, 0.5)
            at = np.clip(at + speed, -1.0, 1.0)
            cost = self._cost(at, table_s)
            better = cost < best
            best_at[better], best[better] = at[better], cost[better]
        return np.asarray(best_at.reshape(-1, *self._shape[2:])[int(best.argmin())])

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
