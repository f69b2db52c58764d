"""The pictures of a run, drawn from its report alone."""

from pathlib import Path

from demo.jobs.config import REFERENCE
from demo.jobs.report import RunReport
from demo.show.figure import clean_axes, pyplot, save_figure


def draw_figures(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Draw `delay_by_scheme.png` and `savings.png` into a folder.

    Returns:
        The paths of the two pictures.
    """
    return draw_delays(report, folder / "delay_by_scheme.png"), draw_savings(report, folder / "savings.png")


def delay_rows(report: RunReport) -> list[dict[str, object]]:
    """What the picture of delays shows, s."""
    return [
        {"scheme": name, "mean_delay_s": row.mean_delay_s, "p95_delay_s": row.p95_delay_s}
        for name, row in report.schemes.items()
    ]


def draw_delays(report: RunReport, path: Path) -> Path:
    """Mean user delay of each row as a bar, its 95th percentile as a tick, both as numbers."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(9, 1.4 + 0.34 * len(report.schemes)), layout="constrained")
    for place, (name, measured) in enumerate(report.schemes.items()):
        colour = "#1b6ca8" if name == REFERENCE else "#c8553d" if "+" in name else "#7fb2d9"
        ax.barh(place, measured.mean_delay_s, 0.7, color=colour)
        ax.plot([measured.p95_delay_s] * 2, [place - 0.3, place + 0.3], color="#333333", lw=1.5)
        ax.annotate(
            f"{measured.mean_delay_s:.2f} / {measured.p95_delay_s:.2f}",
            (max(measured.mean_delay_s, measured.p95_delay_s), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.plot([], [], color="#333333", ls="", marker="|", ms=9, mew=1.5, label="95th percentile")
    ax.set_yticks(range(len(report.schemes)), list(report.schemes))
    ax.invert_yaxis()
    ax.set_xlabel(
        "delay from request to last block, over users and slots (s); numbers: mean / 95th percentile"
    )
    ax.set_title(
        f"{report.catalog.models} models, {report.settings['nodes']} edge nodes, "
        f"{report.settings['users']} users; cache: {report.settings['capacity_share']:.0%} of all blocks",
        fontsize=10,
    )
    clean_axes(ax, "x")
    fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    save_figure(fig, path, delay_rows(report))
    return path


def draw_savings(report: RunReport, path: Path) -> Path:
    """Bytes of the catalog as folders, with whole files shared, with blocks shared, and on the disk."""
    plt = pyplot()
    held = report.catalog
    bars = {
        "as folders": held.raw_bytes,
        "whole files shared": held.file_dedup_bytes,
        "parameter blocks shared": held.block_dedup_bytes,
        "pbcast store, on the disk": held.disk_bytes,
    }
    fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
    colours = ["#b8b8b8", "#b8b8b8", "#7fb2d9", "#1b6ca8"]
    ax.barh(list(bars), [size / 1e6 for size in bars.values()], color=colours)
    for row, size in enumerate(bars.values()):
        text = f"{size / 1e6:,.0f} MB  ({size / held.raw_bytes:.1%})"
        ax.annotate(
            text, (size / 1e6, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    ax.invert_yaxis()
    ax.set_xlim(0, held.raw_bytes / 1e6 * 1.2)
    ax.set_xlabel(f"size of {held.models} real models (MB = 10$^6$ bytes)")
    clean_axes(ax, "x")
    save_figure(fig, path, [{"stored": name, "bytes": size} for name, size in bars.items()])
    return path
