"""One experiment from start to end: play what is missing, sum up, write the files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from demo.experiments.papers.description import Experiment
from demo.experiments.papers.play import Extent, play_experiment
from demo.experiments.papers.table import Row, rows_of
from demo.experiments.papers.write import Origin, write_experiment
from demo.jobs.report import commit
from policy.evaluation import Progress
from policy.kept import KeptRows
from policy.world.splits import world_seed

QUICK_PLACES = 2
"""Places on the axis that a try plays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of an experiment, and where it is filed."""

    rows: tuple[Row, ...]
    files: tuple[Path, ...]
    origin: Origin


def quick(experiment: Experiment) -> Experiment:
    """The experiment with the first places of its axis alone, for a try."""
    places = list(dict.fromkeys(point.x for point in experiment.points))[:QUICK_PLACES]
    points = tuple(point for point in experiment.points if point.x in places)
    return replace(experiment, points=points) if points else experiment


def run_experiment(
    experiment: Experiment,
    extent: Extent,
    out: Path,
    *,
    kept: Path | None,
    command: str,
    progress: Progress | None = None,
) -> Answer:
    """Play, sum up, write.

    Args:
        experiment: The question.
        extent: How much of it.
        out: Folder of the files.
        kept: Folder of what is finished, from where an interrupted run goes on; None: nowhere.
        command: What was called, for the page.
        progress: Told how many worlds are done.

    Raises:
        ValueError: If a number is out of range.
        SchemeError: If a scheme cannot run on a scenario.
    """
    world_seed(extent.split, extent.first_world + extent.worlds - 1)
    version = commit()
    times = None
    if kept is not None:
        times = KeptRows(
            kept, f"experiment-time-{experiment.name}", {"commit": version, "of": experiment.name}
        )
    with _timed(times):
        cells = play_experiment(experiment, extent, kept, progress)
    spent = sum(row["cpu_s"] for row in times or ())
    origin = Origin(command=command, commit=version, cpu_s=spent)
    rows = rows_of(experiment, cells)
    files = write_experiment(experiment, rows, extent, origin, out)
    return Answer(rows=tuple(rows), files=tuple(files), origin=origin)


@contextmanager
def _timed(times: KeptRows | None) -> Iterator[None]:
    """Keep the CPU time of what is done inside, interrupted or not, worker processes included."""
    before = _cpu_s(os.times())
    try:
        yield
    finally:
        if times is not None:
            times.append({"cpu_s": round(_cpu_s(os.times()) - before, 2)})


def _cpu_s(now: Sequence[float]) -> float:
    """User and system time of this process and of those that it has waited for, s."""
    return sum(now[:4])
