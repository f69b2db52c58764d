"""What a node knows and decides: a function of the slots that it has heard of, computed once in a process.

Every node runs the policy by itself. Nodes of one process that have heard the same share the result: the same
history gives the same decision, so computing it again would only cost time. A node that heard something else
(a report was late) decides by itself.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from demo.emulation.air import loss_of_margin
from policy.interfaces import Bool, Float, Int
from policy.play.growing import Decider
from policy.scenario import World
from policy.slot.dynamics import SlotOutcome
from policy.slot.rates import Party

_MOST_RESULTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One slot as it was reported."""

    user_xy: Float
    """(users, 2), m."""
    requests: Int
    """Model each user asked for, -1 for none, (users,)."""
    visits: tuple[tuple[int, int], ...] = ()
    """Node and model of what programs asked for at nodes themselves, sorted."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; floats are exact."""
        return {
            "user_xy": self.user_xy.tolist(),
            "requests": self.requests.tolist(),
            "visits": [list(visit) for visit in self.visits],
        }

    def seen(self, node_xy: Float) -> Int:
        """Requests as later decisions see them, (users,): a visit is one of the nearest user who has none."""
        requests = self.requests.copy()
        for node, model in self.visits:
            idle = np.flatnonzero(requests < 0)
            if idle.size:
                away = np.linalg.norm(self.user_xy[idle] - node_xy[node], axis=1)
                requests[idle[away.argmin()]] = model
        return requests

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Row":
        """Out of plain values."""
        places = np.array(row["user_xy"], dtype=np.float64).reshape(-1, 2)
        visits = tuple((int(node), int(model)) for node, model in row["visits"])
        return cls(places, np.array(row["requests"], dtype=np.int64), visits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What all nodes are to cache in the coming slot."""

    placement: Bool
    """(nodes, units), as far as links could bring it."""
    worth: Float | None
    """What the scheme takes each copy to be worth, (nodes, units)."""
    cache_update_bytes: int
    message_bytes: int
    """Bytes that the scheme itself says nodes exchange to decide."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """How a slot is served."""

    outcome: SlotOutcome
    kept: Bool | None
    """What the plan counts on each device to have, (users, units); None: nothing."""
    seconds: float


class Minds:
    """Decisions by history; safe to use from many threads.

    Args:
        make: Makes a decider that has seen nothing.
    """

    def __init__(self, make: Callable[[], Decider]) -> None:
        self._make, self._mutex = make, threading.RLock()
        self._decisions: OrderedDict[str, Decision] = OrderedDict()
        self._services: OrderedDict[str, Service] = OrderedDict()
        self._decider = make()
        self._key, self._has_decided = key_of([]), False

    def decision(self, rows: Sequence[Row]) -> Decision:
        """What to cache in the slot after those that were heard of."""
        key = key_of(rows)
        with self._mutex:
            if key not in self._decisions:
                self._go_to(rows)
                self._decide()
            return self._decisions[key]

    def service(self, rows: Sequence[Row]) -> Service:
        """How the last of the slots that were heard of is served."""
        key = key_of(rows)
        with self._mutex:
            if key not in self._services:
                self._go_to(rows[:-1])
                self._decide()
                self._serve(rows[-1], key)
            return self._services[key]

    def rate_bit_s(self, rows: Sequence[Row], holders: Sequence[int], users: Sequence[int]) -> float:
        """What the radio gives to other senders and users than the plan's, in the last slot."""
        with self._mutex:
            world = self._world_of(rows)
            sends = np.isin(np.arange(world.scenario.config.num_nodes), holders)[None]
            hears = np.isin(np.arange(world.scenario.config.num_users), users)[None]
            return float(world.delay.rate_bit_s(len(rows) - 1, sends, hears)[0])

    def bound_bit_s(self, rows: Sequence[Row], holders: Sequence[int], users: Sequence[int]) -> float:
        """What no beamformer could exceed in a broadcast of the last slot; 0: the radio does not say."""
        with self._mutex:
            delay: Any = self._decider.growing.world.delay
            told = getattr(delay, "bound_bit_s", None)
            return 0.0 if told is None else float(told(len(rows) - 1, holders, users))

    def loss(self, rows: Sequence[Row], holders: Sequence[int], users: Sequence[int]) -> dict[int, float]:
        """Share of a broadcast's datagrams that each user loses in the last slot, by its margin of SNR.

        Empty if the radio says nothing of single users.
        """
        with self._mutex:
            delay: Any = self._decider.growing.world.delay
            told = getattr(delay, "margins_db", None)
            margins = {} if told is None else told(len(rows) - 1, holders, users)
        return {user: loss_of_margin(margin) for user, margin in margins.items()}

    def shares(self, rows: Sequence[Row], parties: Sequence[Party]) -> list[float]:
        """What each of some broadcasts of the last slot has of its rate alone while all are on the air."""
        with self._mutex:
            world = self._world_of(rows)
            config = world.scenario.config
            told = world.air_times(len(rows) - 1).shares([parties], config.num_nodes, config.num_users)[0]
            return [told[party] for party in parties]

    def losses_together(self, rows: Sequence[Row], parties: Sequence[Party]) -> list[dict[int, float]]:
        """What `loss` says of some broadcasts that are on the air at once: by margins of SINR."""
        with self._mutex:
            world = self._world_of(rows)
            delay: Any = world.delay
            told = getattr(delay, "together_margins_db", None)
            if told is None:
                return [{} for _ in parties]
            nodes, users = (np.arange(n) for n in (world.trace.num_nodes, world.trace.num_users))
            margins = told(
                len(rows) - 1,
                np.array([np.isin(nodes, party.holders) for party in parties]),
                np.array([np.isin(users, party.users) for party in parties]),
                np.array([party.alone_bit_s for party in parties]),
            )
        return [{user: loss_of_margin(margin) for user, margin in own.items()} for own in margins]

    def _world_of(self, rows: Sequence[Row]) -> World:
        """The world, when it knows these slots."""
        if self._decider.growing.num_slots < len(rows):
            self._go_to(rows)
        return self._decider.growing.world

    def _go_to(self, rows: Sequence[Row]) -> None:
        """Bring the decider to the point after these slots: on from where it is, if they go on from there."""
        passed = self._decider.growing.num_slots
        if passed > len(rows) or self._key != key_of(rows[:passed]):
            self._decider, self._key, self._has_decided, passed = self._make(), key_of([]), False, 0
        for number in range(passed, len(rows)):
            self._decide()
            self._serve(rows[number], key_of(rows[: number + 1]))

    def _decide(self) -> None:
        if self._has_decided:
            return
        began = time.perf_counter()
        decided = self._decider.decide()
        course = self._decider.course
        self._put(
            self._decisions,
            self._key,
            Decision(
                placement=course.placement.copy(),
                worth=decided.value,
                cache_update_bytes=course.last_update.backhaul_bytes + course.last_update.cloud_bytes,
                message_bytes=decided.message_bytes,
                seconds=time.perf_counter() - began,
            ),
        )
        self._has_decided = True

    def _serve(self, row: Row, key: str) -> None:
        began = time.perf_counter()
        slot = self._decider.growing.num_slots
        outcome = self._decider.serve(row.user_xy, row.requests)
        kept = self._decider.growing.world.devices(slot)
        spent = time.perf_counter() - began
        self._put(self._services, key, Service(outcome=outcome, kept=kept, seconds=spent))
        if row.visits:
            self._decider.see(row.seen(self._decider.growing.places.node_xy))
        self._key, self._has_decided = key, False

    def _put(self, results: OrderedDict[str, Any], key: str, result: object) -> None:
        results[key] = result
        while len(results) > _MOST_RESULTS:
            results.popitem(last=False)


def key_of(rows: Sequence[Row]) -> str:
    """Name of a history: equal histories, and only they, have equal names."""
    digest = hashlib.sha256(len(rows).to_bytes(8, "little"))
    for row in rows:
        digest.update(row.user_xy.tobytes() + row.requests.tobytes() + repr(row.visits).encode())
    return digest.hexdigest()
