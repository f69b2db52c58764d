"""Augur, our learned policy: forecast who asks for what and from where, value every block, decide.

Each node tells the others what its users asked for and where they are; from there on all nodes compute the
same decision with the same seed, so nothing else has to be sent. One set of weights serves any number of
users, models, blocks and any capacity.

A copy costs a transfer once and serves as long as it stays. So a set of holders is worth what it saves in the
next slot and, the dearer updates are, the more of what it would save in later slots if it stayed.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import join_draws, place_draws
from policy.learn.request_statistics import LATER
from policy.learn.value import (
    class_times,
    classes_of,
    draw_requests,
    expected_tables,
    seconds_per_bit,
    spread_draws,
)
from policy.place.exchanges import decode
from policy.place.worth import worth_in_turn
from policy.play.scheme import Observation, Placement
from policy.scenario import Scenario
from policy.slot.tables import to_masks
from policy.slot.updates import update_seconds

REPORT_BYTES = 12
"""One user's request and place as a node reports it: model (4), two coordinates (4 each)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugurConfig:
    """Settings of the policy; all tuned on validation worlds."""

    samples: int = 64
    """Sampled slots behind each expected table."""
    patience: float = 3.0
    """Weight of a later slot against the next, for every unit of the scenario's update weight."""
    rounds: int = 12
    """Most rounds of exchanges after the greedy start."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.patience < 0 or self.rounds < 0:
            raise ValueError(f"need samples >= 1, patience >= 0 and rounds >= 0, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reasons:
    """Why the last decision is what it is."""

    chance: Float
    """Forecast: chance that each user asks for each model in the next slot, (users, models)."""
    class_of_block: Int
    """Class of each block, (blocks,)."""
    next_s: Float
    """Expected seconds a bit in the next slot, (classes, 2^nodes)."""
    value_s: Float
    """The same with later slots as far as they count, (classes, 2^nodes)."""
    update_s: Float
    """Weighted time to change a set of nodes into another, a bit, (from, to)."""
    prices: Float
    """Price of room at each node, s per byte, (nodes,)."""
    before: Bool
    """Copies at hand before, (nodes, blocks)."""
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
        self._scenario = scenario
        self._forecaster = Forecaster(scenario, model)
        self._config = config or AugurConfig()
        settings, catalog = scenario.config, scenario.catalog
        nodes = settings.num_nodes
        self._classes = classes_of(catalog.members)
        self._first = np.unique(self._classes.of_block, return_index=True)[1]
        self._patience = self._config.patience * settings.update_weight
        ahead = [None, LATER] if self._patience else [None]
        samples, users = self._config.samples, settings.num_users
        self._uniforms = [spread_draws(rng, samples, users) for _ in ahead]
        self._draws = join_draws([place_draws(rng, samples, users, later) for later in ahead])
        sets, bit = np.arange(2**nodes), np.array(1 / 8)
        update_s = update_seconds(sets[:, None], sets[None, :], bit, settings.links)
        self._update = settings.update_weight * update_s
        self._bits = 8.0 * catalog.sizes_bytes.astype(np.float64)[:, None]
        self.reasons: Reasons | None = None
        """Of the last decision."""

    def decide(self, observation: Observation) -> Placement:
        """Learn from the slot that has passed, forecast, place."""
        scenario, before = self._scenario, observation.at_hand
        chances = self._forecaster.chance(observation.history, observation.slot)
        tables = self._expected(observation, chances)
        next_s = tables[0]
        value_s = next_s + self._patience * tables[-1] if self._patience else next_s
        table = (value_s[self._classes.of_block] + self._update[to_masks(before)]) * self._bits
        holds, prices = decode(
            table,
            scenario.catalog.sizes_bytes,
            scenario.capacity_bytes,
            before,
            scenario.config.update_budget_bytes,
            self._config.rounds,
            joint=not observation.history.rules.migration,
        )
        self.reasons = Reasons(
            chance=chances[0],
            class_of_block=self._classes.of_block,
            next_s=next_s,
            value_s=value_s,
            update_s=self._update,
            prices=prices,
            before=before,
            holds=holds,
        )
        worth = worth_in_turn(table, scenario.catalog.sizes_bytes, before, holds)
        return Placement(holds=holds, value=worth, message_bytes=message_bytes(scenario))

    def _expected(self, observation: Observation, chances: Float) -> Float:
        """Expected seconds a bit of each class under each set of nodes, (parts, classes, 2^nodes)."""
        links, radio = self._scenario.config.planning_links, self._scenario.config.radio
        parts, rules = len(self._uniforms), observation.history.rules
        asked = [draw_requests(chances[part], self._uniforms[part]) for part in range(parts)]
        kept = observation.history.devices()
        if kept is not None:
            kept = kept[:, self._first]
        air = seconds_per_bit(observation.history.node_xy, self._forecaster.places(self._draws), radio)
        times = class_times(np.concatenate(asked), air, self._classes, kept, rules)
        return expected_tables(times, links, rules.migration, parts)


def message_bytes(scenario: Scenario) -> int:
    """Bytes per slot: every node reports its own users to every other node; the decision is not sent."""
    return REPORT_BYTES * scenario.config.num_users * (scenario.config.num_nodes - 1)
