"""Train the trade-offs of `learned` on the real chain: what a saving must cost, in which circumstances.

    python -m demo.experiments.tradeoffs --worlds 240 --workers 2 --out runs/decisions.safetensors

Training worlds of the settings, wires and room changed at random, are played with the trade-offs as they are
and with some that are shifted at random, on the same requests, places and draws (common random numbers), with
real beams. A Gaussian process tells how the delay answers to a shift in given circumstances
(`demo.experiments.response_surface`). The new weights, linear in the circumstances, are those for which it
expects least in the mean over all worlds played, a standard deviation of doubt added (so nothing is changed
where nothing is known). `--rounds` goes on from there. Played worlds are kept beside the result: the same
command goes on after a stop, and the same seed gives the same weights.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo.experiments.options import experiment_parser
from demo.experiments.response_surface import ResponseSurface, Trials
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.config import LinkConfig
from policy.evaluation.closure import function_digest
from policy.interfaces import Float
from policy.kept import KeptRows
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.checkpoint import load_checkpoint, save_checkpoint, versions, weights_of
from policy.learn.decisions import FEATURES, DecisionWeights, Tradeoffs
from policy.learn.slot_clock import SlotClock
from policy.parallel import spread
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.learned import model_from
from policy.schemes.pooled import PooledCoverage
from policy.world.splits import world_seed

START = ((-5.5, 0.0, 1.0), (0.0, 0.0, -2.0), (-0.5, 0.35, 2.0), (2.0, -3.0, 0.0))
"""Where training starts: set by hand, the first three on validation worlds, patience on training worlds."""
DIRECTIONS = (
    (0.0, 5.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, -4.5, -12.0, 0.0),
    (1.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0, 1.0),
)
"""What is tried, (directions, outputs): to count further copies and near nodes in full, to give the cloud's
work no price, dearer updates, to ask for more certainty against the rival. The first two together lead to
about what is untrained, which is far: single small shifts do not find it."""
TRIED = ((-0.3, 1.2), (-0.3, 1.2), (-1.0, 1.5), (-1.5, 1.5))
"""Least and most steps along each direction in the first round."""
LATER = 0.4
"""Steps along each in later rounds, either way, as a share of the first round's range."""
WORST = 0.3
"""Log ratios of delay beyond this count as this: one overloaded world shall not decide."""
DOUBT = 1.0
"""Standard deviations that are added to what is expected."""
STEPS, RATE = 300, 0.03
"""Adam's, on the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeoffConfig:
    """How to train."""

    seed: int = 0
    worlds: int = 240
    """Training worlds of a round, the settings in turn."""
    candidates: int = 4
    """Shifts tried in each."""
    rounds: int = 2
    slots: int = 20
    """Slots of a world."""

    def __post_init__(self) -> None:
        for name in ("worlds", "candidates", "rounds", "slots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: where it starts, and what each world needs to be played again."""

    number: int
    weights: tuple[tuple[float, ...], ...]
    config: TradeoffConfig
    demand: str
    clock: str
    """Files of demand network and clock."""
    settings: tuple[Setting, ...]

    def parts(self) -> Learned:
        """All that is trained, trade-offs as this round starts."""
        return Learned(
            demand=model_from(Path(self.demand)),
            clock=SlotClock.from_tensors(load_checkpoint(Path(self.clock)).tensors),
            decisions=DecisionWeights(np.array(self.weights)),
        )


@dataclass(frozen=True, slots=True)
class _Noted(DecisionWeights):
    """Trade-offs that keep note of the circumstances that they were asked for."""

    seen: list[Float] = field(default_factory=list)

    def at(self, features: Float) -> Tradeoffs:
        self.seen.append(features)
        return DecisionWeights.at(self, features)


def jittered(setting: Setting, slots: int, rng: np.random.Generator) -> World:
    """A training world of a setting with other wires and other room, each by up to half."""
    scenario = setting.scenario()
    config, (hop, cloud, room) = scenario.config, np.exp(rng.uniform(-0.4, 0.4, 3))
    backhaul = float(config.links.backhaul_bit_s * hop)
    rate = min(backhaul, float(config.links.cloud_bit_s * cloud))
    changed = replace(
        config,
        links=LinkConfig(backhaul_bit_s=backhaul, cloud_bit_s=rate),
        capacity_share=float(np.clip(config.capacity_share * room, 0.04, 0.9)),
        num_slots=slots,
    )
    seed = world_seed("train", 400_000 + int(rng.integers(100_000)))
    return setting.make_world()(Scenario(changed, scenario.catalog), seed)


def shifted(weights: Float, shift: Float) -> Float:
    """Trade-offs that are the same but for a shift of each output, (outputs,), in all circumstances."""
    changed = weights.copy()
    changed[:, 0] += shift
    return changed


def steps_tried(number: int) -> tuple[Float, Float]:
    """Least and most steps along each direction in a round, (directions,) each."""
    low, high = np.array(TRIED).T
    if number == 0:
        return low, high
    half = LATER * (high - low) / 2
    return -half, half


def delay_s(parts: Learned, decisions: DecisionWeights, world: World) -> float:
    """Mean delay in a world, s."""
    mine = replace(parts, decisions=decisions)
    entry = SchemeEntry(
        name="candidate",
        start=lambda s, rng: AugurPipelined(s, rng, mine, rival=PooledCoverage(s, rng)),
        paper="",
        random=True,
    )
    return float(rollout(world, entry, np.random.default_rng(0)).mean_cost_s)


def played(about: Round, number: int) -> dict[str, Any]:
    """One world: circumstances, shifts, and the log ratio of each; plain values."""
    config = about.config
    rng = np.random.default_rng([config.seed, about.number, number])
    place = number % len(about.settings)
    world = jittered(about.settings[place], config.slots, rng)
    low, high = steps_tried(about.number)
    steps = rng.uniform(low, high, (config.candidates, len(DIRECTIONS)))
    shifts = steps @ np.array(DIRECTIONS)
    parts, weights = about.parts(), np.array(about.weights)
    noted: list[Float] = []
    base = delay_s(parts, _Noted(weights, noted), world)
    ratios = [
        np.log(max(delay_s(parts, DecisionWeights(shifted(weights, shift)), world), 1e-9) / max(base, 1e-9))
        for shift in shifts
    ]
    return {
        "number": number,
        "setting": place,
        "features": np.mean(noted, axis=0).tolist(),
        "steps": steps.tolist(),
        "log_ratios": [float(value) for value in ratios],
        "base_s": base,
    }


def rows_of(about: Round, folder: Path, workers: int) -> list[dict[str, Any]]:
    """All worlds of a round, those that are missing played."""
    made_by = {
        "code": function_digest(played),
        "directions": [list(row) for row in DIRECTIONS],
        "round": about.number,
        "weights": [list(row) for row in about.weights],
        "settings": [setting.name for setting in about.settings],
        "parts": [_digest(path) for path in (about.demand, about.clock)],
        "seed": about.config.seed,
        "candidates": about.config.candidates,
        "slots": about.config.slots,
    }
    kept = KeptRows(folder, "tradeoffs", made_by)
    done = {row["number"]: row for row in kept}
    missing = [number for number in range(about.config.worlds) if number not in done]
    for row in spread(partial(played, about), missing, workers):
        kept.append(row)
        done[row["number"]] = row
        print(f"round {about.number + 1}: {len(done)} of {about.config.worlds} worlds", file=sys.stderr)
    return [done[number] for number in range(about.config.worlds)]


def _digest(path: str) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def trials_of(rows: Sequence[dict[str, Any]]) -> tuple[Trials, Float, Float]:
    """Rows as the surface wants them; with mean and spread of the features, (features,) each."""
    features = np.array([row["features"] for row in rows])
    middle, spread_of = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    each = len(rows[0]["steps"])
    trials = Trials(
        changes=np.concatenate([row["steps"] for row in rows]),
        features=np.repeat((features - middle) / spread_of, each, axis=0)[:, 1:],
        log_ratios=np.clip(np.concatenate([row["log_ratios"] for row in rows]), -WORST, WORST),
        worlds=np.repeat(np.arange(len(rows)), each),
        settings=np.repeat([row["setting"] for row in rows], each),
    )
    return trials, middle, spread_of


def best_shift(
    surface: ResponseSurface, rows: Sequence[dict[str, Any]], scaling: tuple[Float, Float]
) -> tuple[Float, float]:
    """Weights to add, (outputs, features), and the log ratio that is expected of them in the mean."""
    raw = np.array([row["features"] for row in rows])
    middle, spread_of = scaling
    standard = torch.as_tensor((raw - middle) / spread_of)[:, 1:]
    inputs = torch.cat([torch.ones(len(rows), 1, dtype=torch.float64), standard], dim=1)
    added = torch.full((len(DIRECTIONS), len(FEATURES)), 1e-3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([added], RATE)

    def expected() -> tuple[Tensor, Tensor]:
        return surface.expected(inputs @ added.T, standard)

    for _ in range(STEPS):
        adam.zero_grad()
        mean, doubt = expected()
        (mean + DOUBT * doubt).mean().backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        least = float(expected()[0].mean())
        along = added.numpy()
    slopes = along[:, 1:] / spread_of[1:]
    constant = along[:, 0] - slopes @ middle[1:]
    return np.array(DIRECTIONS).T @ np.column_stack([constant, slopes]), least


def train(
    start: Float,
    config: TradeoffConfig,
    settings: Sequence[Setting],
    folder: Path,
    parts: tuple[str, str],
    workers: int = 1,
) -> tuple[Float, dict[str, Any]]:
    """Round after round; the weights, and what was expected of each round."""
    weights, told = start, []
    for number in range(config.rounds):
        about = Round(
            number=number,
            weights=tuple(tuple(row) for row in weights.tolist()),
            config=config,
            demand=parts[0],
            clock=parts[1],
            settings=tuple(settings),
        )
        rows = rows_of(about, folder, workers)
        trials, *scaling = trials_of(rows)
        surface = ResponseSurface(trials)
        added, expected = best_shift(surface, rows, (scaling[0], scaling[1]))
        weights = (weights + added).astype(np.float32).astype(np.float64)
        told.append({"expected": expected, "surface": surface.lengths})
        print(json.dumps(told[-1]), np.round(weights, 2).tolist(), file=sys.stderr)
    return weights, {"rounds": told}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or go on."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(1)
    began = time.process_time()
    chosen = [one for one in SETTINGS if one.name in options.settings]
    config = TradeoffConfig(
        seed=options.seed,
        worlds=options.worlds,
        candidates=options.candidates,
        rounds=options.rounds,
        slots=options.slots,
    )
    start = np.array(DecisionWeights.from_tensors({"decisions.weights": np.array(START)}).weights)
    weights, told = train(
        start,
        config,
        chosen,
        options.out.with_suffix(".played"),
        (str(options.demand), str(options.clock)),
        options.workers,
    )
    now = load_checkpoint(options.clock)
    how = {name: getattr(config, name) for name in TradeoffConfig.__slots__}
    about = now.about | {
        "kind": "augur-decisions",
        "decisions": told | how | {"settings": [one.name for one in chosen], "start": start.tolist()},
        "versions": versions(),
    }
    save_checkpoint(options.out, {**now.tensors, "decisions.weights": weights.astype(np.float32)}, about)
    print(f"{time.process_time() - began:.0f} s of CPU in this process: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, Path("runs/decisions.safetensors"))
    shipped = TradeoffConfig()
    for name in TradeoffConfig.__slots__:
        parser.add_argument(f"--{name}", type=int, default=getattr(shipped, name), help="(%(default)s)")
    names = [setting.name for setting in SETTINGS]
    parser.add_argument(
        "--settings", type=lambda text: text.split(","), default=names, help="default: all ten"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--demand", type=Path, default=weights_of("augur-demand"))
    parser.add_argument("--clock", type=Path, default=weights_of("augur-decisions"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
