"""From what was played to rows: means over worlds with intervals, and each curve beside the reference."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from demo.experiments.papers.description import MEASURES, Cell, Experiment
from policy.evaluation.few_worlds import Spread, difference, mean_of, reduction
from policy.interfaces import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One curve at one place."""

    x: float | str
    curve: str
    worlds: int
    seeds: int
    """Seeds a world; 1 for what draws nothing."""
    means: Mapping[str, Spread]
    """Means of all measures over worlds, with 95 % intervals."""
    against: Mapping[tuple[str, str], Spread]
    """Beside each reference on the same worlds, by reference and measure: which share of the reference's is
    saved, or, for shares of 1, the difference. A reference is compared with those before it alone."""


def rows_of(experiment: Experiment, cells: Sequence[Cell]) -> list[Row]:
    """One row for each place and curve, places in the order of the experiment."""
    groups: dict[tuple[float | str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.x, cell.curve), []).append(cell)
    return [_row(experiment, x, curve, groups) for x, curve in _ordered(groups)]


def _ordered(groups: Mapping[tuple[float | str, str], object]) -> list[tuple[float | str, str]]:
    """Place by place, numbers from the least, texts as they come."""
    places = list(dict.fromkeys(x for x, _ in groups))
    numbers = [x for x in places if not isinstance(x, str)]
    ordered = sorted(numbers) if len(numbers) == len(places) else places
    return [key for x in ordered for key in groups if key[0] == x]


def _row(
    experiment: Experiment,
    x: float | str,
    curve: str,
    groups: Mapping[tuple[float | str, str], Sequence[Cell]],
) -> Row:
    mine = groups[(x, curve)]
    names = [name for name in MEASURES if all(name in cell.values for cell in mine)]
    arrays = {name: _array(mine, name) for name in names}
    before = itertools.takewhile(lambda name: name != curve, experiment.references)
    others = {name: groups[(x, name)] for name in before if (x, name) in groups}
    against = {
        (other, name): _beside(name, arrays[name], _array(cells, name))
        for other, cells in others.items()
        for name in experiment.measures
    }
    worlds, seeds = next(iter(arrays.values())).shape
    return Row(
        x=x,
        curve=curve,
        worlds=worlds,
        seeds=seeds,
        means={name: mean_of(values) for name, values in arrays.items()},
        against={key: spread for key, spread in against.items() if spread is not None},
    )


def _beside(name: str, mine: Float, reference: Float) -> Spread | None:
    if MEASURES[name].share:
        return difference(mine, reference)
    return reduction(mine, reference) if reference.mean() > 0 else None


def _array(cells: Sequence[Cell], name: str) -> Float:
    """A measure as (worlds, seeds)."""
    worlds, seeds = sorted({cell.world for cell in cells}), sorted({cell.seed for cell in cells})
    values = np.full((len(worlds), len(seeds)), np.nan)
    for cell in cells:
        values[worlds.index(cell.world), seeds.index(cell.seed)] = cell.values[name]
    if np.isnan(values).any():
        raise ValueError(f"{cells[0].curve} at {cells[0].x} lacks {name} of a world or seed")
    return values


def csv_rows(experiment: Experiment, rows: Sequence[Row]) -> list[dict[str, object]]:
    """What the files hold: all that is not zero everywhere, six digits, empty where there is nothing."""
    others = [name for name in MEASURES if any(name in row.means and row.means[name].value for row in rows)]
    names = [*experiment.measures, *(name for name in others if name not in experiment.measures)]
    return [_csv_row(experiment, row, names) for row in rows]


def _csv_row(experiment: Experiment, row: Row, names: Sequence[str]) -> dict[str, object]:
    cells: dict[str, object] = {"x": row.x if isinstance(row.x, str) else f"{row.x:g}", "curve": row.curve}
    cells |= {"worlds": row.worlds, "seeds": row.seeds}
    for name in names:
        spread = row.means.get(name)
        cells[name] = _digits(spread)
        if name in experiment.measures:
            cells |= _ends(name, spread)
            for other in experiment.references:
                title = f"{name}_{'more' if MEASURES[name].share else 'less'}_than_{other}"
                compared = row.against.get((other, name))
                cells |= {title: _digits(compared), **_ends(title, compared)}
    return cells


def _ends(name: str, spread: Spread | None) -> dict[str, object]:
    low, high = (None, None) if spread is None else (spread.low, spread.high)
    return {f"{name}_low": _number(low), f"{name}_high": _number(high)}


def _digits(spread: Spread | None) -> str:
    return _number(None if spread is None else spread.value)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"
