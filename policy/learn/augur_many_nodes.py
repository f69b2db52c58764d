"""Augur for any number of nodes: the same forecast, the value of a copy factored over nodes.

Tables of all sets of nodes grow as 2^nodes; here sampled future slots are turned into values of copies
(`place.copy_values`), which add up over nodes, so work grows as blocks x users x nodes. What a copy saves is
its size times a number that depends only on which models need it, so values are computed for
classes of blocks.
"""

from dataclasses import dataclass, replace

import numpy as np

from policy.interfaces import BlockCatalog, Float
from policy.learn.augur import message_bytes
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import place_draws
from policy.learn.value import classes_of, draw_requests, spread_draws
from policy.place.copy_values import CopyValues, place_by_copy_values, slot_copy_values
from policy.play.scheme import Observation, Placement
from policy.scenario import Scenario
from policy.world.cheap_radio import ProxyDelay, link_snr


@dataclass(frozen=True, slots=True, kw_only=True)
class AugurManyNodesConfig:
    """Settings of the factored policy."""

    samples: int = 16
    """Sampled slots behind each decision."""
    memory: float = 1.0
    """Weight of the newest values in their running mean."""
    update: float = 0.5
    """Share of the update cost that a copy must earn at once; it may stay for several slots."""

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 < self.memory <= 1 or self.update < 0:
            raise ValueError(f"need samples >= 1, memory in (0, 1] and update >= 0, got {self}")


class AugurManyNodes:
    """Plays one world; see the module."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        model: DemandModel,
        config: AugurManyNodesConfig | None = None,
    ) -> None:
        self._scenario, self._rng = scenario, rng
        self._config = config or AugurManyNodesConfig()
        self._forecaster = Forecaster(scenario, model)
        self._classes = classes_of(scenario.catalog.members)
        self._first = np.unique(self._classes.of_block, return_index=True)[1]
        members = self._classes.members
        self._one_byte = Scenario(
            replace(scenario.config, capacity_bytes=(1.0,)),
            BlockCatalog(sizes_bytes=np.ones(self._first.size, dtype=np.int64), members=members),
        )
        self._members = np.vstack([members, np.zeros((1, self._first.size), dtype=bool)])
        self._values: CopyValues | None = None

    def decide(self, observation: Observation) -> Placement:
        """Forecast, sample, value copies, place."""
        scenario, config = self._scenario, self._scenario.config
        chance = self._forecaster.chance(observation.history, observation.slot)[0]
        newest = self._sampled(observation, chance)
        weight = max(self._config.memory, 1 / (observation.slot + 1))
        self._values = newest if self._values is None else self._values.blend(newest, weight)
        sizes, of_block = scenario.catalog.sizes_bytes.astype(np.float64), self._classes.of_block
        price = self._config.update * config.update_weight * 8.0 * sizes
        per_byte = self._values.copy_s[:, of_block], self._values.first_s[of_block]
        holds = place_by_copy_values(
            CopyValues(copy_s=per_byte[0] * sizes, first_s=per_byte[1] * sizes),
            scenario.catalog.sizes_bytes,
            scenario.capacity_bytes,
            observation.at_hand,
            config.update_budget_bytes,
            (np.asarray(price / config.links.backhaul_bit_s), np.asarray(price / config.links.cloud_bit_s)),
        )
        worth = np.asarray(per_byte[0] + per_byte[1])
        return Placement(holds=holds, value=worth, message_bytes=message_bytes(scenario))

    def _sampled(self, observation: Observation, chance: Float) -> CopyValues:
        """Mean value of copies in sampled next slots for a byte of each class."""
        radio, node_xy = self._scenario.config.radio, observation.history.node_xy
        samples, users = self._config.samples, chance.shape[0]
        places = self._forecaster.places(place_draws(self._rng, samples, users))
        asked = draw_requests(chance, spread_draws(self._rng, samples, users))
        delay = ProxyDelay(
            snr=link_snr(node_xy, places, radio),
            bandwidth_hz=radio.bandwidth_hz,
            coherent=radio.combining == "coherent",
        )
        kept = observation.history.devices()
        total: CopyValues | None = None
        for sample in range(samples):
            needs = self._members[asked[sample]]
            needs = needs if kept is None else needs & ~kept[:, self._first]
            values = slot_copy_values(self._one_byte, delay, sample, needs, observation.history.rules)
            total = values if total is None else total.blend(values, 1 / (sample + 1))
        if total is None:
            raise ValueError("no samples")
        return total
