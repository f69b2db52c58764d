"""A picture of where the bytes of a store went."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from demo.show.figure import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    clean_axes,
    font_pt,
    pyplot,
    save_figure,
    width_in,
)

if TYPE_CHECKING:
    from pbstore.disk.upkeep.savings_by_cause import Causes

CAUSES = {
    "stored_bytes": ("stored", BLUE),
    "compression": ("compression", SKY),
    "delta": ("delta to a base", ORANGE),
    "recipe": ("cast or merged adapter", RED),
    "same_rows": ("same rows", PURPLE),
    "same_tensor": ("same tensor", GREEN),
    "same_file": ("same file", FAINT),
}
"""Field of `Causes` -> its label and colour, in the order of drawing."""


def draw_savings(rows: "dict[str, Causes]", path: Path, title: str) -> None:
    """Draw one stacked bar for each model or family.

    Args:
        rows: Label -> bytes by cause, drawn from top to bottom.
        path: File to write; its ending says the format.
        title: Headline.
    """
    plt, size = pyplot(), font_pt(path)
    with plt.rc_context({"font.size": size, "axes.titlesize": size + 1}):
        _draw(rows, path, title)


def _draw(rows: "dict[str, Causes]", path: Path, title: str) -> None:
    high = 1.6 + 0.42 * max(1, len(rows))
    figure, axes = pyplot().subplots(figsize=(width_in(path, 2), high), layout="constrained")
    left = [0.0] * len(rows)
    places = list(range(len(rows)))
    for field, (label, colour) in CAUSES.items():
        sizes = [getattr(causes, field) / 1e6 for causes in rows.values()]
        axes.barh(places, sizes, left=left, color=colour, label=label, height=0.7)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    axes.set_yticks(places, list(rows))
    axes.invert_yaxis()
    axes.set_xlabel("MB as plain copies")
    axes.set_title(title, loc="left")
    clean_axes(axes, "x")
    figure.legend(loc="outside lower center", ncols=4)
    save_figure(figure, path, [{"label": name, **asdict(causes)} for name, causes in rows.items()])
