"""Train one learned baseline: episodes, looks at validation worlds, checkpoints to go on from."""

import hashlib
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.learn.checkpoint import (
    check_resumable,
    load_checkpoint,
    part_of,
    save_checkpoint,
    versions,
    write_log,
)
from policy.learn.marl.base import play
from policy.learn.marl.setups import Setup
from policy.learn.marl.training_worlds import MakeWorld, WorldSet, make_world_set
from policy.scenario import Scenario, load_scenario
from policy.world.splits import world_seed

FIRST_TRAINING_WORLD, FIRST_VALIDATION_WORLD = 200_000, 2_000
"""Numbers of the first worlds in their splits."""
TRAINING_WORLDS, VALIDATION_WORLDS = 96, 32
"""How many, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarlTrainConfig:
    """How to train."""

    setup: Setup
    """The learner and its settings."""
    seed: int = 0
    """Source of weights, noise and order; the worlds are the same for all."""
    episodes: int = 100
    """Episodes (of `setup.config.worlds` worlds at once); learning rates fall to zero over them."""
    worlds: int = TRAINING_WORLDS
    """Training worlds to draw episodes from."""
    validation_worlds: int = VALIDATION_WORLDS
    """Worlds to stop on."""
    check_every: int = 5
    """Episodes between looks at the validation worlds."""
    patience: int = 20
    """Looks without a new best before stopping."""
    scenario: str = "trio"
    """Name of a preset, or a file."""

    def __post_init__(self) -> None:
        for name in ("episodes", "worlds", "validation_worlds", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One look at the validation worlds."""

    episode: int
    env_steps: int
    cpu_s: float
    """CPU time of training so far; drawing worlds counts, looks do not."""
    cost_s: float
    """Mean cost of a slot, s."""
    loss: float | None = None
    """Of the critic since the last look, mean; units of the learner."""
    value_error: float | None = None
    """Share of the variance of its goals that the critic leaves."""
    entropy: float | None = None
    """Of the choices between keeping a block and not, bits."""
    actor_norm: float | None = None
    """Of the actor's gradient before clipping."""
    critic_norm: float | None = None
    """Of the critic's gradient before clipping."""
    synthetic_share: float | None = None
    """Of samples judged by prediction; MAASN-DA alone."""
    echo_explained: float | None = None
    """Share of the variance of costs in held-out worlds that the echo state network predicted."""


@lru_cache(maxsize=2)
def world_sets(
    scenario: str, training: int, validation: int, make_world: MakeWorld
) -> tuple[WorldSet, WorldSet, str, float]:
    """Training and validation worlds, a hash of all traces learnt from, and the CPU time it took, s."""
    began, problem = time.process_time(), load_scenario(scenario)
    numbers = [world_seed("train", FIRST_TRAINING_WORLD + i) for i in range(training)]
    train = make_world_set(problem, numbers, make_world)
    spent = time.process_time() - began
    checks = [world_seed("validation", FIRST_VALIDATION_WORLD + i) for i in range(validation)]
    return train, make_world_set(problem, checks, make_world), _digest(problem, numbers), spent


def _digest(scenario: Scenario, numbers: Sequence[int]) -> str:
    hasher = hashlib.sha256()
    for number in numbers:
        hasher.update(scenario.world(number).trace.digest.encode())
    return hasher.hexdigest()


class MarlTrainer:
    """One training run; the same config gives the same weights, also when it was interrupted and resumed."""

    def __init__(self, config: MarlTrainConfig, make_world: MakeWorld = Scenario.world) -> None:
        """Draw worlds and start.

        Args:
            config: How to train.
            make_world: What draws the worlds; the cheap radio unless told.
        """
        self.config = config
        self._world_set, self._judge, self.digest, self._cpu_s = world_sets(
            config.scenario, config.worlds, config.validation_worlds, make_world
        )
        began = time.process_time()
        if config.setup.told:
            self._world_set, self._judge = self._world_set.told(), self._judge.told()
        self.learner = config.setup.make(self._world_set, config.seed)
        self._best_weights = deepcopy(self.learner.actor.state_dict())
        self.history: list[CurvePoint] = []
        self._episode, self._best, self._since = (
            0,
            float("inf"),
            -1,
        )  # the look before the start is not counted
        self._cpu_s += time.process_time() - began

    def run(self, folder: Path | None = None, report: Callable[[CurvePoint], None] | None = None) -> None:
        """Train to the end; the learner's actor is then the best one on the validation worlds.

        Args:
            folder: Where to keep `last.safetensors`, `best.safetensors` and `log.csv`, written at every look.
            report: Called after every look at the validation worlds.
        """
        config = self.config
        if not self.history:
            self._look(folder, report)
        while self._episode < config.episodes and self._since < config.patience:
            began = time.process_time()
            self.learner.slow_down(self._episode / config.episodes)
            self.learner.episode()
            self._episode += 1
            self._cpu_s += time.process_time() - began
            if self._episode % config.check_every == 0 or self._episode == config.episodes:
                self._look(folder, report)
        self.learner.actor.load_state_dict(self._best_weights)
        if folder is not None:
            self._save(folder / "best.safetensors", {})

    def _look(self, folder: Path | None, report: Callable[[CurvePoint], None] | None) -> None:
        """Judge on the validation worlds, keep the best that was learnt, write what was asked for."""
        cost_s = play(self._judge, self.learner.actor)
        self._since += 1
        better = bool(self._episode) and cost_s < self._best
        if better:
            self._best, self._since = cost_s, 0
            self._best_weights = deepcopy(self.learner.actor.state_dict())
        self.history.append(
            CurvePoint(
                episode=self._episode,
                env_steps=self.learner.env_steps,
                cpu_s=round(self._cpu_s, 2),
                cost_s=cost_s,
                **self.learner.notes(),
            )
        )
        if folder is not None:
            state = self.learner.state()
            self._save(folder / "last.safetensors", {f"learner.{key}": value for key, value in state.items()})
            if better:
                self._save(folder / "best.safetensors", {})
            write_log(folder / "log.csv", self.history)
        if report is not None:
            report(self.history[-1])

    def about(self) -> dict[str, Any]:
        """What to write beside the weights."""
        return {
            "kind": self.learner.name,
            "config": asdict(self.config),
            "seed": self.config.seed,
            "versions": versions(),
            "trace_hash": self.digest,
            "episode": self._episode,
            "best_cost_s": self._best,
            "since_best": self._since,
            "cpu_s": round(self._cpu_s, 2),
            "history": [asdict(point) for point in self.history],
        }

    def _save(self, path: Path, state: dict[str, np.ndarray[Any, Any]]) -> None:
        weights = {name: value.numpy() for name, value in self._best_weights.items()}
        save_checkpoint(path, weights | state, self.about())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint that `run` wrote for the same config.

        Raises:
            ValueError: If it was made with another config (more episodes or patience are taken) or worlds.
        """
        checkpoint = load_checkpoint(path)
        about = checkpoint.about
        there = {**about.get("config", {}), "trace_hash": about.get("trace_hash")}
        wanted = asdict(self.config) | {"trace_hash": self.digest}
        check_resumable(path, there, wanted, {"episodes", "patience"})
        self.learner.load(part_of(checkpoint.tensors, "learner."))
        self._best_weights = {
            name: torch.from_numpy(checkpoint.tensors[name].copy())
            for name in self.learner.actor.state_dict()
        }
        self._episode, self._since = int(about["episode"]), int(about["since_best"])
        self._best, self._cpu_s = float(about["best_cost_s"]), float(about["cpu_s"])
        self.history = [CurvePoint(**point) for point in about["history"]]
