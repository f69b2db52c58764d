"""Planner: sample next requests from a demand model fitted to the past, place greedily on the mean table."""

import numpy as np

from policy.interfaces import Float, Int
from policy.place.greedy import greedy_placement
from policy.place.worth import worth_in_turn
from policy.play.scheme import History, Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes, mean_table, update_table
from policy.schemes.fitted import DemandFit, fit_demand, push
from policy.world.trace import nearest


class FittedPlanner:
    """Average of sampled tables of the next slots, blended with the average of past ones."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        samples: int = 32,
        horizon: int = 1,
        memory: float = 0.95,
        blend: float = 1.0,
        weight: float = 0.2,
        update: float = 1.0,
        prior: float = 3.0,
    ) -> None:
        self._scenario, self._rng, self._samples, self._horizon = scenario, rng, int(samples), int(horizon)
        self._memory, self._blend, self._update = memory, blend, update
        self._past = AveragedTable(scenario, weight, prior)

    def decide(self, observation: Observation) -> Placement:
        """Sample, average, place."""
        scenario = self._scenario
        self._past.observe(observation)
        table = self._past.delay_s
        if observation.slot:
            table = self._blend * self._sampled(observation.history) + (1 - self._blend) * table
        sizes, at_hand = scenario.catalog.sizes_bytes, observation.at_hand
        table = table + self._update * update_table(scenario, at_hand)
        holds = greedy_placement(
            table,
            sizes,
            scenario.capacity_bytes,
            at_hand,
            scenario.config.update_budget_bytes,
        )
        return Placement(
            holds=holds,
            value=worth_in_turn(table, sizes, at_hand, holds),
            message_bytes=central_message_bytes(scenario),
        )

    def _sampled(self, history: History) -> Float:
        """Mean delay table over sampled slots, the next one most, (blocks, 2^nodes), s."""
        scenario, config = self._scenario, self._scenario.config
        fit = fit_demand(history, scenario.families, self._memory)
        places = _where_next(history, self._horizon, config.area_m)
        requests, ahead = self._futures(fit, nearest(history.node_xy, places))
        return mean_table(
            scenario, history.rules, history.node_xy, places[ahead], requests, history.devices()
        )

    def _futures(self, fit: DemandFit, cells: Int) -> tuple[Int, Int]:
        """Sampled requests, each of one slot ahead, (samples, users), and how far ahead, (samples,)."""
        count, users = self._samples, fit.ask.size
        last = np.broadcast_to(fit.last, (count, *fit.last.shape))
        ahead = _spread(count, self._horizon)
        requests = np.full((count, users), -1, dtype=np.int64)
        for step in range(self._horizon):
            chances = fit.chances(np.broadcast_to(cells[step], (count, users)), last)
            upto = (fit.ask[:, None] * chances).cumsum(axis=-1)
            drawn = (upto < self._even_draws(count, users)[..., None]).sum(axis=-1)
            asked = np.where(drawn < fit.families.size, drawn, -1)
            requests = np.where((ahead == step)[:, None], asked, requests)
            last = push(last, asked)
        return requests, ahead

    def _even_draws(self, count: int, users: int) -> Float:
        """A number of each of `count` equal parts of [0, 1) for every user, shuffled, (count, users)."""
        parts = self._rng.permuted(np.tile(np.arange(count)[:, None], users), axis=0)
        return np.asarray((parts + self._rng.random((count, users))) / count)


def _spread(count: int, horizon: int) -> Int:
    """Slots ahead of each sample: each further slot gets half as many as the one before, (count,)."""
    share = 0.5 ** np.arange(horizon)
    edges = np.cumsum(share / share.sum())
    return np.searchsorted(edges, (np.arange(count) + 0.5) / count).astype(np.int64)


def _where_next(history: History, horizon: int, area_m: float) -> Float:
    """Users go on as in the last slot, damped, within the area, (horizon, users, 2), m."""
    now = history.user_xy[-1]
    move = now - history.user_xy[-2] if history.num_slots > 1 else np.zeros_like(now)
    ahead = np.cumsum(0.8 ** np.arange(1, horizon + 1))
    return np.asarray(np.clip(now + ahead[:, None, None] * move, 0.0, area_m))


ENTRY = SchemeEntry(
    name="planner",
    start=FittedPlanner,
    paper="Sample average approximation (Kleywegt et al., 2002) on a demand model fitted to the world's past",
    random=True,
)
