"""Train one scheme with one seed, telling on stderr how far it is; runs in processes and on Ray, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE

from demo.console import Sheet, warn
from policy.errors import SchemeError
from policy.learn.marl.base import MarlConfig
from policy.learn.marl.setups import BEST, CHOICES, Setup, episodes_in, learner_of
from policy.learn.marl.training import MarlTrainConfig, MarlTrainer
from policy.learn.train import TrainConfig, Trainer
from policy.play.own_files import file_of

OURS = "learned"
TRAINABLE = (OURS, *CHOICES)
"""Schemes that are trained."""
OWN_CONFIG = MarlConfig(learning_rate=3e-3, noise=0.3, worlds=24, batch=32)
OWN_EPISODES = 100
"""Settings and episodes of a learner from a file, unless told otherwise."""
TRAINING_S = 22.0
"""CPU time of a quiet core that a baseline trains for, unless told otherwise, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """One training run; what is None stays as it was tuned."""

    scheme: str
    seed: int
    folder: Path
    """Of `last.safetensors`, `best.safetensors` and `log.csv`."""
    resume: bool = False
    """Whether to go on from `last.safetensors` if it is there."""
    steps: int | None = None
    """Optimiser steps for ours, episodes for the others."""
    worlds: int | None = None
    """Training worlds; for ours in each random setting."""
    settings: int | None = None
    """Random settings; ours alone."""
    scenario: str | None = None
    """What the others are trained for."""
    learning_rate: float | None = None
    patience: int | None = None
    """Looks at the validation worlds without a new best before stopping."""


def check(request: TrainRequest) -> None:
    """Refuse what cannot be trained, or would replace another run.

    Raises:
        SchemeError: If there is nothing to train, or an option is not for this scheme.
        ValueError: If the folder holds a run that is not to be resumed.
    """
    if file_of(request.scheme) is not None:
        learner_of(request.scheme)
    elif request.scheme not in TRAINABLE:
        raise SchemeError(f"{request.scheme!r} is not trained; {', '.join(TRAINABLE)} are")
    if request.scheme == OURS and request.scenario is not None:
        raise SchemeError(f"{OURS} learns from random settings, once for all scenarios: leave --scenario out")
    if request.scheme != OURS and request.settings is not None:
        raise SchemeError(f"--settings is for {OURS}; {request.scheme} is trained for one --scenario")
    if not request.resume and (request.folder / "last.safetensors").exists():
        raise ValueError(f"{request.folder} holds a training run: --resume goes on, or choose another --out")


def train_one(request: TrainRequest) -> dict[str, Any]:
    """Train to the end; the trainer's account, `validation` (the best) and the path of the `weights`."""
    import torch

    torch.set_num_threads(1)
    result = _train_ours(request) if request.scheme == OURS else _train_other(request)
    return {**result, "weights": str(request.folder / "best.safetensors")}


def _train_ours(request: TrainRequest) -> dict[str, Any]:
    keys = ("steps", "worlds", "settings", "learning_rate", "patience")
    config = replace(TrainConfig(seed=request.seed), **_given(request, keys))
    _tell(request, f"drawing {config.settings} x {config.worlds} worlds")
    trainer = Trainer(config)
    _go_on(request, trainer)
    trainer.run(
        request.folder,
        lambda now: _tell(
            request,
            f"step {now.step}/{config.steps}  {now.cpu_s:.0f} CPU s  training {now.train_loss:.4f}  "
            f"validation {now.validation_loss:.4f}",
        ),
    )
    return {**trainer.about(), "validation": min(item.validation_loss for item in trainer.history)}


def _train_other(request: TrainRequest) -> dict[str, Any]:
    own = file_of(request.scheme) is not None
    setup = (
        Setup(scheme=request.scheme, config=OWN_CONFIG)
        if own
        else CHOICES[request.scheme][BEST[request.scheme]]
    )
    setup = replace(setup, config=replace(setup.config, **_given(request, ("learning_rate",))))
    episodes = request.steps or (OWN_EPISODES if own else episodes_in(request.scheme, TRAINING_S))
    changes = _given(request, ("worlds", "scenario", "patience"))
    config = MarlTrainConfig(setup=setup, seed=request.seed, episodes=episodes, **changes)
    _tell(request, f"drawing {config.worlds} worlds")
    trainer = MarlTrainer(config)
    _go_on(request, trainer)
    trainer.run(
        request.folder,
        lambda now: _tell(
            request,
            f"episode {now.episode}/{config.episodes}  {now.cpu_s:.0f} CPU s  "
            f"validation {now.cost_s:.3f} s per slot",
        ),
    )
    return {**trainer.about(), "validation": min(point.cost_s for point in trainer.history)}


def _given(request: TrainRequest, keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key in keys if (value := getattr(request, key)) is not None}


def _go_on(request: TrainRequest, trainer: Trainer | MarlTrainer) -> None:
    last = request.folder / "last.safetensors"
    if request.resume and last.exists():
        trainer.resume(last)
        _tell(request, f"going on from {last}")
    elif request.resume:
        _tell(request, f"nothing to go on from in {request.folder}: starting")


def _tell(request: TrainRequest, text: str) -> None:
    warn(f"{request.scheme}, seed {request.seed}: {text}")


def training_table(scheme: str, runs: Sequence[Mapping[str, Any]]) -> Sheet:
    """One row a training seed; lower is better."""
    unit = "validation loss" if scheme == OURS else "validation, s per slot"
    table = Sheet("#seed", f"#{unit}", "#CPU s", "weights", box=SIMPLE, pad_edge=False)
    for run in runs:
        table.row(run["seed"], f"{run['validation']:.4f}", f"{run['cpu_s']:.0f}", run["weights"])
    return table
