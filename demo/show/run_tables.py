"""A report as tables on the terminal."""

from pathlib import Path

import numpy as np
from scipy.stats import t as student

from demo.console import Sheet, say
from demo.jobs.config import REFERENCE
from demo.jobs.report import REPORT_NAME, RunReport, SchemeReport
from demo.show.load import DEFINITIONS, LOAD_COLUMNS, load_cells, overload_lines

SHOWN_ANSWERS = 4
"""Answers of delivered models that are printed; all are in the report."""


def print_report(report: RunReport, folder: Path) -> None:
    """Print what a run found: models, bytes, schemes, deliveries, and where the rest is."""
    models_table(report).print()
    say(savings_line(report), "")
    say(*definition_lines(report))
    schemes_table(report).print()
    say(*reading_lines(report), "")
    run_load_table(report).print()
    say(*run_load_lines(report), *delivery_lines(report), "")
    say(*figure_lines(report), "")
    say(*where_lines(folder))


def where_lines(folder: Path) -> list[str]:
    """Where to look further."""
    return [
        f"All numbers: {folder / REPORT_NAME}. Pictures: delay_by_scheme.png, savings.png.",
        f"One page with all of it: pbcast report {folder}",
        "An edge that lives, on a page that shows it: pbcast dashboard --live",
    ]


def models_table(report: RunReport) -> Sheet:
    """One row per model: size, score on held-out rows, and that of always saying the commonest answer."""
    table = Sheet("model", "kind", "#MB", "#score", "#chance", box=None)
    for row in report.zoo:
        shares = ("" if share is None else f"{share:.1%}" for share in (row.value, row.majority))
        table.row(row.model, row.kind, f"{row.raw_bytes / 1e6:.1f}", *shares)
    return table


def savings_line(report: RunReport) -> str:
    """Bytes of the catalog in one line."""
    held = report.catalog
    return (
        f"{held.models} models, {held.raw_bytes / 1e6:.1f} MB as folders; "
        f"whole files shared {held.file_dedup_bytes / 1e6:.1f} MB, "
        f"blocks shared {held.block_dedup_bytes / 1e6:.1f} MB, "
        f"on the disk {held.disk_bytes / 1e6:.1f} MB ({held.disk_bytes / held.raw_bytes:.1%})"
    )


def schemes_table(report: RunReport) -> Sheet:
    """One row a scheme: delays, how much more than the reference, time on the air, hits; bytes in MB."""
    numbers = ("mean s", "more", "±", "p95 s", "air s", "hits", "moved", "cloud", "cache")
    lossy = any(row.lost_ratio for row in report.schemes.values())
    columns = (*numbers, "lost") if lossy else numbers
    table = Sheet("placement", "without", *(f"#{column}" for column in columns), box=None)
    for name, row in report.schemes.items():
        placement, _, switch = name.partition("+")
        moved = (row.migrated_bytes, row.cloud_bytes, row.cache_update_bytes)
        table.row(
            placement,
            _WITHOUT.get(switch, switch),
            f"{row.mean_delay_s:.3f}",
            *excess_cells(name, row, report),
            f"{row.p95_delay_s:.2f}",
            f"{row.airtime_s:.1f}",
            f"{row.hit_ratio:.0%}",
            *(f"{size / 1e6:.0f}" for size in moved),
            *([f"{row.lost_ratio:.0%}"] if lossy else []),
        )
    return table


_WITHOUT = {
    "no-migration": "migration",
    "no-comp": "CoMP",
    "no-air-sharing": "shared air",
    "no-store-sharing": "shared stores",
    "kept-form": "choice of form",
    "raw-form": "deltas",
}
"""What is switched off, by the suffix of a row's name."""


def excess(row: SchemeReport, reference: SchemeReport) -> tuple[float, float | None]:
    """How much more delay than the reference, and half its 95 % interval over worlds, as shares of it.

    The difference is paired by world; the interval is Student's, None where there is one world only.
    """
    own, other = (np.array(one.world_delays_s or [one.mean_delay_s]) for one in (row, reference))
    scale = float(other.mean()) or 1.0
    differences = (own - other) / scale
    if differences.size < 2:
        return float(differences.mean()), None
    spread = float(differences.std(ddof=1)) / differences.size**0.5
    return float(differences.mean()), float(student.ppf(0.975, differences.size - 1)) * spread


def excess_cells(name: str, row: SchemeReport, report: RunReport) -> tuple[str, str]:
    """How much more delay than the reference, and half its interval, for a table; empty for the reference."""
    if name == REFERENCE:
        return "", ""
    more, half = excess(row, report.schemes[REFERENCE])
    return f"{more:+.1%}", "" if half is None else f"{half:.1%}"


def run_load_table(report: RunReport) -> Sheet:
    """Utilisation, backlog and update traffic of each row, after what the columns mean."""
    title = "\n".join(DEFINITIONS)
    table = Sheet("placement", "without", *(f"#{name}" for name in LOAD_COLUMNS), title=title, box=None)
    for name, row in report.schemes.items():
        placement, _, switch = name.partition("+")
        if row.load is not None:
            update_bytes = row.cache_update_bytes / report.settings["slots"]
            table.row(placement, _WITHOUT.get(switch, switch), *load_cells(row.load, update_bytes))
    return table


def run_load_lines(report: RunReport) -> list[str]:
    """A warning where band or links are given more than they can do."""
    scenario = report.settings["scenario"]
    carried = scenario["backlog"] and scenario["timing"] != "additive"
    loads = {name: row.load for name, row in report.schemes.items() if row.load is not None}
    return overload_lines(loads, carried=carried)


def definition_lines(report: RunReport) -> list[str]:
    """What the columns of the table of schemes mean."""
    worlds = len(report.schemes[REFERENCE].world_delays_s)
    return [
        "placement: which blocks each node caches; without: what is switched off;",
        f"mean s: delay from request to last block; more, ±: than {REFERENCE},",
        f"in the mean of {worlds} worlds, with half its 95 % interval;",
        "air: time the band was in use; hits: served without the cloud;",
        "moved between nodes, from the cloud, into caches: MB a world;",
        "whole models travel raw.",
    ]


def reading_lines(report: RunReport) -> list[str]:
    """What the table of schemes leaves open, and which levers have nothing to gain here."""
    worst_gap = max(row.worst_gap for row in report.schemes.values())
    return [
        f"A node has room for {report.settings['capacity_share']:.0%} of all blocks.",
        *bound_lines(report),
        *flat_lines(report),
        f"SNR within {worst_gap:.1%} of a proven upper bound, at worst.",
    ]


def bound_lines(report: RunReport) -> list[str]:
    """How much at most is left to gain, whatever is cached, moved and sent how."""
    least = report.bounds.get("unlimited_s")
    if least is None:
        return []
    return [
        f"No scheme can do better than {least:.3f} s, with every block at every node: "
        f"{_left(report, report.schemes[REFERENCE])} below {REFERENCE}."
    ]


def _left(report: RunReport, row: SchemeReport) -> str:
    """What anybody could take off a row at most."""
    return f"{max(1.0 - report.bounds['unlimited_s'] / row.mean_delay_s, 0.0):.0%}"


FLAT = 0.01
"""A row within this share of the reference is said to gain nothing."""


def flat_lines(report: RunReport) -> list[str]:
    """One line a row that is no slower than the reference, with what bounds the gain of that lever."""
    reference, lines = report.schemes[REFERENCE], []
    for name, row in report.schemes.items():
        _, _, switch = name.partition("+")
        more, half = excess(row, reference)
        if name == REFERENCE or not name.startswith(f"{REFERENCE}+") or more > max(FLAT, half or 0.0):
            continue
        left = f"; nobody can take more than {_left(report, row)} off that row" if report.bounds else ""
        lines.append(f"{_WITHOUT[switch]}: {more:+.1%}, {_why_flat(switch, row, reference)}{left}.")
    return lines


def _why_flat(switch: str, row: SchemeReport, reference: SchemeReport) -> str:
    """The bound that a lever's gain cannot pass, or that the difference is within the noise."""
    if switch == "no-migration" and reference.migrated_bytes == 0:
        return "nothing to gain: no block was worth a copy"
    if switch in ("kept-form", "raw-form") and row.airtime_s <= reference.airtime_s * (1 + FLAT):
        return (
            f"little to gain: the band is busy {reference.airtime_s:.1f} s with the chosen forms, "
            f"{row.airtime_s:.1f} s without"
        )
    if switch == "no-store-sharing" and row.hit_ratio >= reference.hit_ratio - FLAT:
        return f"nothing to gain: {row.hit_ratio:.0%} of requests are served from the edge either way"
    return "within what these worlds can tell; more of them (--worlds) narrow it"


def delivery_lines(report: RunReport) -> list[str]:
    """How many deliveries were right, and what some delivered models answered."""
    rows = report.deliveries
    files = sum(row.sha256_ok for row in rows)
    answers = sum(row.inference_equal is True for row in rows)
    skipped = sum(row.inference_equal is None for row in rows)
    sent = sum(row.bytes_sent for row in rows)
    lines = [
        "",
        f"{len(rows)} deliveries with real bytes, {sent / 1e6:.1f} MB received: "
        f"{files} equal their source by SHA-256, {answers} answer bit for bit like the original"
        + (f", {skipped} cannot be run here" if skipped else ""),
    ]
    shown = {row.model: row for row in rows}
    for row in list(shown.values())[:SHOWN_ANSWERS]:
        lines.append(f"  user {row.user}, {row.model}, {row.delay_s:.2f} s: {row.sample_output}")
    return lines


def figure_lines(report: RunReport) -> list[str]:
    """The three figures that matter: bytes kept, delay beside the best rival, models that arrived whole."""
    held, reference = report.catalog, report.schemes[REFERENCE]
    rivals = {name: row for name, row in report.schemes.items() if "+" not in name and name != REFERENCE}
    best = min(rivals, key=lambda name: rivals[name].mean_delay_s)
    more, half = excess(rivals[best], reference)
    whole, _ = excess(report.schemes["whole-model"], reference)
    good = sum(row.sha256_ok and row.inference_equal is not False for row in report.deliveries)
    sure = "" if half is None else f" ± {half:.1%}"
    return [
        f"1. {held.models} models take {held.disk_bytes / held.raw_bytes:.0%} of their bytes.",
        f"2. A user waits {reference.mean_delay_s:.2f} s for a model with {REFERENCE}; "
        f"{more:+.1%}{sure} with {best}, the best of the others, {whole:+.0%} with whole models.",
        f"3. {good} of {len(report.deliveries)} models delivered with real bytes equal the originals.",
    ]
