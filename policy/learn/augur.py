"""Augur, our learned policy: forecast who asks for what and from where, value every block, decide by price.

Each node tells the others what its users asked for and where they are; from there on all nodes compute the
same decision with the same seed, so nothing else has to be sent. One set of weights serves any number of
users, models, blocks and any capacity.
"""

from dataclasses import dataclass, field

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.decode import decode
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.lookahead import Lookahead, LookaheadConfig
from policy.learn.value import (
    class_times,
    classes_of,
    draw_requests,
    expected_table,
    seconds_per_bit,
    spread_draws,
)
from policy.scenario import Scenario
from policy.schemes.base import Observation, Placement
from policy.tables import to_masks

REPORT_BYTES = 12
"""One user's request and place as a node reports it: model (4), two coordinates (4 each)."""


START_SLOTS = 4
"""Slots that the first forecast, made before anything was seen, counts for in the mean of past slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugurConfig:
    """Settings of the policy; all tuned on validation worlds."""

    samples: int = 64
    """Sampled slots behind each expected table."""
    belief: float = 0.7
    """Weight of the forecast against the mean of what past slots did cost."""
    memory: float = 0.05
    """Weight of the newest slot in that mean, at least."""
    swaps: int = 40
    """Most swaps after the greedy start."""
    lookahead: LookaheadConfig = field(default_factory=LookaheadConfig)
    """What happens after the next slot."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.swaps < 0:
            raise ValueError(f"need samples >= 1 and swaps >= 0, got {self.samples}, {self.swaps}")
        if not (0 <= self.belief <= 1 and 0 < self.memory <= 1):
            raise ValueError(f"need belief in [0, 1] and memory in (0, 1], got {self.belief}, {self.memory}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reasons:
    """Why the last decision is what it is."""

    chance: Float
    """Forecast: chance that each user asks for each model, (users, models)."""
    class_of_block: Int
    """Class of each block, (blocks,)."""
    next_s: Float
    """Expected seconds a bit in the next slot, blended with the past, (classes, 2^nodes)."""
    value_s: Float
    """Seconds a bit with what follows, (classes, 2^nodes)."""
    update_s: Float
    """Weighted time to change a set of nodes into another, a bit, (from, to)."""
    prices: Float
    """Price of room at each node, s a byte, (nodes,)."""
    before: Bool
    """Placement before, (nodes, blocks)."""
    holds: Bool
    """Placement decided, (nodes, blocks)."""


class Augur:
    """Plays one world; see the module."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        model: DemandModel,
        config: AugurConfig | None = None,
    ) -> None:
        self._scenario, self._seed = scenario, int(rng.integers(2**63))
        self._forecaster = Forecaster(scenario, model)
        self._config = config or AugurConfig()
        settings, catalog = scenario.config, scenario.catalog
        nodes = settings.num_nodes
        self._classes = classes_of(catalog.members)
        self._lookahead = Lookahead(nodes, settings.links, settings.update_weight, self._config.lookahead)
        self._prices = np.zeros(nodes)
        self._first = np.unique(self._classes.of_block, return_index=True)[1]
        self._past = np.zeros((self._first.size, 2**nodes))
        self._bits = 8.0 * catalog.sizes_bytes.astype(np.float64)[:, None]
        self.reasons: Reasons | None = None
        """Of the last decision."""

    def decide(self, observation: Observation) -> Placement:
        """Learn from the slot that has passed, forecast the next, place."""
        scenario, before = self._scenario, observation.placement
        chance = self._forecaster.chance(observation.history, observation.slot)
        forecast = self._expected(observation, chance)
        self._learn_costs(observation, forecast)
        next_s = self._config.belief * forecast + (1 - self._config.belief) * self._past
        value_s = self._lookahead.values(next_s, self._past, self._prices / 8)
        update = self._lookahead.update[to_masks(before)]
        holds, self._prices = decode(
            (value_s[self._classes.of_block] + update) * self._bits,
            scenario.catalog.sizes_bytes,
            scenario.capacity_bytes,
            before,
            scenario.config.update_budget_bytes,
            self._config.swaps,
            joint=not observation.history.rules.migration,
        )
        self.reasons = Reasons(
            chance=chance,
            class_of_block=self._classes.of_block,
            next_s=next_s,
            value_s=value_s,
            update_s=self._lookahead.update,
            prices=self._prices,
            before=before,
            holds=holds,
        )
        return Placement(holds=holds, message_bytes=message_bytes(scenario))

    def _learn_costs(self, observation: Observation, forecast: Float) -> None:
        """Mean of what every set of nodes would have cost in past slots; before the first, the forecast."""
        slot = observation.slot
        if slot == 0:
            self._past = forecast
            return
        table = observation.history.table(slot - 1).cost_s[self._first] / self._bits[self._first]
        self._past = self._past + max(self._config.memory, 1 / (slot + START_SLOTS)) * (table - self._past)

    def _expected(self, observation: Observation, chance: Float) -> Float:
        """Expected seconds a bit of each class under each set of nodes, (classes, 2^nodes)."""
        config, samples, users = self._scenario.config, self._config.samples, chance.shape[0]
        rng = np.random.default_rng(self._seed)  # the same draws every slot: noise moves no block
        places = self._forecaster.places(rng, samples)
        asked = draw_requests(chance, spread_draws(rng, samples, users))
        kept = observation.history.devices()
        if kept is not None:
            kept = kept[:, self._first]
        rules = observation.history.rules
        air = seconds_per_bit(observation.history.node_xy, places, config.radio)
        times = class_times(asked, air, self._classes, kept, rules)
        return expected_table(times, config.links, rules.migration)


def message_bytes(scenario: Scenario) -> int:
    """Bytes a slot: every node reports its own users to every other node; the decision itself is not sent."""
    return REPORT_BYTES * scenario.config.num_users * (scenario.config.num_nodes - 1)
