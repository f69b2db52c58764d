"""The numbers behind each panel, as rows: made of the log's lines alone."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from demo.emulation.log import Line, fold
from demo.emulation.log.events import Broadcast, Decided, Delivered, Event, Started, Transferred
from demo.jobs.report import RunReport

Row = dict[str, Any]


def csv_text(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Rows under their columns; lists are joined by spaces."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row[name]) for name in columns})
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return "" if value is None else value


def events_csv(kind: type[Event]) -> Callable[[Sequence[Line]], str]:
    """A table of all events of a kind."""
    columns = ["at_s", *(item.name for item in fields(kind))]

    def table(lines: Sequence[Line]) -> str:
        rows = ({"at_s": line.at_s, **asdict(line.event)} for line in lines if isinstance(line.event, kind))
        return csv_text(rows, columns)

    return table


def nodes_csv(lines: Sequence[Line]) -> str:
    """Each node at the end of what there is."""
    state = fold(lines)
    rooms = {about.node: about.capacity_bytes for about in state.run.nodes} if state.run else {}
    rows = (
        {
            "node": number,
            "capacity_bytes": rooms.get(number, 0),
            "held_bytes": node.held_bytes,
            "units": sorted(node.held),
            "decisions": node.decisions,
            "requests": node.requests,
            "message_bytes": node.message_bytes,
            "fault": node.fault,
        }
        for number, node in sorted(state.nodes.items())
    )
    names = [
        "node",
        "capacity_bytes",
        "held_bytes",
        "units",
        "decisions",
        "requests",
        "message_bytes",
        "fault",
    ]
    return csv_text(rows, names)


def wire_csv(lines: Sequence[Line]) -> str:
    """Sums of all bytes that travelled."""
    totals = fold(lines).totals
    kept = [item.name for item in fields(totals) if not item.name.endswith("delays_s")]
    return csv_text(({"what": name, "sum": getattr(totals, name)} for name in kept), ["what", "sum"])


def sharing_csv(lines: Sequence[Line]) -> str:
    """Each unit with its bytes and the models that are made of it."""
    return csv_text(_units(_start_of(lines)), ["unit", "kept_bytes", "models"])


def _start_of(lines: Sequence[Line]) -> Started | None:
    return lines[0].event if lines and isinstance(lines[0].event, Started) else None


def _units(run: Started | None) -> Iterator[Row]:
    if run is None:
        return
    for unit, size in enumerate(run.unit_bytes):
        models = [model.name for model in run.models if unit in model.units]
        yield {"unit": unit, "kept_bytes": size, "models": models}


TABLES: dict[str, Callable[[Sequence[Line]], str]] = {
    "broadcasts": events_csv(Broadcast),
    "decisions": events_csv(Decided),
    "deliveries": events_csv(Delivered),
    "nodes": nodes_csv,
    "sharing": sharing_csv,
    "transfers": events_csv(Transferred),
    "wire": wire_csv,
}
"""Each table by the name of its address."""


def schemes_of(report: RunReport | None) -> Row:
    """The schemes of a report beside the log: mean delay, least and greatest world, 95th percentile, s."""
    rows = [] if report is None else list(report.schemes.items())
    return {
        "schemes": [
            {
                "name": name,
                "mean": row.mean_delay_s,
                "low": min(row.world_delays_s, default=row.mean_delay_s),
                "high": row.p95_delay_s,
            }
            for name, row in rows
        ]
    }
