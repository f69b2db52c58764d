"""The report of a live edge, out of its log. The schema is written out in `demo/emulation/README.md`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from demo.emulation.log.check import Verdict
from demo.emulation.log.events import (
    ORIGIN,
    Answered,
    Broadcast,
    Decided,
    Delivered,
    Faulted,
    Line,
    Recovered,
    Reported,
    Transferred,
)
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.report import versions
from policy.kept import replace_text
from policy.strict_json import strict_json

EMULATE_REPORT = "emulate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulateReport:
    """All that a live edge did."""

    seed: int
    settings: Mapping[str, Any]
    deliveries: tuple[Mapping[str, Any], ...]
    wire: Mapping[str, int]
    faults: tuple[Mapping[str, Any], ...]
    nodes: tuple[Mapping[str, Any], ...]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=lambda: versions())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def write(self, folder: Path) -> Path:
        """Write `emulate.json` into a folder, whole or not at all."""
        path = folder / EMULATE_REPORT
        replace_text(path, strict_json(self.to_dict()) + "\n")
        return path

    @property
    def good(self) -> bool:
        """Whether every delivery is what it should be."""
        return all(row["sha256_ok"] and row["inference_equal"] is not False for row in self.deliveries)


def report_of(
    config: EmulateConfig, verdict: Verdict, lines: Iterable[Line], seconds: float
) -> EmulateReport:
    """The report of a run that was checked."""
    events = [line for line in lines if not isinstance(line.event, Transferred) or not line.event.why_not]
    return EmulateReport(
        seed=config.run.seed,
        settings=config.to_dict(),
        deliveries=tuple(_deliveries(events)),
        wire=_wire(events),
        faults=tuple(_faults(events)),
        nodes=tuple(_nodes(events, verdict)),
        seconds=seconds,
    )


def _deliveries(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Each delivery, with what a client answered from it, if one was asked."""
    rows: dict[tuple[int, int, str], dict[str, Any]] = {}
    for line in lines:
        event = line.event
        if isinstance(event, Delivered):
            rows[event.slot, event.user, event.model] = {
                "model": event.model,
                "user": event.user,
                "slot": event.slot,
                "delay_s": event.delay_s,
                "computed_delay_s": event.computed_delay_s,
                "by_air": event.by_air,
                "lived_s": event.lived_s,
                "sha256_ok": event.sha256_ok,
                "inference_equal": event.inference_equal,
                "unicast_weight_bytes": event.unicast_weight_bytes,
                "sample_output": event.answer,
            }
        elif isinstance(event, Answered) and (event.slot, event.user, event.model) in rows:
            rows[event.slot, event.user, event.model].update(
                inference_equal=event.inference_equal,
                unicast_weight_bytes=event.unicast_weight_bytes,
                sample_output=event.answer,
            )
    return list(rows.values())


def _wire(lines: Iterable[Line]) -> dict[str, int]:
    events = [line.event for line in lines]
    casts = [event for event in events if isinstance(event, Broadcast)]
    moves = [event for event in events if isinstance(event, Transferred)]
    return {
        "payload_bytes": sum(cast.payload_bytes for cast in casts),
        "ethernet_bytes": sum(cast.wire_bytes for cast in casts),
        "repair_bytes": sum(cast.repair_bytes for cast in casts),
        "broadcasts": len(casts),
        "together": sum(bool(cast.together) for cast in casts),
        "migrated_bytes": _bytes(moves, backhaul=True, update=False),
        "cloud_bytes": _bytes(moves, backhaul=False, update=False),
        "cache_update_bytes": _bytes(moves, backhaul=True, update=True)
        + _bytes(moves, backhaul=False, update=True),
    }


def _bytes(moves: Iterable[Transferred], *, backhaul: bool, update: bool) -> int:
    return sum(
        move.payload_bytes
        for move in moves
        if (move.source != ORIGIN) == backhaul and (move.cause == "update") == update
    )


def _faults(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Faults in order, each with the time until what it broke worked again; None if it never did."""
    rows: list[dict[str, Any]] = []
    for line in lines:
        event = line.event
        if isinstance(event, Faulted):
            what = f"{event.fault} {event.place}".strip()
            rows.append({"at_s": line.at_s, "what": what, "recovered_s": None})
        elif isinstance(event, Recovered):
            what = f"{event.fault} {event.place}".strip()
            for row in reversed(rows):
                if row["what"] == what and row["recovered_s"] is None:
                    row["recovered_s"] = event.recovered_s
                    break
    return rows


def _nodes(lines: Iterable[Line], verdict: Verdict) -> list[dict[str, Any]]:
    """What each node did: decisions, messages, and the share of its broadcasts' bytes that were cached."""
    lines = list(lines)
    rows = []
    for node, state in sorted(verdict.state.nodes.items()):
        decisions = sum(isinstance(one.event, Decided) and one.event.node == node for one in lines)
        sent = sum(
            one.event.sent_bytes
            for one in lines
            if isinstance(one.event, Reported) and one.event.node == node
        )
        rows.append(
            {
                "node": node,
                "decisions": decisions,
                "message_bytes": sent,
                "hit_ratio": _hit_ratio(lines, node),
                "stored_bytes": state.held_bytes,
            }
        )
    return rows


def _hit_ratio(lines: Iterable[Line], node: int) -> float:
    """Share of the payload bytes that a node helped to send which it did not have to fetch for that."""
    sent = fetched = 0
    for line in lines:
        event = line.event
        if isinstance(event, Broadcast) and node in event.holders:
            sent += event.payload_bytes
        elif isinstance(event, Transferred) and event.target == node and event.cause != "update":
            fetched += event.payload_bytes
    return 1.0 if sent == 0 else max(0.0, 1.0 - fetched / sent)
