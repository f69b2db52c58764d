"""Augur, ours: learned demand, now and later, expected delay tables, exchanges; see `policy/learn`."""

from functools import cache
from pathlib import Path

import numpy as np

from policy.learn.augur import Augur
from policy.learn.augur_many_nodes import AugurManyNodes
from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.demand import DemandModel
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.slot.tables import MAX_TABLE_NODES


def model_from(path: Path | None = None) -> DemandModel:
    """The demand network of a checkpoint; None: the one that comes with the package, unless told."""
    return _model(path or weights_of("augur-demand"))


@cache
def _model(path: Path) -> DemandModel:
    return DemandModel.from_tensors(load_checkpoint(path).tensors)


def start_with(weights: Path | None, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """Augur with the weights of a checkpoint: by tables for few nodes, else by values of copies."""
    kind = AugurManyNodes if scenario.config.num_nodes > MAX_TABLE_NODES else Augur
    return kind(scenario, rng, model_from(weights))


def start(scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """Augur with the shipped weights, unless told."""
    return start_with(None, scenario, rng)


ENTRY = SchemeEntry(
    name="learned",
    start=start,
    paper="Augur, ours; values per block (cf. VDN, arXiv 1706.05296), discounted later demand (Dayan, 1993)",
    random=True,
)
