"""Augur where slots overlap: what users wait for on the pipelined clock, weighed over sampled next slots.

Additive values (`policy.learn.augur`) count each block's seconds alone. Here a sampled slot is a clock
(`policy.learn.slot_clock`): a block delays all who are served after it, and only in the resource that binds.
Which one binds depends on the placement, and so does who is served first. So placement on one side, order of
users and shares of the resources on the other are played against one another (fictitious play, Brown, 1951):
the best placement for the mean of what came so far, then the order that suits it and the shares that it makes
binding. Only copies that the links can bring are planned, `policy.place.reach`.

A placement made for samples looks better on them than it is. So it has to beat a plain rival (pooled
coverage) on fresh samples, the same for both, by more than the standard error of the difference; else the
rival's is taken.
"""

from dataclasses import dataclass, replace

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.learn.augur import Reasons, message_bytes
from policy.learn.decisions import DecisionWeights, Tradeoffs, circumstances
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.learn.motion import PlaceDraws, place_draws
from policy.learn.other_forms import forms_of
from policy.learn.request_statistics import Single
from policy.learn.sampling import as_likely, first_need, needed_chance
from policy.learn.slot_clock import ImaginedSlots, SlotClock, alone_of, turns_of
from policy.learn.value import class_times, classes_of, draw_requests, seconds_per_bit, spread_draws
from policy.place.reach import keep_at_hand, reachable_masks
from policy.place.worth import worth_in_turn
from policy.play.scheme import Observation, Placement, Scheme
from policy.scenario import Scenario
from policy.slot.tables import from_masks, to_masks
from policy.slot.updates import UpdateRoom, bring, update_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinedConfig:
    """Effort of a decision."""

    samples: int = 48
    """Sampled next slots."""
    rounds: int = 4
    """Placements tried against the shares of the resources."""
    judges: int = 48
    """Fresh slots on which the placement must beat the rival's."""
    sure: float = 1.0
    """By how many standard errors."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.rounds < 1 or self.judges < 2:
            raise ValueError(f"need samples >= 1, rounds >= 1 and judges >= 2, got {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Uniforms behind sampled slots; the same in every slot, so that noise moves no block."""

    requests: Float
    """(samples, users)."""
    places: PlaceDraws

    @classmethod
    def make(cls, rng: np.random.Generator, samples: int, users: int) -> "Draws":
        """Draw them."""
        requests = spread_draws(rng, samples, users)
        return cls(requests, place_draws(rng, samples, users))


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What is forecast for the coming slot."""

    chance: Float
    """That a user asks for a model, (users, models)."""
    kept: Bool | None
    """Classes on each device, (users, classes)."""
    wanted: Float
    """Chance that somebody misses a class, (classes,)."""
    later: Float
    """The same in a slot after the coming one."""
    trade: Tradeoffs


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
        rival: Scheme | None = None,
        forecaster: Forecaster | None = None,
    ) -> None:
        """Start with nothing seen.

        Args:
            scenario: What is played.
            rng: Source of all draws.
            learned: All that is trained.
            config: Effort.
            rival: Whose placement is taken unless ours is clearly better; None: ours always.
            forecaster: Who forecasts; None: the trained network. For evaluation.
        """
        self._rival = rival
        self._scenario, self._learned, self._config = scenario, learned, config or PipelinedConfig()
        self._forecaster = forecaster or Forecaster(scenario, learned.demand)
        catalog, users = scenario.catalog, scenario.config.num_users
        self._bits = 8.0 * catalog.sizes_bytes.astype(np.float64)
        self._forms = None if scenario.config.requests.keep_downloads else forms_of(catalog)
        need = (catalog.members,) if self._forms is None else self._forms.needs[:, :-1]
        self._classes = classes_of(*need)
        self._of_block = self._classes.of_block[: self._bits.size]
        sizes = catalog.sizes_bytes if self._forms is None else self._forms.sizes_bytes
        self._form_bits = 8.0 * sizes.astype(np.float64)
        self._first = np.unique(self._classes.of_block, return_index=True)[1]
        bits = np.bincount(self._classes.of_block, weights=self._form_bits)
        self._class_bits: Float = bits.astype(np.float64)
        self._draws = Draws.make(rng, self._config.samples, users)
        self._judges = Draws.make(rng, self._config.judges, users)
        sets, bit = np.arange(2**scenario.config.num_nodes), np.array(1 / 8)
        self._update_s = update_seconds(sets[:, None], sets[None, :], bit, scenario.config.links)
        self.reasons: Reasons | None = None
        """Of the last decision."""

    def decide(self, observation: Observation) -> Placement:
        """Learn from the slot that has passed, imagine the next ones, place; beat the rival or follow it."""
        outlook = self._outlook(observation)
        own = self._own(observation, outlook)
        if self._rival is None:
            return own
        other, fresh = self._rival.decide(observation), self._imagine(observation, outlook, self._judges)
        ours, theirs = (self._judged(placement, observation, outlook, fresh) for placement in (own, other))
        if clearly_less(ours, theirs, self._config.sure):
            return own
        if self.reasons is not None:
            self.reasons = replace(self.reasons, holds=other.holds)
        return replace(other, message_bytes=max(own.message_bytes, other.message_bytes))

    def _outlook(self, observation: Observation) -> Outlook:
        chance, later = self._forecaster.chance(observation.history, observation.slot)
        kept = observation.history.devices()
        kept = None if kept is None else kept[:, self._first]
        wanted, after = (needed_chance(part, self._classes.members, kept) for part in (chance, later))
        missed_bits = float(wanted @ self._class_bits)
        trade = self._learned.decisions.at(circumstances(self._scenario, observation.idle_s, missed_bits))
        return Outlook(chance, kept, wanted, after, trade)

    def _own(self, observation: Observation, outlook: Outlook) -> Placement:
        """What is best on the sampled slots."""
        scenario, at_hand, trade = self._scenario, observation.at_hand, outlook.trade
        slots = self._imagine(observation, outlook, self._draws)
        update_s = trade.update * self._update_s[to_masks(at_hand)]
        units = len(slots.cost_s)
        counts = slots.counts(np.broadcast_to(slots.weight / units, (units, *slots.weight.shape)))
        for turn in range(self._config.rounds):
            value = self._value(slots, counts, outlook)
            table = (value[self._of_block] + update_s) * self._bits[:, None]
            masks = self._place(table, observation)
            step = 1.0 / (turn + 2)
            held = self._held_bits(masks)
            served = slots.in_turn(held)
            counts = (1 - step) * counts + step * served.counts(served.binding(held))
        holds = from_masks(masks, scenario.config.num_nodes)
        sizes = scenario.catalog.sizes_bytes
        alone = (table[:, :1] - table[:, 1 << np.arange(holds.shape[0])]).T / sizes
        keep_at_hand(holds, at_hand, alone, sizes, scenario.capacity_bytes)
        worth = worth_in_turn(table, sizes, at_hand, holds)
        least = np.where(holds, np.maximum(worth, 0.0), np.inf).min(axis=1)
        self.reasons = Reasons(
            chance=outlook.chance,
            class_of_block=self._of_block,
            next_s=slots.priced(counts).T,
            value_s=value,
            update_s=trade.update * self._update_s,
            prices=np.where(holds.any(axis=1), least, 0.0),
            before=at_hand,
            holds=holds,
        )
        return Placement(holds=holds, value=worth, message_bytes=message_bytes(scenario))

    def _judged(
        self, placement: Placement, observation: Observation, outlook: Outlook, slots: ImaginedSlots
    ) -> Float:
        """Mean delay with what links can bring, in the order that suits it, and the price of work.

        Returns:
            For each slot, (samples,), s.
        """
        scenario, catalog = self._scenario, self._scenario.catalog
        worth = catalog.members.sum(axis=0)
        holds, _ = bring(
            observation.placement,
            placement.holds,
            np.broadcast_to(worth, placement.holds.shape) if placement.value is None else placement.value,
            self._room(observation),
            catalog.sizes_bytes,
            scenario.capacity_bytes,
            scenario.config.links,
        )
        held = self._held_bits(to_masks(holds))
        delay = slots.in_turn(held).delays(held)
        return np.asarray(delay + self._work_s(outlook) @ held[0], dtype=np.float64)

    def _imagine(self, observation: Observation, outlook: Outlook, draws: Draws) -> ImaginedSlots:
        """Sampled next slots, priced."""
        config, rules = self._scenario.config, observation.history.rules
        asked = draw_requests(outlook.chance, draws.requests)
        places = self._forecaster.places(draws.places)
        air = seconds_per_bit(observation.history.node_xy, places, config.radio)
        times = class_times(asked, air, self._classes, outlook.kept, rules)
        sent, weight, misses = turns_of(asked, air[..., -1], self._classes, self._class_bits, outlook.kept)
        costs = self._learned.clock.costs(times, config.links, rules.migration)
        alone = alone_of(asked, self._classes)
        return ImaginedSlots(cost_s=costs, sent=sent, weight=weight, misses=misses, alone=alone)

    def _work_s(self, outlook: Outlook) -> Float:
        """Price of a bit of each class that lies nowhere, beyond its delay in this slot, (classes,), s."""
        links = self._scenario.config.num_nodes * self._scenario.config.links.cloud_bit_s
        need = first_need(outlook.wanted, outlook.later, outlook.trade.patience)
        return np.asarray((1.0 - outlook.trade.ease) * outlook.trade.work * need / links)

    def _value(self, slots: ImaginedSlots, counts: Single, outlook: Outlook) -> Float:
        """Seconds a bit of each class under each set of nodes, (classes, 2^nodes)."""
        seen: Float = np.asarray((slots.sent[:, -1] > 0).mean(axis=0, dtype=np.float64))
        kept: Bool = np.asarray(self._classes.members.any(axis=0))  # what is sent alone is never placed
        value = as_likely(
            kept[:, None] * slots.priced(counts).T,
            seen,
            outlook.wanted,
            self._class_bits,
            slots.sent.shape[0],
        )
        nodes = self._scenario.config.num_nodes
        single = value[:, 1 << np.arange(nodes)].mean(axis=1, keepdims=True)
        spread: Float = single + outlook.trade.near * (value - single)
        spread[:, 0] = value[:, 0] + self._work_s(outlook)
        return spread

    def _room(self, observation: Observation) -> UpdateRoom:
        return UpdateRoom(
            at_hand=observation.at_hand,
            idle_s=observation.idle_s,
            budget_bytes=self._scenario.config.update_budget_bytes,
        )

    def _place(self, table: Float, observation: Observation) -> Int:
        scenario, room = self._scenario, self._room(observation)
        sizes = scenario.catalog.sizes_bytes
        return reachable_masks(table, sizes, scenario.capacity_bytes, room, scenario.config.links)

    def _held_bits(self, masks: Int) -> Float:
        """Bits of each class that each set of nodes can send, (2^nodes, classes); masks are (blocks,)."""
        held = np.zeros((self._update_s.shape[0], self._class_bits.size))
        caching = masks if self._forms is None else self._forms.masks(masks)
        np.add.at(held, (caching, self._classes.of_block), self._form_bits)
        return held


def clearly_less(ours: Float, theirs: Float, sure: float) -> bool:
    """Whether ours is below theirs in the mean by more than so many standard errors of the difference.

    Args:
        ours: In each sample, (samples,).
        theirs: In the same samples.
        sure: Standard errors.
    """
    less = theirs - ours
    return bool(less.mean() > sure * less.std(ddof=1) / np.sqrt(less.size))
