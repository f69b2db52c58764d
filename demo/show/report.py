"""`pbcast report`: what a folder of a run holds, as one page beside its pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from demo.emulation.log import Line, fold, read_log
from demo.emulation.log.events import COMPUTED, Delivered, Started
from demo.jobs.emulate_report import EMULATE_REPORT
from demo.jobs.report import REPORT_NAME, RunReport, commit, versions
from demo.jobs.sweep import sweep_capacities
from demo.show.ladder import draw_capacities
from demo.show.report_page import Part, big_list, figure, flat, page, pairs, paragraph, table
from demo.show.run_figures import draw_delays, draw_savings
from demo.show.run_tables import excess_cells, figure_lines, reading_lines, savings_line
from demo.show.timeline import busiest_slot, draw_timeline, spans_of
from policy.evaluation import Evaluation
from policy.kept import replace_text

LOG_NAME = "events.jsonl"
PAGE, FIGURES = "report.html", "figures"
HONESTY = (
    "Real: weights, stores, every byte that was cached, moved, received and hashed; inference. "
    "Emulated: nodes, devices, wires. Computed: channels, beams, rates, and the delays of simulated schemes."
)


def write_report(folder: Path, slot: int | None = None, shares: Sequence[float] = ()) -> Path:
    """Write `report.html` and `figures/` into a run's folder.

    Args:
        folder: With `report.json` (`pbcast run`), `emulate.json` (`pbcast emulate`), `events.jsonl` (both).
        slot: Slot whose timeline is drawn; None: the one with the most broadcasts.
        shares: Rooms of a node at which the run's schemes are played for a picture beside the delays.

    Returns:
        The page.

    Raises:
        ValueError: If there is nothing of a run in the folder, or no such slot.
    """
    run = RunReport.read(folder) if (folder / REPORT_NAME).is_file() else None
    lines = list(read_log(folder / LOG_NAME)) if (folder / LOG_NAME).is_file() else []
    live = None if _is_computed(lines) else _read_live(folder)  # of an edge whose log a run has replaced
    if run is None and live is None and not lines:
        raise ValueError(f"expected {REPORT_NAME}, {EMULATE_REPORT} or {LOG_NAME} of a run in {folder}")
    parts = [Part(title="What is real", body=paragraph(HONESTY))]
    if run is not None:
        parts += _run_parts(run, folder / FIGURES, sweep_capacities(run, folder, shares) if shares else {})
    elif shares:
        raise ValueError(f"expected {REPORT_NAME} of `pbcast run` in {folder}, which says what to play")
    if lines:
        parts += _log_parts(lines, folder / FIGURES, slot)
        parts += [] if run is not None and _is_computed(lines) else [_log_deliveries(lines)]
    parts += _origin_parts(run, live, lines)
    path = folder / PAGE
    replace_text(path, page(f"pbcast: {folder.absolute().name}", parts))
    return path


def _is_computed(lines: Sequence[Line]) -> bool:
    """Whether a log is that of `pbcast run`."""
    return bool(lines) and isinstance(lines[0].event, Started) and lines[0].event.runtime == COMPUTED


def _read_live(folder: Path) -> dict[str, Any] | None:
    path = folder / EMULATE_REPORT
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no report of a live edge: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no report of a live edge: expected an object")
    return content


def _run_parts(run: RunReport, folder: Path, sweep: Mapping[float, Evaluation]) -> Iterator[Part]:
    yield Part(title="Three figures", body=big_list(line.split(". ", 1)[1] for line in figure_lines(run)))
    delays = figure(partial(draw_delays, run), folder, "delay_by_scheme", "Delay of a user by scheme")
    if sweep:
        caption = "Delay over the room of a node; the same scenario and models on the policy's cheap radio"
        delays += figure(partial(draw_capacities, sweep), folder, "capacities", caption)
    yield Part(title="Delay", body=delays + _schemes(run))
    savings = figure(partial(draw_savings, run), folder, "savings", savings_line(run))
    models = (
        (
            row.model,
            row.base or "",
            row.kind,
            f"{row.raw_bytes / 1e6:.1f}",
            _share(row.value),
            _share(row.majority),
        )
        for row in run.zoo
    )
    heads = ("model", "base", "kind", "#MB", "#score", "#chance")
    yield Part(title="Models and their bytes", body=savings + table(heads, models))
    yield Part(title="Deliveries with real bytes", body=_deliveries(run))


def _deliveries(run: RunReport) -> str:
    rows = (
        (
            row.slot,
            row.user,
            row.model,
            f"{row.delay_s:.2f}",
            f"{row.bytes_sent / 1e6:.1f}",
            "equal" if row.sha256_ok else "DIFFERS",
            {True: "equal", False: "DIFFERS", None: "not run"}[row.inference_equal],
            row.sample_output,
        )
        for row in run.deliveries
    )
    heads = ("#slot", "#user", "model", "#delay, s", "#MB received", "SHA-256", "inference", "answer")
    return table(heads, rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _schemes(run: RunReport) -> str:
    heads = (
        "scheme",
        "#mean, s",
        "#more",
        "#±",
        "#95th, s",
        "#air, s",
        "#hits",
        "#moved, MB",
        "#cloud, MB",
        "#caches, MB",
    )
    rows = (
        (
            name,
            f"{row.mean_delay_s:.3f}",
            *excess_cells(name, row, run),
            f"{row.p95_delay_s:.2f}",
            f"{row.airtime_s:.1f}",
            f"{row.hit_ratio:.0%}",
            *(f"{size / 1e6:.0f}" for size in (row.migrated_bytes, row.cloud_bytes, row.cache_update_bytes)),
        )
        for name, row in run.schemes.items()
    )
    return table(heads, rows) + "".join(paragraph(line, note=True) for line in reading_lines(run))


def _log_parts(lines: list[Line], folder: Path, slot: int | None) -> Iterator[Part]:
    chosen = busiest_slot(lines) if slot is None else slot
    spans = spans_of(lines, chosen) if chosen is not None else []
    if slot is not None and not spans:
        raise ValueError(f"the log has nothing of slot {slot}")
    if spans:
        title = f"slot {chosen}: {sum(span.lane == 'band' for span in spans)} broadcasts"
        how = "by the plan" if _is_computed(lines) else "as it came"
        drawn = figure(
            lambda path: draw_timeline(spans, path, title, how), folder, "timeline", f"One slot, {how}"
        )
        yield Part(title="Timeline of one slot", body=drawn)
    totals = fold(lines).totals
    sums = {
        "requests": totals.requests,
        "deliveries": totals.deliveries,
        "from the cloud, MB": f"{totals.origin_bytes / 1e6:.1f}",
        "between nodes, MB": f"{totals.backhaul_bytes / 1e6:.1f}",
        "on the air, MB": f"{totals.broadcast_bytes / 1e6:.1f}",
        "on the air with all headers, MB": f"{totals.wire_bytes / 1e6:.1f}",
        "of it repair, MB": f"{totals.repair_bytes / 1e6:.1f}",
        "rejected for wrong bytes": totals.rejected,
    }
    if _is_computed(lines):
        sums = {name: value for name, value in sums.items() if "headers" not in name and "repair" not in name}
    whose = "the slots with real bytes" if _is_computed(lines) else "the live edge"
    yield Part(title=f"Bytes of {whose}", body=pairs(sums))


def _log_deliveries(lines: Sequence[Line]) -> Part:
    rows = (
        (
            event.slot,
            event.user,
            event.model,
            f"{event.delay_s:.2f}",
            f"{event.computed_delay_s:.2f}",
            f"{event.received_bytes / 1e6:.1f}",
            event.files_sha256[:16],
            "equal" if event.sha256_ok else "DIFFERS",
            event.answer,
        )
        for event in (line.event for line in lines)
        if isinstance(event, Delivered)
    )
    heads = (
        "#slot",
        "#user",
        "model",
        "#delay, s",
        "#computed, s",
        "#MB",
        "files' hash",
        "SHA-256",
        "answer",
    )
    return Part(title="Deliveries in the log", body=table(heads, rows))


def _origin_parts(run: RunReport | None, live: dict[str, Any] | None, lines: list[Line]) -> Iterator[Part]:
    """Settings and versions, so that it can be run again."""
    settings: dict[str, object] = {}
    packages: dict[str, object] = {}
    if run is not None:
        settings |= {"seed": run.seed, **flat(run.settings)}
        packages |= dict(run.versions)
    if live is not None:
        settings |= flat(live.get("settings", {}), "live.")
        packages |= {f"live.{name}": value for name, value in dict(live.get("versions", {})).items()}
    if lines and isinstance(lines[0].event, Started):
        start = lines[0].event
        settings |= {"log.seed": start.seed, "log.scheme": start.scheme, "log.runtime": start.runtime}
    if not packages:
        packages |= versions()
    yield Part(title="Settings", body=pairs(settings))
    yield Part(title="Versions", body=pairs({**packages, "this page was made at commit": commit()}))
