r"""Tune and train all learners with the same budget, over training seeds; see policy/MAASN.md.

    python -m demo.experiments.learners --tuning-s 4 --training-s 9 --seeds 5 \
        --out demo/experiments/results/convergence.json

Scenario `trio`, on the distilled clock and the cheap radio. Every learner has three settings to choose
from, each tried for `tuning-s`; the best one on validation worlds is trained from nothing for
`training-s`, once per seed. Ablations of MAASN-DA get the same time, and no fewer slots. Times are CPU
seconds of a quiet core, turned into numbers of episodes (`setups.SPEEDS`), so that the same seed gives
the same weights; the file has the CPU time that it really took. Then each learner plays test worlds on
the real chain: real beams, real serving. MAASN-DA with several discounts is also trained, for as many
episodes, in `trio-narrow`. What is finished is found in the output file and skipped.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.bridge.beamformed import beamformed_world
from demo.experiments.learners_table import NARROW, lowest, markdown
from policy.evaluation.closure import closure_of
from policy.kept import Unfinished
from policy.learn.checkpoint import SHIPPED, save_checkpoint, versions
from policy.learn.marl.actor_scheme import ACTORS, ActorScheme
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, Setup, ablated, episodes_in
from policy.learn.marl.training import (
    FIRST_VALIDATION_WORLD,
    VALIDATION_WORLDS,
    CurvePoint,
    MarlTrainConfig,
    MarlTrainer,
)
from policy.learn.marl.training_worlds import make_world_set
from policy.parallel import spread
from policy.play.rollout import rollout
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import to_masks
from policy.world.splits import world_seed

log = logging.getLogger(__name__)

REFERENCES = ("no-cache", "lru", "rendezvous", "ewma-greedy", "pooled")
"""Schemes that learn nothing, for comparison."""
SCENARIO = MarlTrainConfig(setup=CHOICES["vdn"][BEST["vdn"]]).scenario
NARROW_SCENARIO, DISCOUNTS = "trio-narrow", (0.0, 0.8)
"""Where links bring little, and what is tried there."""
LOOKS = 10
"""Looks at the validation worlds in a curve, after the first."""
FIRST_REAL_WORLD, REAL_WORLDS = 1_000, 8
"""Test worlds that are played on the real chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run."""

    name: str
    """Row of the table."""
    seed: int
    setup: Setup
    episodes: int = 0
    scenario: str = SCENARIO


def train(job: Job) -> tuple[Job, list[dict[str, float]], dict[str, Any]]:
    """One run: its job, its curve, the trainer's account and the best weights."""
    torch.set_num_threads(1)
    every = -(-job.episodes // LOOKS)
    config = MarlTrainConfig(
        setup=job.setup,
        seed=job.seed,
        episodes=job.episodes,
        check_every=every,
        patience=LOOKS + 1,
        scenario=job.scenario,
    )
    trainer = MarlTrainer(config)
    trainer.run()
    trained = {"about": trainer.about(), "weights": _arrays(trainer.learner.actor)}
    return job, [_plain(point) for point in trainer.history], trained


def _arrays(net: torch.nn.Module) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def _plain(point: CurvePoint) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(point).items() if value is not None}


def reference_costs(scenario: Scenario) -> dict[str, float]:
    """What schemes that learn nothing cost on validation worlds, judged by the clock like the learners, s."""
    seeds = [world_seed("validation", FIRST_VALIDATION_WORLD + i) for i in range(VALIDATION_WORLDS)]
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


@cache
def real_worlds(scenario: str) -> tuple[World, ...]:
    """Test worlds with real beams; a world remembers its beams, which are the same whoever asks first."""
    numbers = range(FIRST_REAL_WORLD, FIRST_REAL_WORLD + REAL_WORLDS)
    return tuple(beamformed_world(load_scenario(scenario), world_seed("test", n)) for n in numbers)


def real_costs(entry: SchemeEntry, scenario: str) -> list[float]:
    """Mean user delay on the real chain, s, in each test world."""
    played = [rollout(world, entry, np.random.default_rng(0)) for world in real_worlds(scenario)]
    return [round(one.mean_cost_s, 4) for one in played]


def real_costs_of(job: Job, weights: Mapping[str, Any]) -> list[float]:
    """The same of a run's trained weights."""
    own = job.setup.own
    actor = ACTORS[job.setup.scheme]() if own is None else own.make_actor()
    actor.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})

    def start(scenario: Scenario, rng: np.random.Generator) -> ActorScheme:
        return ActorScheme(scenario, actor.eval())

    return real_costs(SchemeEntry(name=job.name, start=start, paper=""), job.scenario)


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
            replace(row, seed=seed)
            for seed in range(1, seeds + 1)  # rows side by side: what a stop leaves has as many seeds each
            for row in self._rows(cpu_s)
            if not only or row.name in only
            if str(seed) not in curves.setdefault(row.name, {})
        ]
        for job, curve, trained in spread(train, jobs, workers):
            log.info("%s, seed %d: %.3f s", job.name, job.seed, lowest(curve))
            curves[job.name][str(job.seed)] = curve
            if job.name not in ABLATIONS or job.setup.told:
                real = self.done["real_s"].setdefault(job.name, {})
                real[str(job.seed)] = real_costs_of(job, trained["weights"])
            self.save()
            if job.name in CHOICES and lowest(curve) == min(map(lowest, curves[job.name].values())):
                save_checkpoint(SHIPPED / f"{job.name}.safetensors", trained["weights"], trained["about"])

    def refer(self) -> None:
        """Play what learns nothing, and ours, unless it was played before."""
        clock, real = self.done.setdefault("references_s", {}), self.done["real_s"]
        for scenario, suffix in ((SCENARIO, ""), (NARROW_SCENARIO, NARROW)):
            if f"{REFERENCES[0]}{suffix}" not in clock:
                costs = reference_costs(load_scenario(scenario))
                clock |= {f"{name}{suffix}": cost for name, cost in costs.items()}
                self.save()
            for name in (*REFERENCES, "learned"):
                if f"{name}{suffix}" not in real:
                    real[f"{name}{suffix}"] = {"-": real_costs(find_scheme(name), scenario)}
                    self.save()

    def _rows(self, cpu_s: float) -> list[Job]:
        """All that is trained, seed 0 of each: learners as tuned, ablations, discounts on narrow links."""
        best = {name: min(tried, key=tried.__getitem__) for name, tried in self.done["tried_s"].items()}
        if best != BEST:
            log.warning("setups.BEST says %s, tuning says %s", BEST, best)
        tuned = {name: CHOICES[name][text] for name, text in best.items()}
        ours = tuned["maasn-da"]
        setups = tuned | {name: ablated(name, ours) for name in ABLATIONS}
        rows = [
            Job(name=name, seed=0, setup=setup, episodes=episodes_in(name, cpu_s))
            for name, setup in setups.items()
        ]
        episodes = episodes_in("maasn-da", cpu_s)
        for discount in DISCOUNTS:
            setup = replace(ours, config=replace(ours.config, discount=discount))
            name = f"maasn-da, discount {discount}{NARROW}"
            rows.append(Job(name=name, seed=0, setup=setup, episodes=episodes, scenario=NARROW_SCENARIO))
        return rows


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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
