"""A world that becomes known slot by slot: for schemes that decide while it happens.

A scheme cannot tell it from the past of a finished trace: it sees the same `History` in both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from policy.interfaces import DelayModel, Float, Int
from policy.play.rollout import Course
from policy.play.scheme import Placement, SchemeEntry
from policy.scenario import Scenario, World
from policy.slot.dynamics import SlotOutcome
from policy.world.forms import DeliveryFold
from policy.world.trace import Trace

KEPT_SLOTS = 64
"""Slots of which delay tables and rates are kept; those of older ones are computed again if need be."""


class Places(Protocol):
    """Where nodes and users are, as a radio asks for it."""

    @property
    def node_xy(self) -> Float:
        """Places of the nodes, (nodes, 2), m."""

    @property
    def user_xy(self) -> Float:
        """Places of the users in each slot so far, (slots, users, 2), m."""


@dataclass(eq=False)
class GrowingPlaces:
    """`Places` that are known up to now."""

    node_xy: Float
    known: list[Float] = field(default_factory=list)

    @property
    def user_xy(self) -> Float:
        """See `Places`."""
        return np.stack(self.known)


class GrowingWorld:
    """The world up to now. Its last slot is always the coming one, of which nothing is known."""

    def __init__(
        self, scenario: Scenario, node_xy: Float, make_delay: Callable[[Places], DelayModel]
    ) -> None:
        """Begin before the first slot.

        Args:
            scenario: Settings and catalog.
            node_xy: Places of the nodes, (nodes, 2), m.
            make_delay: Makes the radio over places that come to be known.
        """
        self.scenario = scenario
        self.places = GrowingPlaces(node_xy)
        self._delay = make_delay(self.places)
        self._requests: list[Int] = []
        self._fold: DeliveryFold | None = None
        if scenario.form_choice is not None:
            config = scenario.config
            self._fold = DeliveryFold(scenario.form_choice, config.requests, config.num_users)
        self.world = self._seen(None)
        """The known slots and the coming one."""

    @property
    def num_slots(self) -> int:
        """Slots that are known."""
        return len(self._requests)

    def add(self, user_xy: Float, requests: Int) -> World:
        """Learn where users were in the coming slot, (users, 2), and what they asked for, (users,)."""
        self.places.known.append(np.array(user_xy, dtype=np.float64))
        self._requests.append(np.array(requests, dtype=np.int64))
        if self._fold is not None:
            self._fold.add(self._requests[-1])
        self.world = self._seen(self.world)
        self._forget(self.num_slots - KEPT_SLOTS)
        return self.world

    def see(self, requests: Int) -> World:
        """Let the past show other requests of the last slot than were served, (users,): all demand.

        What devices hold stays what they were sent. Where that follows from the requests alone (a catalog
        without forms, devices that keep), nothing changes.
        """
        config = self.scenario.config.requests
        if self._fold is None and config.keep_downloads:
            return self.world
        self._requests[-1] = np.array(requests, dtype=np.int64)
        if self._fold is not None:
            self._fold.see(self._requests[-1])
        self.world.forget(self.num_slots - 1)
        self.world = self._seen(self.world)
        return self.world

    def _forget(self, slot: int) -> None:
        """Keep memory flat: let go of what was computed of an old slot, also by a radio that remembers."""
        self.world.forget(slot)
        forget = getattr(self._delay, "forget", None)
        if forget is not None:
            forget(slot)

    def _seen(self, before: World | None) -> World:
        config = self.scenario.config
        nobody, nowhere = np.full(config.num_users, -1), np.zeros((config.num_users, 2))
        trace = Trace(
            node_xy=self.places.node_xy,
            user_xy=np.stack([*self.places.known, nowhere]),
            requests=np.stack([*self._requests, nobody]),
        )
        world = World(scenario=self.scenario, trace=trace, delay=self._delay)
        if before is not None:
            world.keep_tables_of(before)
        return world if self._fold is None else world.with_deliveries(self._fold.ahead())


class Decider:
    """One scheme on a world that grows: decide, learn what is asked for, serve, and so on."""

    def __init__(self, growing: GrowingWorld, entry: SchemeEntry, rng: np.random.Generator) -> None:
        """Start with empty caches.

        Raises:
            ValueError: If the scheme places whole models: they are no blocks that nodes could hold.
        """
        if entry.rules.whole_models:
            raise ValueError(f"scheme {entry.name} places whole models: it cannot decide about blocks")
        self.growing = growing
        self.course = Course(growing.world, entry.rules)
        self._scheme = entry.start(growing.scenario, rng)

    def decide(self) -> Placement:
        """Decide for the coming slot, and change the caches as far as links allow (`course.placement`)."""
        decided = self._scheme.decide(self.course.observation())
        self.course.update(decided)
        return decided

    def serve(self, user_xy: Float, requests: Int) -> SlotOutcome:
        """Learn the requests of the slot that was decided for, and serve it as well as is known."""
        self.course.world = self.growing.add(user_xy, requests)
        return self.course.serve()

    def see(self, requests: Int) -> None:
        """Let later decisions see other requests of the last slot, see `GrowingWorld.see`."""
        self.course.world = self.growing.see(requests)
