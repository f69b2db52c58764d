"""The files of an experiment: CSV, SVG, PDF, and a page with settings, commit, command and time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.experiments.papers.description import MEASURES, Experiment
from demo.experiments.papers.play import Extent, settings_of
from demo.experiments.papers.table import Row, csv_rows
from demo.show.curves import Curve, Panel, draw_curves
from policy.evaluation.few_worlds import Spread
from policy.kept import replace_text
from policy.strict_json import strict_json

MOST_PLACES = 10
"""Places on the axis that a table shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How results came about."""

    command: str
    commit: str
    cpu_s: float
    """CPU time of all calls that played for it, s; what other experiments had played already is not in it."""


def write_experiment(
    experiment: Experiment, rows: Sequence[Row], extent: Extent, origin: Origin, out: Path
) -> list[Path]:
    """Write `NAME.csv`, `.svg`, `.pdf` and `.md` into a folder, and name them."""
    stem = out / experiment.name
    draw(experiment, rows, csv_rows(experiment, rows), out)
    replace_text(stem.with_suffix(".md"), page(experiment, rows, extent, origin))
    return [stem.with_suffix(ending) for ending in (".csv", ".svg", ".pdf", ".md")]


def draw(
    experiment: Experiment, rows: Sequence[Row], numbers: Sequence[Mapping[str, object]], out: Path
) -> None:
    """Write `NAME.svg` and `.pdf` into a folder, and the numbers as `.csv`."""
    panels, places = panels_of(experiment, rows)
    for ending in (".svg", ".pdf"):
        picture = out / f"{experiment.name}{ending}"
        draw_curves(panels, experiment.axis, picture, numbers, log_x=experiment.log_x, places=places)


def panels_of(experiment: Experiment, rows: Sequence[Row]) -> tuple[list[Panel], list[str] | None]:
    """What the figure shows; and the names of its places where they are no numbers."""
    places = list(dict.fromkeys(row.x for row in rows))
    named = [place for place in places if isinstance(place, str)]
    at = {place: float(number) if named else float(place) for number, place in enumerate(places)}
    panels = []
    for name in experiment.measures:
        measure = MEASURES[name]
        curves = [
            _curve(curve, [(at[row.x], row.means[name]) for row in rows if row.curve == curve])
            for curve in dict.fromkeys(row.curve for row in rows)
        ]
        how = {"percent": measure.share, "log": experiment.log_y, "joined": experiment.joined}
        panels.append(Panel(label=measure.label, curves=curves, **how))
    return panels, named or None


def _curve(name: str, along: Sequence[tuple[float, Spread]]) -> Curve:
    return Curve(
        name=name,
        x=[x for x, _ in along],
        mean=[one.value for _, one in along],
        low=[one.low for _, one in along],
        high=[one.high for _, one in along],
    )


def page(experiment: Experiment, rows: Sequence[Row], extent: Extent, origin: Origin) -> str:
    """The page beside the figure."""
    lines = [
        f"# {experiment.question}",
        f"Asked by: {experiment.paper}",
        f"![{experiment.axis}]({experiment.name}.svg)",
        *([experiment.note] if experiment.note else []),
        *(table(experiment, name, rows) for name in experiment.measures),
        _how(experiment, rows, extent, origin),
        "Settings:\n\n```json\n" + strict_json(settings_of(experiment, extent), indent=None) + "\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _how(experiment: Experiment, rows: Sequence[Row], extent: Extent, origin: Origin) -> str:
    worlds = sorted({row.worlds for row in rows})
    seeds = max((row.seeds for row in rows), default=1)
    if experiment.record is not None:
        played = f"{_span(worlds)} training seeds"
    else:
        first = f"the first of them number {extent.first_world} of split `{extent.split}`"
        draws = f"; {seeds} seeds a world for what draws" if seeds > 1 else ""
        played = f"{_span(worlds)} worlds, {first}{draws}"
    if experiment.record is None and worlds == [1]:  # nothing was drawn
        return (
            f"Nothing is drawn. `{origin.command}`, commit {origin.commit}, {origin.cpu_s:.0f} s of CPU time."
        )
    return (
        f"{played}. `{origin.command}`, commit {origin.commit}, {origin.cpu_s:.0f} s of CPU time. "
        "Brackets: 95 % intervals by Student's t over worlds, comparisons on the same worlds."
    )


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def table(experiment: Experiment, name: str, rows: Sequence[Row]) -> str:
    """One measure as Markdown: a row a curve, a column a place; below each the comparison."""
    measure, places = MEASURES[name], list(dict.fromkeys(row.x for row in rows))
    if len(places) > MOST_PLACES:
        named = all(isinstance(place, str) for place in places)
        return _table_by_place(experiment, name, rows) if named else _table_of_ends(name, rows)
    by_place = {(row.curve, row.x): row for row in rows}
    word = "more" if measure.share else "less"
    beside = f"; in italics, how much {word} than another on the same worlds" if experiment.references else ""
    heads = " | ".join(place if isinstance(place, str) else f"{place:g}" for place in places)
    lines = [
        f"{measure.label}{beside}:\n",
        f"| {experiment.axis} | {heads} |",
        "|---" * (len(places) + 1) + "|",
    ]
    for curve in dict.fromkeys(row.curve for row in rows):
        mine = [by_place.get((curve, place)) for place in places]
        cells = [_cell(None if one is None else one.means[name], measure.share) for one in mine]
        lines.append(f"| {curve} | " + " | ".join(cells) + " |")
        for other in experiment.references:
            cells = [_cell(None if one is None else one.against.get((other, name)), True) for one in mine]
            if any(cells):
                lines.append(f"| *{word} than {other}* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _table_of_ends(name: str, rows: Sequence[Row]) -> str:
    """Where each curve ends: for axes with too many places for a table."""
    measure, last = MEASURES[name], {row.curve: row for row in rows}
    lines = [f"| curve | its last place | {measure.label} |", "|---|---|---|"]
    for curve, row in last.items():
        place = row.x if isinstance(row.x, str) else f"{row.x:g}"
        lines.append(f"| {curve} | {place} | {_cell(row.means[name], measure.share)} |")
    return "\n".join(lines)


def _table_by_place(experiment: Experiment, name: str, rows: Sequence[Row]) -> str:
    """A row a place, a column a curve, each with the comparisons behind it: for many places with names."""
    measure, curves = MEASURES[name], list(dict.fromkeys(row.curve for row in rows))
    compared = {curve: [key for row in rows if row.curve == curve for key in row.against] for curve in curves}
    beside = {
        curve: [other for other in experiment.references if (other, name) in compared[curve]]
        for curve in curves
    }
    word = "more" if measure.share else "less"
    heads = [
        head for curve in curves for head in (curve, *(f"*{word} than {other}*" for other in beside[curve]))
    ]
    lines = [f"{measure.label}:\n", f"| {experiment.axis} | " + " | ".join(heads) + " |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    by_place = {(row.x, row.curve): row for row in rows}
    for place in dict.fromkeys(row.x for row in rows):
        cells = []
        for curve in curves:
            row = by_place.get((place, curve))
            cells.append(_cell(None if row is None else row.means[name], measure.share))
            cells += [
                _cell(None if row is None else row.against.get((other, name)), True)
                for other in beside[curve]
            ]
        lines.append(f"| {place} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: Spread | None, percent: bool) -> str:
    if spread is None:
        return ""
    value, low, high = (_number(one, percent) for one in (spread.value, spread.low, spread.high))
    unit = " %" if percent else ""
    return f"{value}{unit}" if math.isnan(spread.low) else f"{value}{unit} [{low}, {high}]"


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.1f}" if percent else f"{value:.3g}"
