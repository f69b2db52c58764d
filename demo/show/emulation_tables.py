"""A live edge on the terminal: a row for each delivery, a line for the wire."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from demo.console import Sheet, say
from demo.jobs.emulate_report import EmulateReport


def print_emulation(report: EmulateReport, out: Path) -> None:
    """Print the deliveries, what was moved, and where the log is."""
    sheet = Sheet("model", "#user", "#slot", "#delay s", "#computed s", "files", "answer", title="Deliveries")
    for row in report.deliveries:
        sheet.row(
            row["model"],
            row["user"],
            row["slot"],
            f"{row['delay_s']:.3f}",
            f"{row['computed_delay_s']:.3f}",
            "equal" if row["sha256_ok"] else "DIFFER",
            _answer(row["inference_equal"], row["sample_output"]),
        )
    say("delay s: as it went here" + _pace(report) + "; computed s: by radio and links")
    sheet.print()
    wire = report.wire
    say(
        f"on the air: {wire['broadcasts']} broadcasts of {_mb(wire['payload_bytes'])}{_together(wire)}; "
        f"{_mb(wire['ethernet_bytes'])} with headers and repair",
        f"on wires: {_mb(wire['migrated_bytes'])} between nodes, {_mb(wire['cloud_bytes'])} from the origin, "
        f"{_mb(wire['cache_update_bytes'])} into caches",
    )
    unicast = sum(row["unicast_weight_bytes"] for row in report.deliveries)
    say(f"weight bytes by unicast to devices: {unicast}")
    for fault in report.faults:
        back = (
            "not recovered"
            if fault["recovered_s"] is None
            else f"recovered after {fault['recovered_s']:.2f} s"
        )
        say(f"fault at {fault['at_s']:.2f} s: {fault['what']}, {back}")
    say(_delays(report), f"log: {out / 'events.jsonl'} (pbcast replay {out})")


def _together(wire: Mapping[str, int]) -> str:
    return f", {wire['together']} of them beside others" if wire["together"] else ""


def _pace(report: EmulateReport) -> str:
    pace = report.settings.get("pace", 0.0)
    return f", on a clock at {pace:g} of the wall's speed" if pace else ", as fast as this machine goes"


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _answer(equal: bool | None, text: str) -> str:
    if equal is None:
        return text or "-"
    return f"{'equal' if equal else 'DIFFERS'}: {text}"


def _delays(report: EmulateReport) -> str:
    delays = [row["delay_s"] for row in report.deliveries if row["by_air"]]
    if not report.deliveries:
        return "nobody asked for anything"
    kept = len(report.deliveries) - len(delays)
    own = f"; {kept} more were on the devices already" if kept else ""
    if not delays:
        return f"0 deliveries by air{own}"
    return (
        f"{len(delays)} deliveries by air, delay {np.mean(delays):.3f} s in the mean, "
        f"{np.max(delays):.3f} s at most{own}"
    )
