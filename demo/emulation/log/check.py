"""The laws of a log: what must hold in every run, whatever broke in it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from demo.emulation.log.events import Answered, Broadcast, Decided, Delivered, Ended, Line, Started
from demo.emulation.log.fold import Snapshot


class LogError(Exception):
    """A log breaks a law."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A log as it was found."""

    lines: int
    ended: bool
    """Whether its last line says that the run is over."""
    broken: tuple[str, ...]
    """Each law that it breaks, with the line; empty: none."""
    unserved: int
    """Requests without a delivery."""
    state: Snapshot

    def raise_if_broken(self) -> None:
        """Raise LogError for the first law that is broken."""
        if self.broken:
            raise LogError(
                self.broken[0] + (f" (and {len(self.broken) - 1} more)" if self.broken[1:] else "")
            )


def check_log(lines: Iterable[Line]) -> Verdict:
    """Fold a log and check it.

    The laws: lines are numbered without a gap and in order of time; the first says what is run; a delivery
    answers a request of its user and has exactly its model's files; whoever answers, answers right; a node
    never holds more than its capacity; the sums at the end are those of the lines.
    """
    state, broken, count = Snapshot(), list[str](), 0
    for line in lines:
        broken += [f"line {count + 1}: {fault}" for fault in _faults(state, line, count)]
        state.take(line)
        count += 1
    if state.ended is not None:
        broken += [f"line {count}: {fault}" for fault in _sums(state, state.ended)]
    waiting = sum(len(device.waiting) for device in state.devices.values())
    return Verdict(
        lines=count, ended=state.ended is not None, broken=tuple(broken), unserved=waiting, state=state
    )


def _faults(state: Snapshot, line: Line, count: int) -> Iterable[str]:
    """What is wrong with a line, given all before it."""
    event = line.event
    if line.seq != count:
        yield f"expected number {count}, got {line.seq}"
    if line.at_s < state.at_s:
        yield f"goes back in time, from {state.at_s} to {line.at_s} s"
    if state.ended is not None:
        yield "comes after the end"
    if isinstance(event, Started) != (count == 0):
        yield "a log has one start, and that is its first line"
    if isinstance(event, Delivered):
        yield from _of_delivery(state, event)
    elif isinstance(event, Answered) and event.inference_equal is False:
        yield f"user {event.user} got another answer of {event.model} than the original's"
    elif isinstance(event, Decided):
        yield from _of_decision(state, event)
    elif isinstance(event, Broadcast):
        yield from _of_broadcast(state, event)


def _of_delivery(state: Snapshot, event: Delivered) -> Iterable[str]:
    models = {model.name: model for model in state.run.models} if state.run else {}
    about = models.get(event.model)
    if about is None:
        yield f"delivers {event.model}, which the run does not have"
    elif event.files_sha256 != about.files_sha256 or not event.sha256_ok:
        yield f"delivers to user {event.user} files that are not those of {event.model}"
    if (event.slot, event.model) not in state.device(event.user).waiting:
        yield f"delivers {event.model} to user {event.user}, who did not ask for it in slot {event.slot}"
    if event.inference_equal is False:
        yield f"user {event.user} got another answer of {event.model} than the original's"


def _of_broadcast(state: Snapshot, event: Broadcast) -> Iterable[str]:
    if not (event.holders and event.users):
        yield "a broadcast without holders or users"
    beams = state.beams.get(event.slot, {})
    for other in event.together:
        both = sorted({*event.users} & {*beams.get(other, ())})
        if other == event.number or both:
            who = f"users {both} hear both" if both else "it is the same one"
            yield f"broadcasts {event.number} and {other} of slot {event.slot} cannot go together: {who}"


def _of_decision(state: Snapshot, event: Decided) -> Iterable[str]:
    if state.run is None:
        return
    room = {about.node: about.capacity_bytes for about in state.run.nodes}.get(event.node)
    if room is None:
        yield f"there is no node {event.node}"
    elif event.held_bytes > room:
        yield f"node {event.node} holds {event.held_bytes} bytes of {room}"


def _sums(state: Snapshot, ended: Ended) -> Iterable[str]:
    counted: dict[str, Any] = {name: getattr(state.totals, name) for name in asdict(ended)}
    for name, said in asdict(ended).items():
        if counted[name] != said:
            yield f"the end says {name} = {said}, the lines add up to {counted[name]}"
