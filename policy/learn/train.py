"""Train the demand network: maximum likelihood in random worlds, early stop on other worlds."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policy.errors import DivergedError
from policy.interfaces import Int
from policy.learn.checkpoint import (
    check_resumable,
    load_checkpoint,
    part_of,
    save_checkpoint,
    versions,
    write_log,
)
from policy.learn.motion import likely_cells
from policy.learn.network import DemandNet
from policy.learn.request_statistics import LATER, RequestStatistics, Single
from policy.learn.state import load_optimizer, optimizer_state
from policy.learn.worlds import Batch, draw_batches

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How to train."""

    seed: int = 0
    """Source of weights, settings and order."""
    settings: int = 128
    """Random settings to learn from."""
    worlds: int = 16
    """Training worlds of each setting."""
    validation_settings: int = 18
    """Random settings to stop on."""
    validation_worlds: int = 6
    """Validation worlds of each."""
    hidden: int = 64
    """Width of the network."""
    steps: int = 12000
    """Most optimiser steps."""
    slots_per_step: int = 3
    """Slots (of all worlds of a setting) in one step."""
    learning_rate: float = 4e-3
    """Adam's, at the start; falls to zero as a cosine."""
    check_every: int = 250
    """Steps between looks at the validation worlds."""
    patience: int = 12
    """Looks without a new best before stopping."""

    def __post_init__(self) -> None:
        for name in ("settings", "worlds", "validation_settings", "validation_worlds", "hidden", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("slots_per_step", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One slot of all worlds of one setting."""

    base: Tensor
    pair: Tensor
    ask: Tensor
    requests: Tensor
    later: Tensor
    """Share of each model in what each user asks for in later slots, (worlds, users, models)."""
    weight: float
    """Weight of the later slots that the trace has, of all there could be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at the validation worlds."""

    step: int
    env_steps: int
    """Slots of training worlds learnt from so far, counted every time they are used."""
    cpu_s: float
    train_loss: float
    validation_loss: float


def examples_of(batch: Batch) -> list[Example]:
    """Features and requests of every slot of a batch."""
    worlds, slots, users = batch.requests.shape
    statistics = RequestStatistics((worlds, users), batch.families, batch.overlap, batch.node_xy.shape[0])
    examples = []
    later = later_shares(batch.requests, batch.families.size)
    for slot in range(slots):
        now, before = batch.user_xy[:, max(slot - 1, 0)], batch.user_xy[:, max(slot - 2, 0)]
        cells = likely_cells(batch.node_xy, now, before) if slot else np.zeros_like(batch.cells[:, 0])
        parts = statistics.features(cells)
        base, pair, ask = map(torch.from_numpy, parts)
        requests = torch.from_numpy(batch.requests[:, slot])
        share, weight = torch.from_numpy(later[slot]), 1 - LATER ** (slots - 1 - slot)
        examples.append(Example(base=base, pair=pair, ask=ask, requests=requests, later=share, weight=weight))
        statistics.observe(batch.requests[:, slot], batch.cells[:, slot])
    return examples


def later_shares(requests: Int, models: int) -> Single:
    """How often each user asks for each model after a slot, the sooner the more weight, see `LATER`.

    Args:
        requests: (worlds, slots, users), -1 for none.
        models: Number of models.

    Returns:
        (slots, worlds, users, models); sums to at most 1 - LATER^(slots left).
    """
    asked = np.vstack([np.eye(models), np.zeros((1, models))]).astype(np.float32)[requests]
    shares = np.zeros((requests.shape[1], requests.shape[0], *asked.shape[2:]), dtype=np.float32)
    for slot in range(requests.shape[1] - 2, -1, -1):
        shares[slot] = (1 - LATER) * asked[:, slot + 1] + LATER * shares[slot + 1]
    return shares


def loss_of(net: DemandNet, example: Example) -> Tensor:
    """Negative log likelihood, a user: who asks, and for what, in the slot and in later ones."""
    log_chance, odds = net(example.base, example.pair, example.ask)
    asked = example.requests >= 0
    picked = log_chance[0].gather(-1, example.requests.clamp(min=0)[..., None])[..., 0]
    which = -(picked * asked).sum() / asked.sum().clamp(min=1)
    whether = torch.nn.functional.binary_cross_entropy_with_logits(odds[0], asked.float())
    total: Tensor = which + whether
    if example.weight:
        share, often = example.later / example.weight, example.later.sum(-1) / example.weight
        which = -(log_chance[1] * share).sum() / often.sum().clamp(min=1)
        whether = torch.nn.functional.binary_cross_entropy_with_logits(odds[1], often)
        total = total + example.weight * (which + whether)
    return total


def digest_of(batches: Sequence[Batch]) -> str:
    """Hash of all worlds that were learnt from."""
    hasher = hashlib.sha256()
    for batch in batches:
        for array in (batch.requests, batch.user_xy, batch.node_xy, batch.families, batch.overlap):
            hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


class Trainer:
    """One training run; the same config gives the same weights, also when it was interrupted and resumed."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        began = time.process_time()
        batches = draw_batches(
            np.random.default_rng([config.seed, 1]), config.settings, config.worlds, "train"
        )
        checks = draw_batches(
            np.random.default_rng([config.seed, 2]),
            config.validation_settings,
            config.validation_worlds,
            "validation",
        )
        self.digest = digest_of(batches)
        self._train = [example for batch in batches for example in examples_of(batch)]
        self._checks = [example for batch in checks for example in examples_of(batch)[::2]]
        self.net = DemandNet(config.hidden)
        self._best_weights = {name: value.clone() for name, value in self.net.state_dict().items()}
        self._optimizer = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate)
        self.history: list[Progress] = []
        self._step, self._env_steps, self._best, self._since = 0, 0, float("inf"), 0
        self._cpu_s = time.process_time() - began

    def run(self, folder: Path | None = None, report: Callable[[Progress], None] | None = None) -> DemandNet:
        """Train to the end; returns the network with the best validation loss.

        Args:
            folder: Where to keep `last.safetensors`, `best.safetensors` and `log.csv`, written at every look.
            report: Called after every look at the validation worlds.
        """
        config, running = self.config, self.history[-1].train_loss if self.history else 0.0
        while self._step < config.steps and self._since < config.patience:
            began = time.process_time()
            running += 0.05 * (self._update() - running) if self._step else self._update()
            self._step += 1
            if self._step % config.check_every == 0 or self._step == config.steps:
                self._look(running, began, folder, report)
            else:
                self._cpu_s += time.process_time() - began
        self.net.load_state_dict(self._best_weights)
        if folder is not None:
            self.save(folder / "best.safetensors")
        return self.net

    def _update(self) -> float:
        """One optimiser step on slots drawn by the step's number: a resumed run draws the same."""
        config = self.config
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + np.cos(np.pi * self._step / config.steps))
        draw = np.random.default_rng([config.seed, 3, self._step])
        picked = [self._train[i] for i in draw.integers(len(self._train), size=config.slots_per_step)]
        loss = torch.stack([loss_of(self.net, example) for example in picked]).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._env_steps += sum(example.requests.shape[0] for example in picked)
        return float(loss.detach())

    def _look(
        self, running: float, began: float, folder: Path | None, report: Callable[[Progress], None] | None
    ) -> None:
        """Judge on the validation worlds, keep the best, write what was asked for."""
        with torch.no_grad():
            loss = float(np.mean([float(loss_of(self.net, example)) for example in self._checks]))
        if not np.isfinite(loss):
            raise DivergedError(f"training has diverged: the validation loss is {loss} at step {self._step}")
        better = loss < self._best
        if better:
            self._best, self._since = loss, 0
            self._best_weights = {name: value.clone() for name, value in self.net.state_dict().items()}
        else:
            self._since += 1
        self._cpu_s += time.process_time() - began
        self.history.append(
            Progress(
                step=self._step,
                env_steps=self._env_steps,
                cpu_s=round(self._cpu_s, 2),
                train_loss=running,
                validation_loss=loss,
            )
        )
        if folder is not None:
            self.save(folder / "last.safetensors")
            if better:
                self.save(folder / "best.safetensors")
            write_log(folder / "log.csv", self.history)
        if report is not None:
            report(self.history[-1])

    def about(self) -> dict[str, object]:
        """What to write beside the weights."""
        return {
            "kind": "augur-demand",
            "config": asdict(self.config),
            "seed": self.config.seed,
            "versions": versions(),
            "trace_hash": self.digest,
            "step": self._step,
            "best_validation_loss": self._best,
            "since_best": self._since,
            "env_steps": self._env_steps,
            "cpu_s": round(self._cpu_s, 2),
            "history": [asdict(item) for item in self.history],
        }

    def save(self, path: Path) -> None:
        """Write weights, best weights and the optimiser's state."""
        tensors = {name: value.numpy() for name, value in self._best_weights.items()}
        if path.stem != "best":
            tensors |= {f"current.{name}": value.numpy() for name, value in self.net.state_dict().items()}
            state = optimizer_state(self._optimizer)
            tensors |= {f"optimizer.{name}": value for name, value in state.items()}
        save_checkpoint(path, tensors, self.about())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint that `save` wrote for the same config.

        Raises:
            ValueError: If it was made with another config (more steps or patience are taken) or worlds.
        """
        checkpoint = load_checkpoint(path)
        there = {**checkpoint.about.get("config", {}), "trace_hash": checkpoint.about.get("trace_hash")}
        wanted = asdict(self.config) | {"trace_hash": self.digest}
        check_resumable(path, there, wanted, {"steps", "patience"})
        as_torch = {name: torch.from_numpy(value.copy()) for name, value in checkpoint.tensors.items()}
        self.net.load_state_dict(part_of(as_torch, "current."))
        self._best_weights = {name: as_torch[name] for name in self.net.state_dict()}
        load_optimizer(self._optimizer, part_of(checkpoint.tensors, "optimizer."))
        about = checkpoint.about
        self._step, self._env_steps = int(about["step"]), int(about["env_steps"])
        self._best, self._since = float(about["best_validation_loss"]), int(about["since_best"])
        self._cpu_s = float(about["cpu_s"])
        self.history = [Progress(**item) for item in about["history"]]
