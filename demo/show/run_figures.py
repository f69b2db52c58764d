"""The pictures of a run, drawn from its report alone."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from demo.jobs.config import REFERENCE
from demo.jobs.report import RunReport, SchemeReport
from demo.show.figure import (
    BLUE,
    COLUMN_IN,
    FAINT,
    GREY,
    RED,
    SKY,
    clean_axes,
    font_pt,
    pyplot,
    save_figure,
    width_in,
)

COARSE = "whole-model"
"""The scheme that caches and sends whole models: what blocks are compared with."""
BOUND, BOUND_LABEL = "unlimited_s", "no scheme can do better"
"""Bound of a report that is drawn, and what it is called."""


def draw_figures(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Draw `delay_by_scheme.png` and `savings.png` into a folder.

    Returns:
        The paths of the two pictures.
    """
    return draw_delays(report, folder / "delay_by_scheme.png"), draw_savings(report, folder / "savings.png")


def interval(row: SchemeReport) -> tuple[float, float]:
    """95 % interval of a scheme's mean delay over worlds (Student's), s; with one world the mean, twice."""
    delays = np.array(row.world_delays_s or [row.mean_delay_s])
    if delays.size < 2:
        return row.mean_delay_s, row.mean_delay_s
    half = float(student.ppf(0.975, delays.size - 1)) * float(delays.std(ddof=1)) / delays.size**0.5
    return max(0.0, row.mean_delay_s - half), row.mean_delay_s + half


def delay_rows(report: RunReport) -> list[dict[str, object]]:
    """What the picture of delays shows, s."""
    rows: list[dict[str, object]] = []
    for name, row in report.schemes.items():
        low, high = interval(row)
        numbers = {"mean_delay_s": row.mean_delay_s, "ci95_low_s": low, "ci95_high_s": high}
        rows.append({"scheme": name, **numbers, "p95_delay_s": row.p95_delay_s})
    if rows and (bound := report.bounds.get(BOUND)) is not None:
        rows.append({**dict.fromkeys(rows[0], ""), "scheme": BOUND_LABEL, "mean_delay_s": bound})
    return rows


def draw_delays(report: RunReport, path: Path) -> Path:
    """Mean user delay of each row as a dot, its interval as a whisker, its 95th percentile as a tick.

    Time is on a logarithmic axis: equal steps are equal ratios. What is switched off is faint.
    """
    plt, size = pyplot(), font_pt(path)
    with plt.rc_context({"font.size": size}):
        per_row = 0.16 if path.suffix == ".pdf" else 0.3
        height = 1.1 + per_row * len(report.schemes)
        fig, ax = plt.subplots(figsize=(width_in(path), height), layout="constrained")
        for place, (name, measured) in enumerate(report.schemes.items()):
            _draw_row(ax, place, name, measured, size)
        ax.set_yticks(range(len(report.schemes)), list(report.schemes))
        ax.set_ylim(len(report.schemes) - 0.4, -0.6)
        _seconds_axis(ax, report)
        fig.suptitle(_setting(report), fontsize=size, x=0.01, ha="left")  # a column is narrower than it
        if (bound := report.bounds.get(BOUND)) is not None:
            ax.axvline(bound, color=RED, lw=1, ls="--", label=f"{BOUND_LABEL}: {bound:.2f} s")
        for mark, label in (("o", "mean, 95 % interval over worlds"), ("|", "95th percentile")):
            ax.plot([], [], mark, color=GREY, ms=4 if mark == "o" else 7, label=label)
        columns = 1 if width_in(path) == COLUMN_IN else 3
        fig.legend(loc="outside lower center", ncols=columns, fontsize=size - 0.5)
        save_figure(fig, path, delay_rows(report))
    return path


def _draw_row(ax: Any, place: int, name: str, row: SchemeReport, size: float) -> None:  # noqa: ANN401
    low, high = interval(row)
    colour = BLUE if name == REFERENCE else FAINT if "+" in name else GREY
    ax.plot([max(low, 1e-9), high], [place, place], color=colour, lw=2)
    ax.plot(row.mean_delay_s, place, "o", color=colour, ms=5 if name in (REFERENCE, COARSE) else 4)
    ax.plot(row.p95_delay_s, place, "|", color=colour, ms=7)
    end = max(high, row.p95_delay_s)
    at = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": size - 0.5}
    ax.annotate(f"{row.mean_delay_s:.2f}", (end, place), color=GREY if "+" in name else "black", **at)


def _seconds_axis(ax: Any, report: RunReport) -> None:  # noqa: ANN401
    """A logarithmic axis that holds all means and percentiles, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    means = [row.mean_delay_s for row in report.schemes.values()]
    least = min([*means, report.bounds.get(BOUND, means[0])])
    most = max(max(row.p95_delay_s, interval(row)[1]) for row in report.schemes.values())
    ax.set_xscale("log")
    ax.set_xlim(0.6 * least, 1.5 * most)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("delay from request to last block (s)")
    clean_axes(ax, "x")


def _setting(report: RunReport) -> str:
    settings = report.settings
    who = f"{report.catalog.models} models, {settings['nodes']} nodes, {settings['users']} users"
    return f"{who}, room for {settings['capacity_share']:.0%} of all blocks"


def draw_savings(report: RunReport, path: Path) -> Path:
    """Bytes of the catalog as folders, with whole files shared, with blocks shared, and on the disk."""
    plt, size, held = pyplot(), font_pt(path), report.catalog
    bars = {
        "as folders": held.raw_bytes,
        "whole files shared": held.file_dedup_bytes,
        "parameter blocks shared": held.block_dedup_bytes,
        "pbcast store, on the disk": held.disk_bytes,
    }
    with plt.rc_context({"font.size": size}):
        flat = 0.45 if path.suffix == ".pdf" else 0.29
        fig, ax = plt.subplots(figsize=(width_in(path), width_in(path) * flat), layout="constrained")
        colours = [FAINT, FAINT, SKY, BLUE]
        ax.barh(list(bars), [stored / 1e6 for stored in bars.values()], color=colours, height=0.7)
        at = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": size - 0.5}
        for row, stored in enumerate(bars.values()):
            ax.annotate(f"{stored / 1e6:,.0f} MB ({stored / held.raw_bytes:.0%})", (stored / 1e6, row), **at)
        ax.invert_yaxis()
        ax.set_xlim(0, held.raw_bytes / 1e6 * 1.35)
        saved = held.raw_bytes - held.disk_bytes
        share = saved / held.raw_bytes
        ax.set_title(f"{held.models} models: {saved / 1e6:,.0f} MB saved ({share:.0%})", fontsize=size)
        ax.set_xlabel("MB (10$^6$ bytes)")
        clean_axes(ax, "x")
        save_figure(fig, path, [{"stored": name, "bytes": stored} for name, stored in bars.items()])
    return path
