r"""Tune and train all learners with the same budget, over training seeds; see policy/MAASN.md.

    python -m demo.experiments.learners --tuning-s 4 --training-s 9 --seeds 5 \
        --out demo/experiments/results/convergence.json

Scenario `trio`, on the distilled clock and the cheap radio. Every learner has three settings to choose
from, each tried for `tuning-s`; the best one on validation worlds is trained from nothing for
`training-s`, once per seed. Ablations of MAASN-DA get the same time, and no fewer slots. Times are CPU
seconds of a quiet core, turned into numbers of episodes (`setups.SPEEDS`), so that the same seed gives
the same weights; the file has the CPU time that it really took. Then each learner plays test worlds on
the real chain: real beams, real serving. What is finished is found in the output file and skipped.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.bridge.beamformed import beamformed_world
from policy.evaluation.closure import closure_of
from policy.kept import Unfinished
from policy.learn.checkpoint import SHIPPED, save_checkpoint, versions
from policy.learn.marl.actor_scheme import ACTORS, ActorScheme
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, Setup, ablated, episodes_in
from policy.learn.marl.training import (
    FIRST_VALIDATION_WORLD,
    CurvePoint,
    MarlTrainConfig,
    MarlTrainer,
)
from policy.learn.marl.training_worlds import make_world_set
from policy.parallel import spread
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import to_masks
from policy.world.splits import world_seed

log = logging.getLogger(__name__)

REFERENCES = ("no-cache", "lru", "rendezvous", "ewma-greedy", "pooled")
"""Schemes that learn nothing, for comparison."""
SCENARIO = MarlTrainConfig(setup=CHOICES["vdn"][BEST["vdn"]]).scenario
LOOKS = 10
"""Looks at the validation worlds in a curve, after the first."""
REAL_WORLDS = 3
"""Test worlds that are played on the real chain."""
CLOCK_WORLDS = 8
"""Validation worlds on which placements of unlearned schemes are judged by the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run."""

    name: str
    """Row of the table."""
    seed: int
    setup: Setup
    episodes: int = 0


def train(job: Job) -> tuple[Job, list[dict[str, float]], dict[str, Any]]:
    """One run: its job, its curve, the trainer's account and the best weights."""
    torch.set_num_threads(1)
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
    return {name: round(value, 4) for name, value in asdict(point).items() if value is not None}


def reference_costs() -> dict[str, float]:
    """What schemes that learn nothing cost on validation worlds, judged by the clock like the learners, s."""
    scenario = load_scenario(SCENARIO)
    seeds = [world_seed("validation", FIRST_VALIDATION_WORLD + i) for i in range(CLOCK_WORLDS)]
    judge, by_scheme = make_world_set(scenario, seeds), {}
    for name in REFERENCES:
        costs = []
        for place, seed in enumerate(seeds):
            played = rollout(scenario.world(seed), find_scheme(name), np.random.default_rng(0)).placements
            holders = torch.from_numpy(np.stack([to_masks(holds) for holds in played]))
            slots, world = torch.arange(len(played)), torch.full((len(played),), place)
            costs.append(float(judge.costs.by_block(world, slots, holders).sum(dim=1).mean()))
        by_scheme[name] = round(float(np.mean(costs)), 3)
    return by_scheme


def real_cost(entry: SchemeEntry) -> float:
    """Mean user delay on the real chain, s, on test worlds."""
    scenario = load_scenario(SCENARIO)
    worlds = [beamformed_world(scenario, world_seed("test", number)) for number in range(REAL_WORLDS)]
    costs = [rollout(world, entry, np.random.default_rng(0)).mean_cost_s for world in worlds]
    return round(float(np.mean(costs)), 3)


def real_cost_of(name: str, weights: Mapping[str, Any]) -> float:
    """The same of a learner's trained weights."""
    actor = ACTORS[name]()
    actor.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})

    def start(scenario: Scenario, rng: np.random.Generator) -> ActorScheme:
        return ActorScheme(scenario, actor.eval())

    return real_cost(SchemeEntry(name=name, start=start, paper=""))


class Results(Unfinished):
    """The output file: what it depends on, settings tried, curves, costs of schemes that learn nothing."""

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        super().__init__(path, made_by)
        for key in ("tried_s", "curves", "real_s"):
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
            tried[job.setup.scheme][job.name] = lowest(curve)
            self.save()

    def run(self, cpu_s: float, seeds: int, workers: int, only: Sequence[str] = ()) -> None:
        """Train what was not trained before; the best seed's weights become the package's."""
        curves = self.done["curves"]
        jobs = [
            Job(name=name, seed=seed, setup=setup, episodes=episodes_in(name, cpu_s))
            for name, setup in self._rows().items()
            if not only or name in only
            for seed in range(1, seeds + 1)
            if str(seed) not in curves.setdefault(name, {})
        ]
        for job, curve, trained in spread(train, jobs, workers):
            curves[job.name][str(job.seed)] = curve
            self.save()
            log.info("%s, seed %d: %.2f s", job.name, job.seed, lowest(curve))
            if job.name in CHOICES:
                real = self.done["real_s"].setdefault(job.name, {})
                real[str(job.seed)] = real_cost_of(job.name, trained["weights"])
                self.save()
            if job.name in CHOICES and lowest(curve) == min(map(lowest, curves[job.name].values())):
                save_checkpoint(SHIPPED / f"{job.name}.safetensors", trained["weights"], trained["about"])

    def refer(self) -> None:
        """Play what learns nothing, and ours, unless it was played before."""
        if "references_s" not in self.done:
            self.done["references_s"] = reference_costs()
        for name in (*REFERENCES, "learned"):
            if name not in self.done["real_s"]:
                self.done["real_s"][name] = {"-": real_cost(find_scheme(name))}
        self.save()

    def _rows(self) -> dict[str, Setup]:
        """All that is trained: learners as tuned, ablations."""
        best = {name: min(tried, key=tried.__getitem__) for name, tried in self.done["tried_s"].items()}
        if best != BEST:
            log.warning("setups.BEST says %s, tuning says %s", BEST, best)
        tuned = {name: CHOICES[name][text] for name, text in best.items()}
        changed = {name: ablated(name, CHOICES["maasn-da"][best["maasn-da"]]) for name in ABLATIONS}
        return tuned | changed


def lowest(curve: Sequence[dict[str, float]]) -> float:
    """Lowest cost of a curve after its start, s."""
    return min(point["cost_s"] for point in curve[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, train, tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tuning-s", type=float, default=4)
    parser.add_argument("--training-s", type=float, default=9)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="rows of the table")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    references = [f"policy.schemes.{name.replace('-', '_')}" for name in REFERENCES]
    made_by = {
        "tuning_s": options.tuning_s,
        "training_s": options.training_s,
        "versions": versions(),
        "own_code": closure_of(["demo.experiments.learners", *references]).digest[:16],
    }
    results = Results(options.out, made_by)
    results.tune(options.tuning_s, options.workers)
    results.run(options.training_s, options.seeds, options.workers, options.only)
    results.refer()
    text = markdown(results.done["curves"], results.done["real_s"], results.done["references_s"])
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


def markdown(
    curves: Mapping[str, Mapping[str, list[dict[str, float]]]],
    real_s: Mapping[str, Mapping[str, float]],
    references_s: Mapping[str, float],
) -> str:
    """Learners as a table: cost on the validation worlds, mean and range over training seeds."""
    lines = [
        "By the clock on validation worlds, s per slot; real: test worlds, real beams and serving.\n",
        "| learner | seeds | env steps | CPU s | at half | last | lowest | range | real |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    done = {name: list(by_seed.values()) for name, by_seed in curves.items() if by_seed}
    for name, runs in sorted(done.items(), key=lambda item: np.mean([lowest(curve) for curve in item[1]])):
        best, half = [lowest(curve) for curve in runs], [_at_half(curve) for curve in runs]
        steps, cpu_s, last = (
            float(np.mean([curve[-1][key] for curve in runs])) for key in ("env_steps", "cpu_s", "cost_s")
        )
        real = f"{np.mean(list(real_s[name].values())):.3f}" if real_s.get(name) else ""
        lines.append(
            f"| {name} | {len(runs)} | {steps:,.0f} | {cpu_s:.0f} | {np.mean(half):.3f} | {last:.3f} "
            f"| {np.mean(best):.3f} | {min(best):.3f} to {max(best):.3f} | {real} |"
        )
    for name, by_seed in real_s.items():
        if name not in curves:
            clock = f"{references_s[name]:.3f}" if name in references_s else ""
            lines.append(f"| {name} | | | | | | {clock} | | {next(iter(by_seed.values())):.3f} |")
    return "\n".join(lines) + "\n"


def _at_half(curve: Sequence[dict[str, float]]) -> float:
    """Lowest cost within the first half of training, s."""
    return min(point["cost_s"] for point in curve if point["env_steps"] <= curve[-1]["env_steps"] / 2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
