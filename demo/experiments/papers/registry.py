"""All experiments by name."""

from difflib import get_close_matches

from demo.experiments.papers import network, parts, storage
from demo.experiments.papers.convergence import LEARNING
from demo.experiments.papers.description import Experiment
from demo.experiments.papers.partialloading import LOADING
from demo.experiments.papers.swarm import SWARMS
from demo.experiments.papers.trimcaching import DEADLINE

EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        *storage.EXPERIMENTS,
        *network.EXPERIMENTS,
        DEADLINE,
        LOADING,
        SWARMS,
        *parts.EXPERIMENTS,
        LEARNING,
    )
}
"""In the order of the page that tells them."""


def find_experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        ValueError: If there is none; says what was probably meant.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = get_close_matches(name, EXPERIMENTS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}{hint}")
