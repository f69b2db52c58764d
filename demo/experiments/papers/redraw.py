"""The figures of the papers again, from the CSVs beside them; nothing is played."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.experiments.papers.description import Experiment
from demo.experiments.papers.registry import EXPERIMENTS
from demo.experiments.papers.table import Row
from demo.experiments.papers.write import draw
from policy.evaluation.few_worlds import Spread


def rows_from(experiment: Experiment, lines: Sequence[Mapping[str, str]]) -> list[Row]:
    """What a figure needs of a CSV: the drawn measures with their intervals, not the comparisons.

    Args:
        experiment: Whose CSV it is.
        lines: Of the CSV, by column.
    """
    named = any(isinstance(point.x, str) for point in experiment.points)
    return [
        Row(
            x=line["x"] if named else float(line["x"]),
            curve=line["curve"],
            worlds=int(line["worlds"]),
            seeds=int(line["seeds"]),
            means={name: _spread(line, name) for name in experiment.measures},
            against={},
        )
        for line in lines
    ]


def _spread(line: Mapping[str, str], name: str) -> Spread:
    value, low, high = (float(line[f"{name}{end}"] or "nan") for end in ("", "_low", "_high"))
    return Spread(value=value, low=low, high=high)


def redraw(source: Path, folder: Path) -> list[Path]:
    """Draw every experiment whose CSV is in a folder.

    Args:
        source: Folder with `NAME.csv`.
        folder: Where the pictures go, with a copy of the numbers.

    Returns:
        The pictures as SVG; a PDF lies beside each.
    """
    drawn = []
    for name, experiment in EXPERIMENTS.items():
        path = source / f"{name}.csv"
        if path.is_file():
            lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            draw(experiment, rows_from(experiment, lines), lines, folder)
            drawn.append(folder / f"{name}.svg")
    return drawn
