"""EWMA-greedy for any number of nodes: averaged tables over the nodes that matter to each block."""

from collections import deque
from functools import lru_cache

import numpy as np

from policy.interfaces import Float, Int
from policy.place.holders import link_rates
from policy.place.local_tables import (
    SlotDemand,
    candidate_nodes,
    fit_exponent,
    greedy_local,
    local_masks,
    local_table,
    near_scores,
    slot_demand,
)
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.slot.updates import update_seconds
from policy.world.cheap_radio import ProxyDelay, link_snr
from policy.world.mobility import grid_nodes


class EwmaLocal:
    """Average of the local tables of the last slots, newest weighted most, plus the price of the update.

    It starts from slots of which nothing is known, which weigh `prior` slots and fade.
    """

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        weight: float = 0.1,
        update: float = 0.5,
        width: float = 5,
        window: float = 24,
        prior: float = 3.0,
    ) -> None:
        if not 0 < weight <= 1 or width < 1 or window < 1:
            raise ValueError(f"need 0 < weight <= 1, width and window >= 1, got {weight}, {width}, {window}")
        self._scenario, self._weight, self._update = scenario, weight, update
        self._width = min(int(width), scenario.config.num_nodes)
        self._past: deque[SlotDemand] = deque(maxlen=int(window))
        self._prior = prior
        self._imagined = imagined_demand(scenario) if prior > 0 else ()
        self._near = np.zeros((scenario.config.num_nodes, scenario.catalog.num_blocks))
        for demand in self._imagined:
            self._near += near_scores(demand, scenario.catalog.num_blocks) / len(self._imagined)

    def decide(self, observation: Observation) -> Placement:
        """Take in the last slot, average the tables of the window, place greedily."""
        scenario, sizes = self._scenario, self._scenario.catalog.sizes_bytes
        spoken = self._observe(observation)
        candidates = candidate_nodes(self._near, self._width)
        table = self._average(candidates, observation.history.rules.migration)
        config, before = scenario.config, observation.at_hand
        sets = np.arange(2**self._width)
        update = update_seconds(
            local_masks(before, candidates)[:, None], sets[None, :], sizes[:, None], config.links
        )
        holds = greedy_local(
            table + self._update * config.update_weight * update,
            candidates,
            sizes,
            scenario.capacity_bytes,
            before,
            config.update_budget_bytes,
        )
        return Placement(holds=holds, value=self._alone(table, candidates), message_bytes=spoken)

    def _alone(self, table: Float, candidates: Int) -> Float:
        """Seconds saved per byte by each copy if it is the only one, (nodes, blocks)."""
        ones, sizes = 1 << np.arange(self._width), self._scenario.catalog.sizes_bytes
        value = np.zeros(self._near.shape)
        saved = (table[:, :1] - table[:, ones]) / sizes[:, None]
        np.put_along_axis(value, candidates.T, saved.T, axis=0)
        return value

    def _observe(self, observation: Observation) -> int:
        """Remember the last slot; bytes spoken: each node tells its users' needs and links to the others."""
        slot, history = observation.slot - 1, observation.history
        if slot < 0:
            return 0
        needs = history.needs(slot)
        nodes = self._near.shape[0]
        links = link_rates(history, slot, needs.shape[0], nodes)
        demand = slot_demand(needs, links, fit_exponent(history, slot, links))
        self._past.append(demand)
        self._near += self._weight * (near_scores(demand, needs.shape[1]) - self._near)
        return int((history.requests[slot] >= 0).sum()) * (4 + 4 * nodes) * (nodes - 1)

    def _average(self, candidates: Int, migration: bool) -> Float:
        """Weighted mean of the tables of the window and of the start, (blocks, 2^width), s."""
        keep = max(1 - self._weight, 1e-9)
        parts = [(keep**age, demand) for age, demand in enumerate(reversed(self._past))]
        start = self._prior * keep ** len(self._past) / max(1, len(self._imagined))
        parts += [(start, demand) for demand in self._imagined]
        total = np.zeros((candidates.shape[0], 2**self._width))
        for weight, demand in parts:
            total += weight * local_table(self._scenario, demand, candidates, migration)
        return total / max(sum(weight for weight, _ in parts), 1e-9)


@lru_cache(maxsize=8)
def imagined_demand(scenario: Scenario) -> tuple[SlotDemand, ...]:
    """Slots of which nothing is known: users anywhere, every second asks for any model; fixed draws."""
    rng, config, catalog = np.random.default_rng(0), scenario.config, scenario.catalog
    shape = (int(np.clip(192 // config.num_users, 2, 16)), config.num_users)
    places = rng.uniform(0.0, config.area_m, (*shape, 2))
    asked = np.where(rng.random(shape) < 0.5, rng.integers(catalog.num_models, size=shape), -1)
    snr = link_snr(grid_nodes(config.num_nodes, config.area_m), places, config.radio)
    coherent = config.radio.combining == "coherent"
    radio = ProxyDelay(snr=snr, bandwidth_hz=config.radio.bandwidth_hz, coherent=coherent)
    demands = []
    for slot in range(shape[0]):
        needs = catalog.members[np.maximum(asked[slot], 0)] & (asked[slot] >= 0)[:, None]
        links = link_rates(radio, slot, config.num_users, config.num_nodes)
        demands.append(slot_demand(needs, links, fit_exponent(radio, slot, links)))
    return tuple(demands)


ENTRY = SchemeEntry(
    name="ewma-local",
    start=EwmaLocal,
    paper="Ours: EWMA-greedy on tables over the few nodes that matter to each block, for any number of nodes",
)
