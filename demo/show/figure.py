"""What all pictures share: how matplotlib is started, how wide they are, and the numbers beside each."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMATS = (".png", ".pdf", ".svg")
"""Endings of pictures."""
COLUMN_IN, PAGE_IN = 3.5, 7.16
"""Widths of one column and of two in a paper (IEEE), inch: a PDF is as wide as it will be printed."""
SCREEN_IN = 9.0
"""Width of a picture for the screen, inch."""


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


def width_in(path: Path, columns: int = 1) -> float:
    """How wide a picture is drawn, inch: for a paper if it is a PDF, else for the screen."""
    return (COLUMN_IN if columns == 1 else PAGE_IN) if path.suffix.lower() == ".pdf" else SCREEN_IN


def font_pt(path: Path) -> float:
    """Size of the text, points."""
    return 6.5 if path.suffix.lower() == ".pdf" else 8.5


def save_figure(figure: Any, path: Path, rows: Sequence[Mapping[str, object]]) -> None:  # noqa: ANN401
    """Write a picture and, beside it with the ending `.csv`, the numbers that it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"CreationDate": None} if path.suffix.lower() == ".pdf" else None)
    pyplot().close(figure)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def clean_axes(ax: Any, axis: str) -> None:  # noqa: ANN401
    """No frame at the top and right, a light grid behind along one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=axis, color="#e5e5e5", lw=0.8)
    ax.set_axisbelow(True)
