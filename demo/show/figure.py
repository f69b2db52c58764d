"""What all pictures share: how matplotlib is started, how wide they are, and the numbers beside each."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMATS = (".png", ".pdf", ".svg")
"""Endings of pictures."""
COLUMN_IN, PAGE_IN = 3.5, 7.16
"""Widths of one column and of two in a paper (IEEE), inch: a PDF is as wide as it will be printed."""
SCREEN_IN = 9.0
"""Width of a picture for the screen, inch."""
BLUE, SKY, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
"""Okabe and Ito's colours: told apart with any colour vision. Ours is blue, bounds are red."""
BROWN, INK = "#8c6d31", "#333333"
"""One more series, where seven are not enough; thin lines to compare with."""
GREY, FAINT, LINE = "#6f6f6f", "#b9b9b9", "#e5e5e5"
"""Others, what is switched off or beside the point, and grids."""
STYLE: Mapping[str, Any] = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "pbcast",
    "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY, BROWN]})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}
"""The one style sheet of all pictures, for matplotlib."""


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
        matplotlib.rcParams.update(STYLE)
        from matplotlib import pyplot as plt
    finally:
        if before is None:
            del os.environ["MPLBACKEND"]
        else:
            os.environ["MPLBACKEND"] = before
    return plt


def width_in(path: Path, columns: int = 1) -> float:
    """How wide a picture is drawn, inch: for a paper if it is a PDF, else for the screen.

    A PDF whose name ends in `-page` is for both columns whatever it shows, one in `-column` for one.
    """
    if path.suffix.lower() != ".pdf":
        return SCREEN_IN
    wide = path.stem.endswith("-page") or (columns == 2 and not path.stem.endswith("-column"))
    return PAGE_IN if wide else COLUMN_IN


def font_pt(path: Path) -> float:
    """Size of the text, points."""
    return 6.5 if path.suffix.lower() == ".pdf" else 8.5


def numbers_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def numbers_mark(rows: Sequence[Mapping[str, object]]) -> str:
    """What a PNG says of the numbers that it was drawn from: no picture is older than its numbers."""
    return f"numbers {hashlib.sha256(numbers_text(rows).encode()).hexdigest()}"


def mark_of(path: Path) -> str:
    """The mark in a PNG; empty if it has none."""
    mark = re.search(rb"numbers [0-9a-f]{64}", path.read_bytes())
    return mark.group().decode() if mark else ""


def save_figure(figure: Any, path: Path, rows: Sequence[Mapping[str, object]]) -> None:  # noqa: ANN401
    """Write a picture and, beside it with the ending `.csv`, the numbers that it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {  # without dates: the same numbers give the same file
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
        ".png": {"Description": numbers_mark(rows)},
    }
    figure.savefig(path, dpi=150, metadata=about.get(path.suffix.lower()))
    pyplot().close(figure)
    path.with_suffix(".csv").write_text(numbers_text(rows), encoding="utf-8", newline="\n")


def clean_axes(ax: Any, axis: str) -> None:  # noqa: ANN401
    """No frame at the top and right, a light grid behind along one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=axis, color=LINE, lw=0.8)
    ax.set_axisbelow(True)
