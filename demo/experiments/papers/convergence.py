"""How fast the learners learn, from the training runs on record."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from demo.experiments.learners_picture import LEARNERS
from demo.experiments.papers.description import Cell, Experiment

RECORD = Path(__file__).parents[1] / "results" / "convergence.json"
"""What `python -m demo.experiments.learners` wrote."""


def recorded() -> list[Cell]:
    """All looks at all learners; a look stands at the mean CPU time of its seeds.

    Raises:
        ValueError: If there is no record (it is in the repository, not in an installed package).
    """
    if not RECORD.is_file():
        raise ValueError(
            f"expected the record of training runs at {RECORD}: it comes with a clone, or from "
            "`python -m demo.experiments.learners`"
        )
    curves = json.loads(RECORD.read_text(encoding="utf-8"))["curves"]
    return [cell for name, text in LEARNERS.items() if name in curves for cell in _looks(text, curves[name])]


def _looks(name: str, runs: Mapping[str, Any]) -> Iterator[Cell]:
    looks = min(len(curve) for curve in runs.values())
    for look in range(looks):
        at = float(np.mean([curve[look]["cpu_s"] for curve in runs.values()]))
        for seed, curve in runs.items():
            yield Cell(
                x=round(at, 1), curve=name, world=int(seed), seed=0, values={"cost_s": curve[look]["cost_s"]}
            )


LEARNING = Experiment(
    name="learning",
    question="How fast do the learners learn?",
    paper="Fu, Qin et al., arXiv 2509.19341, and every paper that learns",
    axis="CPU time of training (s)",
    references=(),
    measures=("cost_s",),
    log_x=True,
    note="Nothing is trained by this command: it tells the record of `python -m demo.experiments.learners`, "
    "whose scenario and budget stand in `results/convergence.md`. The sample is training seeds, not worlds.",
    record=recorded,
)
