"""A report as tables on the terminal."""

from pathlib import Path

from demo.console import Sheet, say
from demo.jobs.report import REPORT_NAME, RunReport

SHOWN_ANSWERS = 4
"""Answers of delivered models that are printed; all are in the report."""


def print_report(report: RunReport, folder: Path) -> None:
    """Print what a run found: models, bytes, schemes, deliveries, and where the rest is."""
    models_table(report).print()
    say(savings_line(report), "")
    schemes_table(report).print()
    say(*reading_lines(report), *delivery_lines(report), "")
    say(f"{folder / REPORT_NAME}, delay_by_scheme.png, savings.png")


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
    """One row a scheme: delays, time on the air, requests served without the cloud; bytes in MB."""
    numbers = ("mean s", "p95 s", "air s", "hits", "moved", "cloud", "cache")
    table = Sheet("placement", "without", *(f"#{column}" for column in numbers), box=None)
    last = ""
    for name, row in report.schemes.items():
        placement, *switches = name.split("+")
        table.row(
            placement if placement != last else "",
            "both" if len(switches) > 1 else "".join(switches).removeprefix("no-"),
            f"{row.mean_delay_s:.3f}",
            f"{row.p95_delay_s:.2f}",
            f"{row.airtime_s:.1f}",
            f"{row.hit_ratio:.0%}",
            *(f"{size / 1e6:.0f}" for size in (row.migrated_bytes, row.cloud_bytes, row.cache_update_bytes)),
        )
        last = placement
    return table


def reading_lines(report: RunReport) -> list[str]:
    """How to read the table of schemes."""
    worst_gap = max(row.worst_gap for row in report.schemes.values())
    return [
        "delay from request to last block; air: time the band was in use; hits: served without the cloud;",
        "moved between nodes, from the cloud, into caches: MB; whole models travel raw, blocks as stored.",
        f"A node has room for {report.settings['capacity_share']:.0%} of all blocks; placement matters more "
        "where less fits (--capacity-models, pbcast evaluate).",
        f"SNR within {worst_gap:.1%} of a proven upper bound, at worst.",
    ]


def delivery_lines(report: RunReport) -> list[str]:
    """How many deliveries were right, and what some delivered models answered."""
    rows = report.deliveries
    files = sum(row.sha256_ok for row in rows)
    answers = sum(row.inference_equal for row in rows)
    sent = sum(row.bytes_sent for row in rows)
    lines = [
        "",
        f"{len(rows)} deliveries with real bytes, {sent / 1e6:.1f} MB received: "
        f"{files} equal their source by SHA-256, {answers} answer bit for bit like the original",
    ]
    shown = {row.model: row for row in rows}
    for row in list(shown.values())[:SHOWN_ANSWERS]:
        lines.append(f"  user {row.user}, {row.model}, {row.delay_s:.2f} s: {row.sample_output}")
    return lines
