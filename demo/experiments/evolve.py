"""Evolve the trade-offs of `learned` on the real chain: what a saving must cost, on training worlds.

    python -m demo.experiments.evolve --generations 20 --out runs/decisions.safetensors

An evolution strategy with opposite pairs and ranks (Salimans et al., 2017): in each generation every
candidate plays the same new training world of each setting (common random numbers), with real beams. State is
kept after each generation; the same command goes on from there, and ends at the same weights as without a
stop.
Beside the trade-offs it keeps the clock that it was started with, so its file is what `learned` plays.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from demo.experiments.options import experiment_parser
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.interfaces import Float
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.checkpoint import (
    SHIPPED,
    check_resumable,
    load_checkpoint,
    save_checkpoint,
    versions,
)
from policy.learn.decisions import DecisionWeights
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.learned import learned_from
from policy.world.splits import world_seed

START = ((-5.5, 0.0, 1.0), (0.0, 0.0, -2.0), (-0.5, 0.35, 2.0), (2.0, -3.0, 0.0))
"""Where evolution starts: set by hand, the first three on validation worlds, patience on training worlds."""
STEP = ((0.5, 0.3, 0.5), (0.6, 0.3, 0.5), (0.6, 0.4, 0.7), (0.6, 0.6, 0.6))
"""Standard deviation of the changes tried at first."""
WORST = 0.3
"""Log ratios of delay beyond this count as this: one overloaded world shall not decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolveConfig:
    """How to evolve."""

    seed: int = 0
    pairs: int = 3
    """Opposite pairs of candidates a generation."""
    slots: int = 16
    """Slots of each training world that are played."""
    rate: float = 0.8
    """Step along the estimated gradient, in standard deviations."""
    cooling: float = 0.95
    """Factor on the standard deviations after each generation."""

    def __post_init__(self) -> None:
        if self.pairs < 1 or self.slots < 1 or self.rate <= 0 or not 0 < self.cooling <= 1:
            raise ValueError(f"need pairs, slots >= 1, rate > 0 and cooling in (0, 1], got {self}")


def training_worlds(settings: Sequence[Setting], config: EvolveConfig, generation: int) -> list[World]:
    """A new training world of each setting."""
    worlds = []
    for setting in settings:
        scenario = setting.scenario()
        short = Scenario(replace(scenario.config, num_slots=config.slots), scenario.catalog)
        seed = world_seed("train", 100_000 + 10_000 * config.seed + generation)
        worlds.append(setting.make_world()(short, seed))
    return worlds


def delays(weights: Float, learned: Learned, worlds: Sequence[World]) -> Float:
    """Mean delay in each world with some trade-offs, (worlds,), s."""
    parts = replace(learned, decisions=DecisionWeights(weights))
    entry = SchemeEntry(name="candidate", start=lambda s, rng: AugurPipelined(s, rng, parts), paper="")
    return np.array([rollout(world, entry, np.random.default_rng(0)).mean_cost_s for world in worlds])


def generation_of(
    mean: Float, step: Float, learned: Learned, worlds: Sequence[World], config: EvolveConfig, number: int
) -> tuple[Float, Float]:
    """New mean, and the mean log ratio of delay of each candidate to the old mean's, (candidates,)."""
    half = np.random.default_rng([config.seed, number]).standard_normal((config.pairs, *mean.shape))
    tried = np.concatenate([half, -half])
    base = delays(mean, learned, worlds)
    ratios = [np.log(delays(mean + step * change, learned, worlds) / base) for change in tried]
    score = np.clip(np.array(ratios), -WORST, WORST).mean(axis=1)
    middle = (len(tried) - 1) / 2
    rank = (middle - np.argsort(np.argsort(score))) / middle
    gradient = (rank[:, None, None] * tried).mean(axis=0)
    return mean + config.rate * step * gradient, score


def evolve(settings: Sequence[Setting], config: EvolveConfig, generations: int, out: Path) -> dict[str, Any]:
    """Go on until so many generations are done; returns what is kept beside the weights."""
    learned, about = learned_from(), _start(settings, config)
    mean, step = np.array(START), np.array(STEP)
    if out.is_file():
        kept = load_checkpoint(out)
        check_resumable(out, kept.about["settings"], about["settings"], set())
        about, mean = kept.about, kept.tensors["decisions.weights"].astype(np.float64)
    while about["generations"] < generations:
        began, number = time.process_time(), about["generations"]
        worlds = training_worlds(settings, config, number)
        spread = step * config.cooling**number
        mean, score = generation_of(mean, spread, learned, worlds, config, number)
        mean = mean.astype(np.float32).astype(np.float64)  # what is kept is what goes on
        about["generations"] += 1
        about["cpu_s"] += time.process_time() - began
        about["scores"].append([round(float(value), 4) for value in score])
        save_checkpoint(out, _tensors(mean, learned), about)
        print(number, np.round(score, 3).tolist(), np.round(mean, 2).tolist(), file=sys.stderr, flush=True)
    return about


def _start(settings: Sequence[Setting], config: EvolveConfig) -> dict[str, Any]:
    named = {"settings": [setting.name for setting in settings]}
    how = {name: getattr(config, name) for name in EvolveConfig.__slots__}
    return {
        "kind": "augur-decisions",
        "settings": named | how,
        "generations": 0,
        "cpu_s": 0.0,
        "scores": [],
        "versions": versions(),
    }


def _tensors(mean: Float, learned: Learned) -> Mapping[str, np.ndarray[Any, Any]]:
    return {
        "decisions.weights": mean.astype(np.float32),
        "clock.prices": learned.clock.prices.astype(np.float32),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Evolve, or go on."""
    parser: argparse.ArgumentParser = experiment_parser(__doc__, SHIPPED / "augur-decisions.safetensors")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all but p1")
    options = parser.parse_args(argv)
    wanted = options.settings or [setting.name for setting in SETTINGS if setting.name != "p1"]
    chosen = [setting for setting in SETTINGS if setting.name in wanted]
    about = evolve(chosen, EvolveConfig(seed=options.seed), options.generations, options.out)
    print(f"{about['generations']} generations, {about['cpu_s'] / 60:.1f} CPU-minutes: {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
