"""Pictures of experiments: curves over an axis, each with the interval of its mean, for one column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from demo.show.figure import COLUMN_IN, clean_axes, pyplot, save_figure

MARKERS = "osD^vPX*"
PANEL_IN = 2.0
"""Height of a panel, inch."""
ASIDE_PT = 1.2
"""Curves stand so far aside of one another, points, that their intervals can be told apart."""
MANY_DECADES = 1e3
"""Where an axis reaches over more than this, ticks at decades alone have room."""
HEADROOM = 0.05
"""Room above the highest mean, as part of it: a marker must not be cut."""
UPRIGHT = 8
"""Names of places that fit on the axis side by side; more are written upright."""
LETTER_IN = 0.06
"""Room of a letter of an upright name, inch."""
LONG_NAME = 26
"""Longest name of a curve, letters, of which two fit side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Values along the axis."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One measure."""

    label: str
    """Of the vertical axis."""
    curves: Sequence[Curve]
    percent: bool = False
    log: bool = False
    joined: bool = True
    """Whether a line joins neighbouring places; not where their order means nothing."""


def draw_curves(
    panels: Sequence[Panel],
    axis: str,
    path: Path,
    rows: Sequence[Mapping[str, object]],
    *,
    log_x: bool = False,
    places: Sequence[str] | None = None,
) -> None:
    """Draw panels one above the other, 3.5 inch wide, and write their numbers as CSV beside.

    Args:
        panels: What to draw, at least one.
        axis: Label of the horizontal axis.
        path: Picture.
        rows: The numbers.
        log_x: Whether the axis is logarithmic.
        places: Names of the places 0, 1, ... on an axis that is none of numbers.
    """
    plt = pyplot()
    with plt.rc_context({"font.size": 7}):
        names = [curve.name for curve in panels[0].curves]
        columns = 1 if max(map(len, names)) > LONG_NAME else 2
        height = PANEL_IN * len(panels) + 0.25 + 0.14 * -(-len(names) // columns)
        if places is not None and len(places) > UPRIGHT:
            height += LETTER_IN * max(map(len, places))
        shape = {"figsize": (COLUMN_IN, height), "layout": "constrained", "squeeze": False}
        fig, axes = plt.subplots(len(panels), 1, sharex=True, **shape)
        for ax, panel in zip(axes[:, 0], panels, strict=True):
            _draw_panel(ax, panel)
        _mark_axis(axes[-1, 0], panels[0], log_x, places)
        axes[-1, 0].set_xlabel(axis)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        place = {"loc": "outside lower center", "ncols": columns}
        fig.legend(handles, labels, handlelength=2.2, borderaxespad=0.1, **place)
        save_figure(fig, path, rows)


def _draw_panel(ax: Any, panel: Panel) -> None:  # noqa: ANN401
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    from matplotlib.transforms import ScaledTranslation

    middle = (len(panel.curves) - 1) / 2
    for number, (curve, marker) in enumerate(zip(panel.curves, cycle(MARKERS), strict=False)):
        style = {"marker": marker, "mfc": "none", "ms": 3.5, "lw": 1, "ls": "-" if panel.joined else ""}
        (line,) = ax.plot(curve.x, curve.mean, label=curve.name, **style)
        bars = ax.vlines(curve.x, curve.low, curve.high, color=line.get_color(), lw=0.8)
        aside = ScaledTranslation((number - middle) * ASIDE_PT / 72, 0, ax.figure.dpi_scale_trans)
        for drawn in (line, bars):  # once the axes know how far they reach
            drawn.set_transform(ax.transData + aside)
    ax.set_ylabel(panel.label)
    if panel.log:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        wide = high > MANY_DECADES * low
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(0, max((1 + HEADROOM) * max(map(max, (c.mean for c in panel.curves))), ax.get_ylim()[1]))
    if panel.percent:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    clean_axes(ax, "y")


def _mark_axis(ax: Any, panel: Panel, log_x: bool, places: Sequence[str] | None) -> None:  # noqa: ANN401
    """Ticks where something was played."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if places is not None:
        ax.set_xticks(range(len(places)), places, rotation=90 if len(places) > UPRIGHT else 0)
        ax.margins(x=0.1)
        return
    if log_x:
        ax.set_xscale("log")
    played = sorted({x for curve in panel.curves for x in curve.x})
    if len(played) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(played))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
