"""Augur, ours: learned demand, a learned clock of a slot, learned trade-offs; see `policy/learn`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from policy.config import ScenarioConfig
from policy.learn.augur import Augur
from policy.learn.augur_many_nodes import AugurManyNodes
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.checkpoint import CheckpointError, load_checkpoint, weights_of
from policy.learn.decisions import DecisionWeights
from policy.learn.demand import DemandModel
from policy.learn.slot_clock import SlotClock
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import MAX_TABLE_NODES


def model_from(path: Path | None = None) -> DemandModel:
    """The demand network of a checkpoint; None: the one that comes with the package, unless told.

    Raises:
        CheckpointError: If the file is no checkpoint, or has no demand network.
    """
    path = path or weights_of("augur-demand")
    return _model(path, _stamp(path))


@cache
def _model(path: Path, stamp: tuple[int, int]) -> DemandModel:
    with _of_kind(path, "demand network"):
        return DemandModel.from_tensors(load_checkpoint(path).tensors)


def learned_from(demand: Path | None = None, decisions: Path | None = None) -> Learned:
    """All that is trained, as `model_from` finds it; clock and decisions are of kind `augur-decisions`.

    Raises:
        CheckpointError: If a file is no checkpoint, or not one of its kind.
    """
    path = decisions or weights_of("augur-decisions")
    clock, tradeoffs = _clock_and_tradeoffs(path, _stamp(path))
    return Learned(demand=model_from(demand), clock=clock, decisions=tradeoffs)


@cache
def _clock_and_tradeoffs(path: Path, stamp: tuple[int, int]) -> tuple[SlotClock, DecisionWeights]:
    tensors = load_checkpoint(path).tensors
    with _of_kind(path, "clock and trade-offs"):
        return SlotClock.from_tensors(tensors), DecisionWeights.from_tensors(tensors)


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does; a missing file is told of where it is read."""
    if not path.is_file():
        return 0, 0
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@contextmanager
def _of_kind(path: Path, kind: str) -> Iterator[None]:
    """Say in one line that a checkpoint is one of something else."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{path} holds no {kind}: it has no {error}") from error


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
    return _start_of(learned_from(weights), scenario, rng)


def start_of_files(demand: Path, decisions: Path, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    """Augur with nothing of the shipped weights: another training seed.

    Args:
        demand: Checkpoint of the demand network.
        decisions: Checkpoint of clock and trade-offs.
        scenario: The problem.
        rng: Source of every draw.

    Raises:
        CheckpointError: If a file is no checkpoint, or not one of its kind.
    """
    return _start_of(learned_from(demand, decisions), scenario, rng)


def _start_of(learned: Learned, scenario: Scenario, rng: np.random.Generator) -> Scheme:
    overlap = users_wait_for_overlaps(scenario.config)
    if scenario.config.num_nodes > MAX_TABLE_NODES:
        kind = ForecastCoverage if overlap else AugurManyNodes
        return kind(scenario, rng, learned.demand)
    if overlap:
        return AugurPipelined(scenario, rng, learned, rival=PooledCoverage(scenario, rng))
    return Augur(scenario, rng, learned.demand)


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
