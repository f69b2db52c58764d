"""The pictures of a run, drawn from its report alone."""

import os
from pathlib import Path
from typing import Any

from demo.report import RunReport

VARIANTS = {
    # suffix of a scheme's name: (legend, colour)
    "": ("CoMP + migration", "#1b6ca8"),
    "+no-migration": ("CoMP, no migration", "#7fb2d9"),
    "+no-comp": ("best single node + migration", "#c8553d"),
    "+no-comp+no-migration": ("best single node, no migration", "#e8a798"),
}


def draw_figures(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Draw `delay_by_scheme.png` and `savings.png` into a folder.

    Returns:
        The paths of the two pictures.
    """
    return draw_delays(report, folder / "delay_by_scheme.png"), draw_savings(report, folder / "savings.png")


def draw_delays(report: RunReport, path: Path) -> Path:
    """Mean user delay of each scheme as a bar, its 95th percentile as a tick, both as numbers."""
    plt = pyplot()
    schemes = list(dict.fromkeys(name.partition("+")[0] for name in report.schemes))
    fig, ax = plt.subplots(figsize=(9, 1.2 + 0.95 * len(schemes)), layout="constrained")
    height = 0.8 / len(VARIANTS)
    for row, scheme in enumerate(schemes):
        for slot, (suffix, (legend, colour)) in enumerate(VARIANTS.items()):
            measured = report.schemes.get(scheme + suffix)
            if measured is None:
                continue
            y = row - 0.4 + (slot + 0.5) * height
            ax.barh(y, measured.mean_delay_s, height * 0.9, color=colour, label=legend if row == 0 else None)
            ax.plot([measured.p95_delay_s] * 2, [y - height * 0.4, y + height * 0.4], color="#333333", lw=1.5)
            ax.annotate(
                f"{measured.mean_delay_s:.2f} / {measured.p95_delay_s:.2f}",
                (max(measured.mean_delay_s, measured.p95_delay_s), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    ax.plot([], [], color="#333333", ls="", marker="|", ms=9, mew=1.5, label="95th percentile")
    ax.set_yticks(range(len(schemes)), schemes)
    ax.invert_yaxis()
    ax.set_xlabel(
        "delay from request to last block, over users and slots (s); numbers: mean / 95th percentile"
    )
    ax.set_title(
        f"{report.catalogue.models} models, {report.settings['nodes']} edge nodes, "
        f"{report.settings['users']} users; cache: {report.settings['capacity_share']:.0%} of all blocks",
        fontsize=10,
    )
    clean_axes(ax, "x")
    fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    fig.savefig(path, dpi=150)
    plt.close(fig)
    return path


def draw_savings(report: RunReport, path: Path) -> Path:
    """Bytes of the catalogue as folders, with whole files shared, with blocks shared, and on the disk."""
    plt = pyplot()
    held = report.catalogue
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
    fig.savefig(path, dpi=150)
    plt.close(fig)
    return path


FORMATS = (".png", ".pdf", ".svg")
"""Endings of pictures."""


def check_figure(path: Path) -> None:
    """Refuse, before any work, a picture that could not be written afterwards.

    Raises:
        ValueError: If the ending is none of `FORMATS`, the path is a folder, or its folder cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a picture ends in {', '.join(FORMATS)}, got {path.name!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a picture in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ValueError(f"{path} cannot be written: {folder} is no folder that can be written to")


def pyplot() -> Any:  # noqa: ANN401 - matplotlib is untyped here
    """Matplotlib's pyplot, drawing into files whatever `MPLBACKEND` a notebook left; fonts of type 42."""
    before = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = "Agg"  # else an unknown one is an error on import
    try:
        import matplotlib

        matplotlib.use("Agg")
        matplotlib.rcParams.update({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"})
        from matplotlib import pyplot as plt
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before
    return plt


def clean_axes(ax: Any, axis: str) -> None:  # noqa: ANN401
    """No frame at the top and right, a light grid behind along one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=axis, color="#e5e5e5", lw=0.8)
    ax.set_axisbelow(True)
