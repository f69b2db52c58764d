"""Augur where slots overlap: what users wait for on the pipelined clock, weighed over sampled next slots.

Additive values (`policy.learn.augur`) count each block's seconds alone. Here a sampled slot is a clock
(`policy.learn.slot_clock`): a block delays all who are served after it, and only in the resource that binds.
Which one binds depends on the placement, so placement and shares of the resources are played against one
another (fictitious play, Brown, 1951): the best placement for the mean of the shares so far, then the shares
that this placement makes binding. Only copies that the links can bring are planned, `policy.place.reach`.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.augur import Reasons, message_bytes
from policy.learn.decisions import DecisionWeights, Tradeoffs, circumstances
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import place_draws
from policy.learn.sampling import as_likely, needed_chance
from policy.learn.slot_clock import ImaginedSlots, SlotClock, turns_of
from policy.learn.value import class_times, classes_of, draw_requests, seconds_per_bit, spread_draws
from policy.place.reach import keep_at_hand, reachable_masks
from policy.place.worth import worth_in_turn
from policy.play.scheme import Observation, Placement
from policy.scenario import Scenario
from policy.slot.tables import from_masks, to_masks
from policy.slot.updates import UpdateRoom, update_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinedConfig:
    """Effort of a decision."""

    samples: int = 48
    """Sampled next slots."""
    rounds: int = 4
    """Placements tried against the shares of the resources."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rounds < 1:
            raise ValueError(f"need samples >= 1 and rounds >= 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """All that is trained."""

    demand: DemandModel
    """Who asks for what."""
    clock: SlotClock
    """How long users wait."""
    decisions: DecisionWeights
    """What a saving must cost."""

    @classmethod
    def untrained(cls, nodes: int) -> "Learned":
        """The same planner with nothing trained."""
        return cls(
            demand=DemandModel.untrained(),
            clock=SlotClock.bound(nodes),
            decisions=DecisionWeights.untrained(),
        )


class AugurPipelined:
    """Plays one world; see the module."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        learned: Learned,
        config: PipelinedConfig | None = None,
    ) -> None:
        self._scenario, self._learned, self._config = scenario, learned, config or PipelinedConfig()
        self._forecaster = Forecaster(scenario, learned.demand)
        catalog, users = scenario.catalog, scenario.config.num_users
        self._classes = classes_of(catalog.members)
        self._first = np.unique(self._classes.of_block, return_index=True)[1]
        self._bits = 8.0 * catalog.sizes_bytes.astype(np.float64)
        bits = np.bincount(self._classes.of_block, weights=self._bits)
        self._class_bits: Float = bits.astype(np.float64)
        self._uniforms = spread_draws(rng, self._config.samples, users)
        self._draws = place_draws(rng, self._config.samples, users)
        sets, bit = np.arange(2**scenario.config.num_nodes), np.array(1 / 8)
        self._update_s = update_seconds(sets[:, None], sets[None, :], bit, scenario.config.links)
        self.reasons: Reasons | None = None
        """Of the last decision."""

    def decide(self, observation: Observation) -> Placement:
        """Learn from the slot that has passed, imagine the next ones, place."""
        scenario, at_hand = self._scenario, observation.at_hand
        chance = self._forecaster.chance(observation.history, observation.slot)[0]
        kept = observation.history.devices()
        kept = None if kept is None else kept[:, self._first]
        slots = self._imagine(observation, chance, kept)
        trade = self._learned.decisions.at(circumstances(scenario, observation.idle_s))
        wanted = needed_chance(chance, self._classes.members, kept)
        update_s = trade.update * self._update_s[to_masks(at_hand)]
        share = np.broadcast_to(slots.weight / len(slots.cost_s), (len(slots.cost_s), *slots.weight.shape))
        for turn in range(self._config.rounds):
            value = self._value(slots, share, wanted, trade)
            table = (value[self._classes.of_block] + update_s) * self._bits[:, None]
            masks = self._place(table, observation)
            step = 1.0 / (turn + 2)
            share = (1 - step) * share + step * slots.binding(self._held_bits(masks))
        holds = from_masks(masks, scenario.config.num_nodes)
        sizes = scenario.catalog.sizes_bytes
        alone = (table[:, :1] - table[:, 1 << np.arange(holds.shape[0])]).T / sizes
        keep_at_hand(holds, at_hand, alone, sizes, scenario.capacity_bytes)
        worth = worth_in_turn(table, sizes, at_hand, holds)
        least = np.where(holds, np.maximum(worth, 0.0), np.inf).min(axis=1)
        self.reasons = Reasons(
            chance=chance,
            class_of_block=self._classes.of_block,
            next_s=slots.marginal(np.asarray(share, dtype=np.float32)).T,
            value_s=value,
            update_s=trade.update * self._update_s,
            prices=np.where(holds.any(axis=1), least, 0.0),
            before=at_hand,
            holds=holds,
        )
        return Placement(holds=holds, value=worth, message_bytes=message_bytes(scenario))

    def _imagine(self, observation: Observation, chance: Float, kept: Bool | None) -> ImaginedSlots:
        """Sampled next slots, priced."""
        config, rules = self._scenario.config, observation.history.rules
        asked = draw_requests(chance, self._uniforms)
        places = self._forecaster.places(self._draws)
        air = seconds_per_bit(observation.history.node_xy, places, config.radio)
        times = class_times(asked, air, self._classes, kept, rules)
        sent, weight = turns_of(asked, air[..., -1], self._classes, self._class_bits, kept)
        costs = self._learned.clock.costs(times, config.links, rules.migration)
        return ImaginedSlots(cost_s=costs, sent=sent, weight=weight)

    def _value(self, slots: ImaginedSlots, share: Float, wanted: Float, trade: Tradeoffs) -> Float:
        """Seconds a bit of each class under each set of nodes, (classes, 2^nodes)."""
        seen: Float = np.asarray((slots.sent[:, -1] > 0).mean(axis=0, dtype=np.float64))
        value = as_likely(
            slots.marginal(np.asarray(share, dtype=np.float32)).T,
            seen,
            wanted,
            self._class_bits,
            slots.sent.shape[0],
        )
        nodes = self._scenario.config.num_nodes
        single = value[:, 1 << np.arange(nodes)].mean(axis=1, keepdims=True)
        work = trade.work * wanted / (nodes * self._scenario.config.links.cloud_bit_s)
        spread: Float = single + trade.near * (value - single)
        spread[:, 0] = value[:, 0] + work
        return spread

    def _place(self, table: Float, observation: Observation) -> Int:
        scenario = self._scenario
        room = UpdateRoom(
            at_hand=observation.at_hand,
            idle_s=observation.idle_s,
            budget_bytes=scenario.config.update_budget_bytes,
        )
        sizes = scenario.catalog.sizes_bytes
        return reachable_masks(table, sizes, scenario.capacity_bytes, room, scenario.config.links)

    def _held_bits(self, masks: Int) -> Float:
        """Bits of each class that each set of nodes holds, (2^nodes, classes)."""
        held = np.zeros((self._update_s.shape[0], self._class_bits.size))
        np.add.at(held, (masks, self._classes.of_block), self._bits)
        return held
