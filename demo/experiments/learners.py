r"""Tune and train all learners with the same budget, over training seeds; see README.md in the folder above.

    python -m demo.experiments.learners --training-s 22 --seeds 3 \
        --out demo/experiments/results/convergence.json

Every baseline has three settings to choose from, each tried for `tuning-s`; the best one on validation worlds
is trained from nothing for `training-s`, once per seed. Ablations of MAASN-DA get the same time, and no fewer
slots. Times are CPU seconds of a quiet core, turned into numbers of episodes (`setups.SPEEDS`), so that the
same seed gives the same weights; the file has the CPU time that it really took. Augur trains as it always
does. What is finished is found in the output file and skipped.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policy.evaluation.closure import closure_of
from policy.evaluation.lookup import play_by_tables
from policy.evaluation.sources import code_version
from policy.kept import Unfinished
from policy.learn.augur import Augur
from policy.learn.checkpoint import SHIPPED, save_checkpoint, versions
from policy.learn.demand import DemandModel
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, Setup, ablated, episodes_in
from policy.learn.marl.training import (
    FIRST_VALIDATION_WORLD,
    VALIDATION_WORLDS,
    CurvePoint,
    MarlTrainConfig,
    MarlTrainer,
)
from policy.learn.train import Progress, TrainConfig, Trainer
from policy.parallel import spread
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import find_scheme
from policy.world.splits import world_seed

log = logging.getLogger(__name__)

AUGUR = "augur"
REFERENCES = ("ewma-greedy", "lru", "no-cache")
"""Schemes that learn nothing, for comparison."""
LOOKS = 10
"""Looks at the validation worlds in a curve, after the first."""
AUGUR_LOOKS = (1, 2, 4, 8, 16)
"""Looks of Augur's own training at which its cost is measured, too; and at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run."""

    name: str
    """Row of the table."""
    seed: int
    setup: Setup | None = None
    """None for Augur."""
    episodes: int = 0


def train(job: Job) -> tuple[Job, list[dict[str, float]], dict[str, Any]]:
    """One run: its job, its curve, the trainer's account and the best weights."""
    torch.set_num_threads(1)
    if job.setup is None:
        return job, *_train_augur(job.seed)
    every = -(-job.episodes // LOOKS)
    config = MarlTrainConfig(
        setup=job.setup, seed=job.seed, episodes=job.episodes, check_every=every, patience=LOOKS + 1
    )
    trainer = MarlTrainer(config)
    trainer.run()
    trained = {"about": trainer.about(), "weights": _arrays(trainer.learner.actor)}
    return job, [_plain(point) for point in trainer.history], trained


def _arrays(net: torch.nn.Module) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def _plain(point: CurvePoint) -> dict[str, float]:
    return {"env_steps": point.env_steps, "cpu_s": point.cpu_s, "cost_s": round(point.cost_s, 3)}


def _judge_worlds(scenario: Scenario) -> list[World]:
    """The validation worlds of `policy.learn.marl.training`."""
    numbers = [world_seed("validation", FIRST_VALIDATION_WORLD + i) for i in range(VALIDATION_WORLDS)]
    return [scenario.world(number) for number in numbers]


def reference_costs() -> dict[str, float]:
    """What schemes that learn nothing cost on the validation worlds, s per slot."""
    by_scheme, worlds = {}, _judge_worlds(load_scenario("findings"))
    for name in REFERENCES:
        entry = find_scheme(name)
        costs = [play_by_tables(world, entry, np.random.default_rng(0)).cost_s for world in worlds]
        by_scheme[name] = round(float(np.mean(costs)), 3)
    return by_scheme


def _train_augur(seed: int) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Cost of Augur with the weights of some looks of its training, on the baselines' validation worlds."""
    trainer, worlds = Trainer(TrainConfig(seed=seed)), _judge_worlds(load_scenario("findings"))
    looks: list[dict[str, float]] = []

    def measure(env_steps: int, cpu_s: float) -> None:
        model = DemandModel.from_tensors(_arrays(trainer.net))

        def start(scenario: Scenario, rng: np.random.Generator) -> Scheme:
            return Augur(scenario, rng, model)

        entry = SchemeEntry(name=AUGUR, start=start, paper="", random=True)
        costs = [play_by_tables(world, entry, np.random.default_rng(0)).cost_s for world in worlds]
        looks.append({"env_steps": env_steps, "cpu_s": cpu_s, "cost_s": round(float(np.mean(costs)), 3)})

    def look(now: Progress) -> None:
        if len(trainer.history) in AUGUR_LOOKS:
            measure(now.env_steps, now.cpu_s)

    measure(0, round(float(trainer.about()["cpu_s"]), 2))  # type: ignore[arg-type]
    trainer.run(report=look)
    measure(trainer.history[-1].env_steps, trainer.history[-1].cpu_s)
    return looks, {"about": trainer.about(), "weights": _arrays(trainer.net)}


class Results(Unfinished):
    """The output file: what it depends on, settings tried, curves, costs of schemes that learn nothing."""

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        super().__init__(path, made_by)
        for key in ("tried_s", "curves"):
            self.done.setdefault(key, {})

    def tune(self, cpu_s: float, workers: int) -> None:
        """Try the settings of each baseline that were not tried before."""
        tried = self.done["tried_s"]
        jobs = []
        for scheme, choices in CHOICES.items():
            for text, setup in choices.items():
                if text not in tried.setdefault(scheme, {}):
                    episodes = episodes_in(scheme, cpu_s)
                    jobs.append(Job(name=text, seed=0, setup=setup, episodes=episodes))
        for job, curve, _ in spread(train, jobs, workers):
            if job.setup is not None:
                tried[job.setup.scheme][job.name] = lowest(curve)
            self.save()

    def run(self, cpu_s: float, seeds: int, workers: int, only: Sequence[str] = ()) -> None:
        """Train what was not trained before; the best seed's weights become the package's.

        Augur's weights of each seed are kept beside the results.
        """
        curves = self.done["curves"]
        jobs = [
            Job(name=name, seed=seed, setup=setup, episodes=episodes_in(name, cpu_s) if setup else 0)
            for name, setup in self._rows().items()
            if not only or name in only
            for seed in range(1, seeds + 1)
            if str(seed) not in curves.setdefault(name, {})
        ]
        for job, curve, trained in spread(train, jobs, workers):
            curves[job.name][str(job.seed)] = curve
            self.save()
            log.info("%s, seed %d: %.2f s", job.name, job.seed, lowest(curve))
            if job.name == AUGUR:
                path = self.path.with_name(f"{AUGUR}-seed-{job.seed}.safetensors")
                save_checkpoint(path, trained["weights"], trained["about"])
            if job.name in CHOICES and lowest(curve) == min(map(lowest, curves[job.name].values())):
                save_checkpoint(SHIPPED / f"{job.name}.safetensors", trained["weights"], trained["about"])

    def _rows(self) -> dict[str, Setup | None]:
        """All that is trained: baselines as tuned, ablations, Augur."""
        best = {name: min(tried, key=tried.__getitem__) for name, tried in self.done["tried_s"].items()}
        if best != BEST:
            log.warning("setups.BEST says %s, tuning says %s", BEST, best)
        tuned: dict[str, Setup | None] = {name: CHOICES[name][text] for name, text in best.items()}
        changed = {name: ablated(name, CHOICES["maasn-da"][best["maasn-da"]]) for name in ABLATIONS}
        return tuned | changed | {AUGUR: None}


def lowest(curve: Sequence[dict[str, float]]) -> float:
    """Lowest cost of a curve after its start, s."""
    return min(point["cost_s"] for point in curve[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, train, tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tuning-s", type=float, default=8)
    parser.add_argument("--training-s", type=float, default=22)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="rows of the table")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    made_by = {
        "tuning_s": options.tuning_s,
        "training_s": options.training_s,
        "versions": versions(),
        "own_code": closure_of(["demo.experiments.learners"]).digest[:16],
        "code": {name: code_version(name) for name in REFERENCES},
    }
    results = Results(options.out, made_by)
    results.tune(options.tuning_s, options.workers)
    results.run(options.training_s, options.seeds, options.workers, options.only)
    results.done["references_s"] = reference_costs()
    results.save()
    options.out.with_suffix(".md").write_text(markdown(results.done["curves"]), encoding="utf-8")
    return 0


def markdown(curves: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """Learners as a table: lowest cost on the validation worlds, mean and range over training seeds."""
    lines = [
        "| learner | seeds | env steps | CPU s | at half the CPU time, s | lowest, s per slot | range |",
        "|---|---|---|---|---|---|---|",
    ]
    order = sorted(curves, key=lambda name: np.mean([lowest(curve) for curve in curves[name].values()]))
    for name in order:
        runs = list(curves[name].values())
        best, half = [lowest(curve) for curve in runs], [_at_half(curve) for curve in runs]
        steps, cpu_s = (float(np.mean([curve[-1][key] for curve in runs])) for key in ("env_steps", "cpu_s"))
        lines.append(
            f"| {name} | {len(runs)} | {steps:,.0f} | {cpu_s:.0f} | {np.mean(half):.2f} "
            f"| {np.mean(best):.2f} | {min(best):.2f} to {max(best):.2f} |"
        )
    return "\n".join(lines) + "\n"


def _at_half(curve: Sequence[dict[str, float]]) -> float:
    """Lowest cost within the first half of the CPU time, s."""
    return min(point["cost_s"] for point in curve if point["cpu_s"] <= curve[-1]["cpu_s"] / 2 + 1e-9)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
