"""A log of a live edge as lines for a human, and what its check found."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.console import say
from demo.emulation.log import Line, Verdict, check_log, read_log
from demo.emulation.log.events import (
    Answered,
    Broadcast,
    Decided,
    Delivered,
    Faulted,
    Planned,
    Recovered,
    Rejected,
    Requested,
    Started,
    Transferred,
)

LOG_NAME = "events.jsonl"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log that was told again."""

    verdict: Verdict

    @property
    def broken(self) -> tuple[str, ...]:
        """Laws that it breaks."""
        return self.verdict.broken

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        verdict, totals = self.verdict, asdict(self.verdict.state.totals)
        return {
            "lines": verdict.lines,
            "ended": verdict.ended,
            "broken": list(verdict.broken),
            "unserved": verdict.unserved,
            "totals": totals,
        }

    def lines(self) -> list[str]:
        """For a human."""
        verdict, totals = self.verdict, self.verdict.state.totals
        how = "ended" if verdict.ended else "not ended"
        told = [
            f"{verdict.lines} lines, {how}: {totals.deliveries} of {totals.requests} requests delivered, "
            f"{totals.broadcast_bytes / 1e6:.1f} MB broadcast, {totals.backhaul_bytes / 1e6:.1f} MB between "
            f"nodes, {totals.origin_bytes / 1e6:.1f} MB from the origin",
            *[f"broken: {one}" for one in verdict.broken],
        ]
        return told if verdict.broken else [*told, "every law holds"]


def replay_log(path: Path, until_s: float | None, speed: float, *, quiet: bool) -> Replayed:
    """Tell a log again.

    Args:
        path: The log, or the folder that holds it.
        until_s: Stop there, s since the start.
        speed: How many times as fast as it was; 0: at once.
        quiet: Say nothing.

    Raises:
        ValueError: If there is nothing in it.
    """
    path = path / LOG_NAME if path.is_dir() else path
    until = math.inf if until_s is None else until_s
    verdict = check_log(_told(path, until, speed, quiet))
    if not verdict.lines and until_s is None:
        raise ValueError(f"{path} is no event log: it has not a whole line")
    return Replayed(verdict)


def _told(path: Path, until_s: float, speed: float, quiet: bool) -> Iterator[Line]:
    began = time.monotonic()
    for line in read_log(path):
        if line.at_s > until_s:
            return
        if speed:
            time.sleep(max(0.0, line.at_s / speed - (time.monotonic() - began)))
        if not quiet and (text := sentence(line)):
            say(text)
        yield line


def sentence(line: Line) -> str:
    """One event in words; empty for those that say little by themselves."""
    text = _words(line.event)
    return f"{line.at_s:9.3f} s  {text}" if text else ""


def _words(event: Any) -> str:  # noqa: ANN401
    match event:
        case Started():
            about = f"{len(event.nodes)} nodes, {event.num_users} users, {len(event.models)} models"
            return f"{about}; nodes decide by {event.scheme}"
        case Decided():
            gone = f", {len(event.dropped)} out" if event.dropped else ""
            return (
                f"node {event.node} decides: {len(event.added)} units in{gone}, {event.held_bytes} bytes held"
            )
        case Requested():
            whom = "" if event.node < 0 else f" node {event.node}"
            return f"user {event.user} asks{whom} for {event.model} ({event.source})"
        case Planned():
            return f"node {event.node} leads: {event.transfers} transfers, {event.broadcasts} broadcasts"
        case Answered():
            return f"user {event.user} runs {event.model}: {event.answer}"
        case Delivered():
            how = f"{event.received_bytes} bytes by air, {event.delay_s:.3f} s"
            return f"user {event.user} has {event.model}, {how}"
        case _:
            return _words_of_traffic(event)


def _words_of_traffic(event: Any) -> str:  # noqa: ANN401
    match event:
        case Transferred():
            source = "the origin" if event.source < 0 else f"node {event.source}"
            how = f"does not come: {event.why_not}" if event.why_not else f"{event.payload_bytes} bytes"
            return f"unit {event.unit} from {source} to node {event.target} ({event.cause}): {how}"
        case Broadcast():
            return (
                f"nodes {_some(event.holders)} broadcast {len(event.units)} units, "
                f"{event.payload_bytes} bytes, to users {_some(event.users)} "
                f"at {event.rate_bit_s / 1e6:.0f} Mbit/s{_beside(event)}"
            )
        case Faulted():
            return f"fault: {event.fault} {event.place} {event.about}".rstrip()
        case Recovered():
            return f"recovered: {event.fault} {event.place} after {event.recovered_s:.2f} s"
        case Rejected():
            return f"{event.place} throws away what it was given: {event.why}"
        case _:
            return ""


def _beside(event: Broadcast) -> str:
    """What was on the air with it, if something was."""
    if not event.together:
        return ""
    share = event.rate_bit_s / event.alone_bit_s if event.alone_bit_s else 1.0
    return f", {share:.0%} of its rate alone, as number {event.number} beside {_some(event.together)}"


def _some(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
