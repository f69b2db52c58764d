"""What a scheme is, and what it may see.

Timing of a slot t: the scheme sees everything of slots 0..t-1 (requests, places, delays) and the caches as
they are, and decides the placement for slot t; then the requests of slot t become known, blocks migrate and
are broadcast. So a placement is a bet; migration is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.scenario import Scenario, World
from policy.slot.tables import DelayTable, ServiceRules

_RECAST: WeakKeyDictionary[World, dict[int, World]] = WeakKeyDictionary()
"""Worlds made by `History.recast`, for as long as the original lives; each keeps its scenario alive."""


class History:
    """The past of a world up to, not including, a slot. Asking for the present or the future is an error."""

    def __init__(self, world: World, slot: int, rules: ServiceRules) -> None:
        self._world, self.num_slots, self._rules = world, slot, rules

    @property
    def rules(self) -> ServiceRules:
        """How slots are served."""
        return self._rules

    @property
    def requests(self) -> Int:
        """Model each user asked for, -1 for none, (past slots, users)."""
        return self._world.trace.requests[: self.num_slots]

    @property
    def user_xy(self) -> Float:
        """Places of the users, (past slots, users, 2), m."""
        return self._world.trace.user_xy[: self.num_slots]

    @property
    def node_xy(self) -> Float:
        """Places of the nodes, (nodes, 2), m."""
        return self._world.trace.node_xy

    def needs(self, slot: int) -> Bool:
        """Which user missed which block in a past slot, (users, blocks)."""
        return self._world.needs(self._past(slot))

    def table(self, slot: int) -> DelayTable:
        """Delay table of a past slot: what every block would have cost under every set of holders."""
        return self._world.table(self._past(slot), self._rules)

    def planning_table(self, slot: int) -> Float:
        """The same for planners, (blocks, 2^nodes), s: see `World.planning_table`."""
        return self._world.planning_table(self._past(slot), self._rules)

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """What the radio would have given in a past slot, see `DelayModel`."""
        return self._world.delay.rate_bit_s(self._past(slot), holders, users)

    def devices(self) -> Bool | None:
        """Blocks on each device now, (users, blocks); None when devices keep nothing."""
        return self._world.devices(self.num_slots)

    def recast(self, scenario: Scenario) -> "History":
        """The same past with another catalog of the same models."""
        recasts = _RECAST.setdefault(self._world, {})
        if id(scenario) not in recasts:
            recasts[id(scenario)] = replace(self._world, scenario=scenario, _tables={})
        return History(recasts[id(scenario)], self.num_slots, self._rules)

    def _past(self, slot: int) -> int:
        if not 0 <= slot < self.num_slots:
            raise ValueError(f"only slots 0..{self.num_slots - 1} are past, got {slot}")
        return slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All that a scheme may look at when it decides."""

    slot: int
    """The slot to decide for."""
    placement: Bool
    """Caches now, (nodes, blocks)."""
    history: History
    """The past."""
    at_hand: Bool
    """Copies that cost nothing to keep: cached, or fetched to serve the last slot, (nodes, blocks)."""
    idle_s: Float
    """Time that each node's incoming link has for updates, (nodes,), s; inf where updates need no link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A decision."""

    holds: Bool
    """Which node shall cache which block, (nodes, blocks); within capacity. What links and budget cannot
    bring before the slot is not brought, see `policy.slot.updates.bring`."""
    value: Float | None = None
    """What each wanted copy is worth, (nodes, blocks): those worth most are brought first. None: those of
    blocks that most models need."""
    message_bytes: int = 0
    """Bytes that nodes had to send one another to reach the decision."""


class Scheme(Protocol):
    """A way to decide placements. One object plays one world; it may keep state between slots."""

    def decide(self, observation: Observation) -> Placement:
        """Decide the placement for `observation.slot`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeEntry:
    """A line of the registry."""

    name: str
    """Name on the command line."""
    start: Callable[[Scenario, np.random.Generator], Scheme]
    """Make a fresh scheme for one world of a scenario (of whole models if the rules say so)."""
    paper: str
    """Where the idea comes from, and how ours differs."""
    rules: ServiceRules = field(default_factory=ServiceRules)
    """How the slots of this scheme are served."""
    random: bool = False
    """Whether decisions depend on the generator; if not, one seed stands for all."""
