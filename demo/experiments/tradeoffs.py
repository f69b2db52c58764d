"""Train when `learned` lets the price of work go: on training worlds of the real chain, with it and without.

    python -m demo.experiments.tradeoffs --worlds 200 --workers 2 --out runs/decisions.safetensors

Training worlds of the ten settings, wires and room changed at random, are played twice on the same requests,
places and draws (common random numbers), with real beams: with the price of work as it is, and with none.
Which is better depends on how much work is wanted of the links to the cloud, and on room
(`policy.learn.decisions.FEATURES`), so learning which to take is a classification in which an error costs
what the wrong one waits longer (Zadrozny, Langford and Abe, 2003): a logistic function of the circumstances,
fitted to the log ratio of both delays. How busy links are is not looked at: that is itself an answer to what
was placed. How much the weights are penalised is chosen, and what they gain is told, by ten-fold
cross-validation over worlds; where they gain nothing there, the price stays. Also told: what they gain in
each setting when fitted without it, and in those in `FOREIGN`, to which they are never fitted.
Played worlds are kept beside the result: the same command goes on after a stop, and the same seed gives the
same weights. The other trade-offs are `START`.
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
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from demo.experiments.options import experiment_parser
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.config import LinkConfig
from policy.evaluation.closure import closure_of
from policy.interfaces import Float
from policy.kept import KeptRows
from policy.learn.augur_pipelined import AugurPipelined, Learned
from policy.learn.checkpoint import load_checkpoint, save_checkpoint, versions, weights_of
from policy.learn.decisions import FEATURES, OUTPUTS, DecisionWeights, Tradeoffs
from policy.learn.slot_clock import SlotClock
from policy.parallel import spread
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, World
from policy.schemes.learned import model_from
from policy.schemes.pooled import PooledCoverage
from policy.world.splits import world_seed

START = ((-5.5, 0.0, 1.0), (0.0, 0.0, -2.0), (-0.5, 0.35, 2.0), (2.0, -3.0, 0.0))
BY_HAND = (
    "update, near and work on validation worlds 0..3 of the ten settings, "
    "patience on training worlds 300010..300017"
)
"""How the trade-offs of `START` were chosen."""
NEVER, ALWAYS = -20.0, 6.0
"""Constants of `ease`: the price of work as it is, and none."""
WORST = 0.3
"""Log ratios of delay beyond this count as this: one overloaded world shall not decide."""
PENALTIES = (0.000001, 0.00001, 0.0001, 0.001)
"""On the squares of the weights, tried in cross-validation."""
FOLDS = 10
FOREIGN = ("p1", "bursts")
"""Settings that it is never fitted to: other models and links, and another request process."""
USED = tuple(place for place, name in enumerate(FEATURES) if name != "busy")
"""Features that `ease` looks at; the first is 1."""
STARTS = 4
"""Random starts of a fit, which is not convex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a world needs to be played again."""

    seed: int
    slots: int
    demand: str
    clock: str
    """Files of demand network and clock."""
    settings: tuple[Setting, ...]

    def parts(self) -> Learned:
        """All that is trained but `ease`."""
        return Learned(
            demand=model_from(Path(self.demand)),
            clock=SlotClock.from_tensors(load_checkpoint(Path(self.clock)).tensors),
            decisions=DecisionWeights(with_ease(NEVER)),
        )

    def made_by(self) -> dict[str, Any]:
        """All that a played world depends on, plain values."""
        return {
            "code": closure_of(["demo.experiments.tradeoffs"]).digest,
            "settings": [setting.name for setting in self.settings],
            "demand": hashlib.sha256(Path(self.demand).read_bytes()).hexdigest(),
            "prices": self.parts().clock.prices.tolist(),
            "seed": self.seed,
            "slots": self.slots,
        }


@dataclass(frozen=True, slots=True)
class _Noted(DecisionWeights):
    """Trade-offs that keep note of the circumstances that they were asked for."""

    seen: list[Float] = field(default_factory=list)

    def at(self, features: Float) -> Tradeoffs:
        self.seen.append(features)
        return DecisionWeights.at(self, features)


def with_ease(ease: float | Float) -> Float:
    """Trade-offs of `START`, with a constant or a row of weights for `ease`, (outputs, features)."""
    weights = DecisionWeights.of(START).weights
    row = weights[OUTPUTS.index("ease")]
    row[0] = 0.0
    row[: np.size(ease)] = ease
    return weights


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


def played(job: Job, number: int) -> dict[str, Any]:
    """One world: circumstances, delay with the price of work and without; plain values."""
    rng = np.random.default_rng([job.seed, number])
    place = number % len(job.settings)
    world = jittered(job.settings[place], job.slots, rng)
    parts, noted = job.parts(), list[Float]()
    priced = delay_s(parts, _Noted(with_ease(NEVER), noted), world)
    free = delay_s(parts, DecisionWeights(with_ease(ALWAYS)), world)
    return {
        "number": number,
        "setting": place,
        "features": np.mean(noted, axis=0).tolist(),
        "priced_s": priced,
        "free_s": free,
    }


def rows_of(job: Job, worlds: int, folder: Path, workers: int) -> list[dict[str, Any]]:
    """All worlds, those that are missing played."""
    kept = KeptRows(folder, "tradeoffs", job.made_by())
    done = {row["number"]: row for row in kept}
    missing = [number for number in range(worlds) if number not in done]
    for row in spread(partial(played, job), missing, workers):
        kept.append(row)
        done[row["number"]] = row
        print(f"{len(done)} of {worlds} worlds", file=sys.stderr, flush=True)
    return [done[number] for number in range(worlds)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ease:
    """When to let the price of work go: linear in standardised circumstances, then logistic."""

    middle: Float
    """Of the features in `USED`, (used,); 0 for the first."""
    spread: Float
    weights: Float

    @property
    def row(self) -> Float:
        """Weights of circumstances as they are, (features,)."""
        slopes = self.weights / self.spread
        slopes[0] -= slopes[1:] @ self.middle[1:]
        row = np.zeros(len(FEATURES))
        row[list(USED)] = slopes
        return row

    def of(self, features: Float) -> Float:
        """Part of the price that is let go, (rows,)."""
        return np.asarray(expit(features @ self.row))


def fitted(features: Float, log_ratios: Float, penalty: float, seed: int) -> Ease:
    """Least mean of the log ratio, as far as it is followed, and the penalty.

    Args:
        features: (worlds, features).
        log_ratios: Log of the delay without the price over that with it, (worlds,).
        penalty: On squares of the weights of all but the constant.
        seed: Of the random starts.
    """
    used = features[:, USED]
    middle, scale = used.mean(axis=0), np.maximum(used.std(axis=0), 1e-6)
    middle[0], scale[0] = 0.0, 1.0
    inputs, cost = (used - middle) / scale, np.clip(log_ratios, -WORST, WORST)

    def loss(weights: Float) -> tuple[float, Float]:
        ease = expit(inputs @ weights)
        slope = inputs.T @ (cost * ease * (1 - ease)) / len(cost)
        shrunk = weights * (np.arange(weights.size) > 0)
        return float((cost * ease).mean() + penalty * shrunk @ shrunk), slope + 2 * penalty * shrunk

    rng = np.random.default_rng(seed)
    starts = [np.zeros(inputs.shape[1]), *rng.normal(size=(STARTS, inputs.shape[1]))]
    bounds = [(-8.0, 8.0)] * inputs.shape[1]
    ends = [minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B") for start in starts]
    best = min(ends, key=lambda one: float(one.fun))
    return Ease(middle=middle, spread=scale, weights=np.asarray(best.x))


def left_out(features: Float, log_ratios: Float, group: NDArray[Any], penalty: float, seed: int) -> Float:
    """Log ratio that following gives in each world, fitted without all worlds of its group, (worlds,)."""
    gained = np.zeros(len(log_ratios))
    for one in np.unique(group):
        mine = group == one
        ease = fitted(features[~mine], log_ratios[~mine], penalty, seed)
        gained[mine] = ease.of(features[mine]) * np.clip(log_ratios[mine], -WORST, WORST)
    return gained


def train(rows: Sequence[dict[str, Any]], names: Sequence[str], seed: int) -> tuple[Float, dict[str, Any]]:
    """Weights of all trade-offs, (outputs, features), and what following gives where it was not fitted.

    Args:
        rows: Of `played`.
        names: Of the settings.
        seed: Of the random starts.

    Raises:
        ValueError: If there are fewer than two settings to fit to.
    """
    every = np.array([names[row["setting"]] for row in rows])
    known = ~np.isin(every, FOREIGN)
    if np.unique(every[known]).size < 2:
        raise ValueError("need two settings or more that are not foreign, to leave one out")
    features = np.array([row["features"] for row in rows])
    delays = np.maximum([[row["priced_s"], row["free_s"]] for row in rows], 1e-9)
    ratios = np.asarray(np.log(delays[:, 1] / delays[:, 0]))
    fit = features[known], ratios[known]
    fold = np.random.default_rng(seed).permutation(int(known.sum())) % FOLDS
    tried = {penalty: left_out(*fit, fold, penalty, seed) for penalty in PENALTIES}
    penalty = min(tried, key=lambda one: float(tried[one].mean()))
    ease, reached = fitted(*fit, penalty, seed), float(tried[penalty].mean())
    unseen = ease.of(features) * np.clip(ratios, -WORST, WORST)  # as it stands in foreign settings
    unseen[known] = left_out(*fit, every[known], penalty, seed)
    told = {
        "penalty": penalty,
        "log_ratio": reached,
        "standard_error": float(tried[penalty].std(ddof=1) / np.sqrt(known.sum())),
        "always": float(np.clip(ratios[known], -WORST, WORST).mean()),
        "not_fitted_to": {
            name: round(float(unseen[every == name].mean()), 5) for name in names if name in every
        },
    }
    return with_ease(ease.row if reached < 0 else NEVER), told


def main(argv: Sequence[str] | None = None) -> int:
    """Play what is missing, fit, keep the weights beside the clock that they were trained with."""
    options = _parser().parse_args(argv)
    began = time.process_time()
    chosen = tuple(one for one in SETTINGS if one.name in options.settings)
    job = Job(
        seed=options.seed,
        slots=options.slots,
        demand=str(options.demand),
        clock=str(options.clock),
        settings=chosen,
    )
    rows = rows_of(job, options.worlds, options.out.with_suffix(".played"), options.workers)
    weights, told = train(rows, [setting.name for setting in chosen], options.seed)
    told |= {"seed": options.seed, "worlds": options.worlds, "slots": options.slots, "by_hand": BY_HAND}
    now = load_checkpoint(options.clock)
    about = now.about | {"kind": "augur-decisions", "decisions": told, "versions": versions()}
    save_checkpoint(options.out, {**now.tensors, "decisions.weights": weights.astype(np.float32)}, about)
    print(json.dumps(told, indent=1))
    print(f"{time.process_time() - began:.0f} s of CPU in this process", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, Path("runs/decisions.safetensors"))
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--worlds", type=int, default=200, help="the settings in turn (%(default)s)")
    parser.add_argument("--slots", type=int, default=20, help="of a world (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--settings",
        type=lambda text: text.split(","),
        default=names,
        help="default: all ten",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--demand", type=Path, default=weights_of("augur-demand"))
    parser.add_argument("--clock", type=Path, default=weights_of("augur-decisions"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
