"""What is so at a time: a log, folded into the state of nodes, devices and traffic."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from demo.emulation.log.events import (
    ORIGIN,
    Answered,
    Broadcast,
    Decided,
    Delivered,
    Ended,
    Event,
    Faulted,
    Line,
    Planned,
    Recovered,
    Rejected,
    Reported,
    Requested,
    SlotBegan,
    Started,
    Transferred,
)

KEPT_BEAMS = 64
"""Slots of which it is remembered who was sent what beside others."""


@dataclass(slots=True)
class NodeState:
    """A node at a time."""

    held: set[int] = field(default_factory=set)
    """Units in its cache."""
    held_bytes: int = 0
    decisions: int = 0
    message_bytes: int = 0
    requests: int = 0
    """Requests that it took."""
    fault: str = ""
    """What is wrong with it now; empty: nothing."""


@dataclass(slots=True)
class DeviceState:
    """A device at a time."""

    xy: tuple[float, ...] = ()
    waiting: list[tuple[int, str]] = field(default_factory=list)
    """Slot and model of what it waits for."""
    delivered: list[str] = field(default_factory=list)
    """Models that came, oldest first."""
    answers: list[str] = field(default_factory=list)
    received_bytes: int = 0
    unicast_weight_bytes: int = 0
    fault: str = ""


@dataclass(slots=True)
class Totals:
    """Sums up to a time."""

    requests: int = 0
    deliveries: int = 0
    origin_bytes: int = 0
    backhaul_bytes: int = 0
    broadcast_bytes: int = 0
    wire_bytes: int = 0
    repair_bytes: int = 0
    message_bytes: int = 0
    rejected: int = 0
    delays_s: list[float] = field(default_factory=list)
    computed_delays_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Snapshot:
    """All that a log says is so at a time."""

    at_s: float = 0.0
    seq: int = -1
    """The last line that was taken in; -1: none."""
    slot: int = -1
    run: Started | None = None
    nodes: dict[int, NodeState] = field(default_factory=dict)
    devices: dict[int, DeviceState] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    on_air: Broadcast | None = None
    """The last broadcast."""
    beams: dict[int, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    """Users of each numbered broadcast, by slot and number: of the last slots that have some."""
    ended: Ended | None = None

    def take(self, line: Line) -> None:
        """Take one more line in."""
        self.at_s, self.seq = line.at_s, line.seq
        step = _STEPS.get(type(line.event))
        if step is not None:
            step(self, line.event)

    def node(self, number: int) -> NodeState:
        """A node's state."""
        return self.nodes.setdefault(number, NodeState())

    def device(self, number: int) -> DeviceState:
        """A device's state."""
        return self.devices.setdefault(number, DeviceState())


def fold(lines: Iterable[Line], until_s: float = math.inf) -> Snapshot:
    """The state after all lines that were written up to a time, s since the start."""
    state = Snapshot()
    for line in lines:
        if line.at_s > until_s:
            break
        state.take(line)
    return state


def _start(state: Snapshot, event: Started) -> None:
    state.run = event
    state.nodes = {about.node: NodeState() for about in event.nodes}
    state.devices = {user: DeviceState() for user in range(event.num_users)}


def _begin(state: Snapshot, event: SlotBegan) -> None:
    state.slot, state.on_air = event.slot, None
    for user, place in enumerate(event.user_xy):
        state.device(user).xy = place


def _decide(state: Snapshot, event: Decided) -> None:
    node = state.node(event.node)
    node.held = (node.held - set(event.dropped)) | set(event.added)
    node.held_bytes = event.held_bytes
    node.decisions += 1


def _request(state: Snapshot, event: Requested) -> None:
    if event.node >= 0:
        state.node(event.node).requests += 1
    state.device(event.user).waiting.append((event.slot, event.model))
    state.totals.requests += 1


def _report(state: Snapshot, event: Reported) -> None:
    state.node(event.node).message_bytes += event.sent_bytes
    state.totals.message_bytes += event.sent_bytes


def _plan(state: Snapshot, event: Planned) -> None:
    state.slot = event.slot


def _transfer(state: Snapshot, event: Transferred) -> None:
    if event.why_not:
        return
    if event.source == ORIGIN:
        state.totals.origin_bytes += event.payload_bytes
    else:
        state.totals.backhaul_bytes += event.payload_bytes


def _broadcast(state: Snapshot, event: Broadcast) -> None:
    state.on_air = event
    if event.number >= 0:
        state.beams.setdefault(event.slot, {})[event.number] = event.users
        while len(state.beams) > KEPT_BEAMS:
            del state.beams[next(iter(state.beams))]
    totals = state.totals
    totals.broadcast_bytes += event.payload_bytes
    totals.wire_bytes += event.wire_bytes
    totals.repair_bytes += event.repair_bytes
    for user in event.users:
        if user not in event.missed:
            state.device(user).received_bytes += event.payload_bytes


def _deliver(state: Snapshot, event: Delivered) -> None:
    device = state.device(event.user)
    if (event.slot, event.model) in device.waiting:
        device.waiting.remove((event.slot, event.model))
    device.delivered.append(event.model)
    device.unicast_weight_bytes += event.unicast_weight_bytes
    state.totals.deliveries += 1
    state.totals.delays_s.append(event.delay_s)
    state.totals.computed_delays_s.append(event.computed_delay_s)


def _answer(state: Snapshot, event: Answered) -> None:
    device = state.device(event.user)
    device.answers.append(event.answer)
    device.unicast_weight_bytes += event.unicast_weight_bytes


def _reject(state: Snapshot, event: Rejected) -> None:
    state.totals.rejected += 1


def _fault(state: Snapshot, event: Faulted) -> None:
    place = _place(state, event.place)
    if place is not None:
        place.fault = event.fault


def _recover(state: Snapshot, event: Recovered) -> None:
    place = _place(state, event.place)
    if place is not None:
        place.fault = ""


def _place(state: Snapshot, text: str) -> NodeState | DeviceState | None:
    kind, _, number = text.partition(" ")
    if not number.isdigit():
        return None
    if kind == "node":
        return state.node(int(number))
    return state.device(int(number)) if kind == "device" else None


def _end(state: Snapshot, event: Ended) -> None:
    state.ended = event


_STEPS: dict[type[Event], Callable[[Snapshot, Any], None]] = {
    Started: _start,
    SlotBegan: _begin,
    Decided: _decide,
    Requested: _request,
    Reported: _report,
    Planned: _plan,
    Transferred: _transfer,
    Broadcast: _broadcast,
    Delivered: _deliver,
    Answered: _answer,
    Rejected: _reject,
    Faulted: _fault,
    Recovered: _recover,
    Ended: _end,
}
