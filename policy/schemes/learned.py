"""Augur, ours: learned demand, a learned clock of a slot, learned trade-offs; see `policy/learn`."""

from functools import cache
from pathlib import Path

import numpy as np

from policy.config import ScenarioConfig
from policy.learn.augur import Augur
from policy.learn.augur_many_nodes import AugurManyNodes
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.checkpoint import load_checkpoint, weights_of
from policy.learn.decisions import DecisionWeights
from policy.learn.demand import DemandModel
from policy.learn.slot_clock import SlotClock
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import MAX_TABLE_NODES


def model_from(path: Path | None = None) -> DemandModel:
    """The demand network of a checkpoint; None: the one that comes with the package, unless told."""
    return _model(path or weights_of("augur-demand"))


@cache
def _model(path: Path) -> DemandModel:
    return DemandModel.from_tensors(load_checkpoint(path).tensors)


def learned_from(demand: Path | None = None) -> Learned:
    """All that is trained, as `model_from` finds it; clock and decisions are of kind `augur-decisions`."""
    clock, decisions = _decisions(weights_of("augur-decisions"))
    return Learned(demand=model_from(demand), clock=clock, decisions=decisions)


@cache
def _decisions(path: Path) -> tuple[SlotClock, DecisionWeights]:
    tensors = load_checkpoint(path).tensors
    return SlotClock.from_tensors(tensors), DecisionWeights.from_tensors(tensors)


def users_wait_for_overlaps(config: ScenarioConfig) -> bool:
    """Whether slots overlap and their users' mean delay counts: then values do not add over blocks."""
    return config.timing != "additive" and config.objective == "mean-user"


class ForecastCoverage(PooledCoverage):
    """Pooled coverage by the trained forecast, for more nodes than tables allow."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, model: DemandModel) -> None:
        self._model = model
        super().__init__(scenario, rng)

    def demand_model(self) -> DemandModel:
        """The trained network."""
        return self._model


def start_with(weights: Path | None, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """Augur with the demand network of a checkpoint, in the form that the scenario asks for."""
    overlap = users_wait_for_overlaps(scenario.config)
    if scenario.config.num_nodes > MAX_TABLE_NODES:
        kind = ForecastCoverage if overlap else AugurManyNodes
        return kind(scenario, rng, model_from(weights))
    if overlap:
        return AugurPipelined(scenario, rng, learned_from(weights), rival=PooledCoverage(scenario, rng))
    return Augur(scenario, rng, model_from(weights))


def start(scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """Augur with the shipped weights, unless told."""
    return start_with(None, scenario, rng)


ENTRY = SchemeEntry(
    name="learned",
    start=start,
    paper="Augur, ours; values per block (cf. VDN, arXiv 1706.05296), discounted later demand (Dayan, 1993), "
    "a maxout network (Goodfellow et al., 2013) for what users wait",
    random=True,
)
