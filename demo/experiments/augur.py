r"""The published comparison of Augur with a fairly tuned EWMA-greedy, in one setting and in shifted ones.

    python -m demo.experiments.augur --split test --worlds 128 --seeds 10 \
        --out demo/experiments/results/augur.json

EWMA-greedy is tuned for every scenario apart, on validation worlds; Augur is the same everywhere. Costs are
looked up in delay tables, which for additive timing is exact. An interrupted comparison goes on from what
its output file holds.
"""

import argparse
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from demo.experiments.shifted import shifted_scenarios
from policy.evaluation.closure import closure_of
from policy.evaluation.lookup import Played, ewma_settings, play_by_tables, tuning_cost_s
from policy.evaluation.oracles import PLANNER, bound_cost_s
from policy.evaluation.sources import code_version
from policy.evaluation.statistics import bootstrap, iqm, paired
from policy.interfaces import Float
from policy.kept import Unfinished
from policy.learn.checkpoint import versions
from policy.parallel import spread
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.schemes.learned import start_with
from policy.world.splits import Split, world_seed

log = logging.getLogger(__name__)

MAIN = "findings"
"""The scenario with all worlds and seeds and with the planner's bound; others get fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One world of one scenario."""

    scenario: str
    world: int
    seeds: int
    ewma: str
    """Setting of EWMA-greedy tuned for the scenario."""
    plain: str
    """The same of the plain one."""
    planner: bool
    """Whether the planner with true dynamics plays, too."""
    weights: tuple[Path, ...]
    """Checkpoints of Augur, used in turn by its seeds; empty: the shipped one."""


@cache
def scenario_of(name: str) -> Scenario:
    """One of `shifted_scenarios`, made once a process."""
    return shifted_scenarios()[name]


def learned_entry(weights: Path | None) -> SchemeEntry:
    """Augur with the weights of a checkpoint; None: the shipped ones."""
    entry = find_scheme("learned")
    return entry if weights is None else replace(entry, start=partial(start_with, weights))


def play_part(part: Part) -> dict[str, Any]:
    """Play all that is compared on one world; costs in seconds per slot."""
    scenario = scenario_of(part.scenario)
    world = scenario.world(part.world)
    weights = part.weights or (None,)

    def played(entry: SchemeEntry, seed: int) -> Played:
        return play_by_tables(world, entry, np.random.default_rng([part.world, seed]))

    ours = [played(learned_entry(weights[seed % len(weights)]), seed) for seed in range(part.seeds)]
    result: dict[str, Any] = {
        "scenario": part.scenario,
        "world": part.world,
        "learned_s": [round(item.cost_s, 6) for item in ours],
        "ewma_s": round(played(find_scheme(part.ewma), 0).cost_s, 6),
        "plain_s": round(played(find_scheme(part.plain), 0).cost_s, 6),
        "decision_cpu_ms": round(1e3 * float(np.median([item.decision_s for item in ours])), 3),
    }
    if part.planner:
        rng = np.random.default_rng([part.world, 1])
        result["planner_s"] = round(bound_cost_s(world, PLANNER, rng), 6)
    return result


def try_setting(item: tuple[str, str]) -> tuple[str, str, float]:
    """Scenario and setting of EWMA-greedy, and its cost on the tuning worlds, s."""
    return *item, tuning_cost_s(scenario_of(item[0]), item[1])


def summary(rows: Sequence[dict[str, Any]], tunings: dict[str, str], weights: int) -> dict[str, Any]:
    """Statistics of the worlds of one scenario.

    Args:
        rows: What `play_part` made of each world.
        tunings: Settings chosen for EWMA-greedy.
        weights: Training seeds of Augur.
    """
    ours, theirs, before = _columns(rows, "learned_s"), _columns(rows, "ewma_s"), _columns(rows, "plain_s")
    draws = bootstrap(np.random.default_rng(0), *ours.shape)
    by_weights = [float(ours[:, first::weights].mean()) for first in range(min(weights, ours.shape[1]))]
    summary_of: dict[str, Any] = {
        "ewma": tunings["ewma"],
        "ewma_s": float(theirs.mean()),
        "learned_s": float(ours.mean()),
        "learned_s_by_training_seed": by_weights,
        "ewma_iqm_s": iqm(theirs),
        "learned_iqm_s": iqm(ours),
        "reduction": asdict(paired(ours, theirs, draws)),
        "decision_cpu_ms": float(np.median([row["decision_cpu_ms"] for row in rows])),
        "plain_ewma": tunings["plain"],
        "plain_ewma_s": float(before.mean()),
        "plain_reduction": asdict(paired(ours, before, draws)),
    }
    bounded = [row for row in rows if "planner_s" in row]
    if bounded:
        bound = _columns(bounded, "planner_s")
        part = bootstrap(np.random.default_rng(0), len(bounded), ours.shape[1])
        above = asdict(paired(_columns(bounded, "learned_s"), bound, part))
        above["reduction"] *= -1  # how much dearer than the planner
        above["ci95"] = [-x for x in reversed(above["ci95"])]
        summary_of |= {"planner_s": float(bound.mean()), "above_planner": above}
    return summary_of


def _columns(rows: Sequence[dict[str, Any]], key: str) -> Float:
    """One row a world, one column a seed."""
    return np.array([np.atleast_1d(row[key]) for row in rows], dtype=np.float64)


class Comparison(Unfinished):
    """The output file: what it depends on, tuned baselines, finished scenarios, worlds of the others."""

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        super().__init__(path, made_by)
        for key in ("tried_s", "scenarios", "worlds"):
            self.done.setdefault(key, {})

    def tune(self, names: Sequence[str], workers: int) -> None:
        """Try all settings of EWMA-greedy in scenarios where that was not done."""
        tried = self.done["tried_s"]
        settings = [*ewma_settings(), *ewma_settings(plain=True)]
        wanted = [(n, s) for n in names for s in settings if s not in tried.setdefault(n, {})]
        for name, setting, cost_s in spread(try_setting, wanted, workers):
            tried[name][setting] = cost_s
        self.save()

    def chosen(self, name: str) -> dict[str, str]:
        """Best settings of EWMA-greedy in a scenario."""
        cost = self.done["tried_s"][name].__getitem__
        return {
            "ewma": min(ewma_settings(), key=cost),
            "plain": min(ewma_settings(plain=True), key=cost),
        }

    def play(self, parts: Sequence[Part], workers: int, ray: bool) -> None:
        """Play what is missing; a scenario whose worlds are all there is summed up, and its worlds go."""
        worlds = self.done["worlds"]
        missing = [p for p in parts if str(p.world) not in worlds.setdefault(p.scenario, {})]
        wanted = {name: [p for p in parts if p.scenario == name] for name in worlds}
        log.info("%d of %d worlds to play", len(missing), len(parts))
        for row in spread(play_part, missing, workers, ray):
            name = row["scenario"]
            worlds[name][str(row["world"])] = row
            if len(worlds[name]) == len(wanted[name]):
                first = wanted[name][0]
                rows = [worlds[name][str(part.world)] for part in wanted[name]]
                self.done["scenarios"][name] = summary(rows, self.chosen(name), max(len(first.weights), 1))
                del worlds[name]
                log.info("%s: %s", name, self.done["scenarios"][name]["reduction"])
            self.save(now=name not in worlds)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare in all scenarios; what is finished is found in the output file and skipped."""
    options = _parser().parse_args(argv)
    settings = {
        "split": options.split,
        "versions": versions(),
        "worlds": [options.worlds, options.shifted_worlds, options.bound_worlds],
        "seeds": [options.seeds, options.shifted_seeds],
        "weights": [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in options.weights],
        "code": {name: code_version(name) for name in ("learned", "ewma-greedy")},
        "own_code": closure_of(["demo.experiments.augur"]).digest[:16],
    }
    comparison = Comparison(options.out, settings)
    order = options.only or [MAIN, *(name for name in shifted_scenarios() if name != MAIN)]
    names = [name for name in order if name not in comparison.done["scenarios"]]
    try:
        comparison.tune(names, options.workers)
        parts = [part for name in names for part in _parts(name, options, comparison)]
        comparison.play(parts, options.workers, options.ray)
    finally:
        comparison.save()
    options.out.with_suffix(".md").write_text(markdown(comparison.done), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--split", choices=get_args(Split), default="validation")
    parser.add_argument("--worlds", type=int, default=16, help="of the main scenario")
    parser.add_argument("--seeds", type=int, default=1, help="of the main scenario")
    parser.add_argument("--shifted-worlds", type=int, default=64)
    parser.add_argument("--shifted-seeds", type=int, default=2)
    parser.add_argument("--bound-worlds", type=int, default=24)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument(
        "--weights", type=Path, nargs="*", default=[], help="checkpoints, used in turn by seeds"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _parts(name: str, options: argparse.Namespace, comparison: Comparison) -> list[Part]:
    main_one, chosen = name == MAIN, comparison.chosen(name)
    return [
        Part(
            scenario=name,
            world=world_seed(options.split, place),
            seeds=options.seeds if main_one else options.shifted_seeds,
            planner=main_one and place < options.bound_worlds,
            weights=tuple(options.weights),
            **chosen,
        )
        for place in range(options.worlds if main_one else options.shifted_worlds)
    ]


def markdown(done: dict[str, Any]) -> str:
    """The comparison as a table."""
    lines = [
        "| scenario | EWMA s | Augur s | less | 95 % interval | better in | than plain | worlds x seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in done["scenarios"].items():
        less = row["reduction"]
        low, high = less["ci95"]
        lines.append(
            f"| {name} | {row['ewma_s']:.2f} | {row['learned_s']:.2f} | {less['reduction']:.1%} "
            f"| {low:.1%} to {high:.1%} | {less['improvement_probability']:.0%} "
            f"| {row['plain_reduction']['reduction']:.1%} | {less['worlds']} x {less['seeds']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
