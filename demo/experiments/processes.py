r"""What each scheme gains under each request process: one ladder a process, every gain with its interval.

    python -m demo.experiments.processes --worlds 8 --tune-worlds 4
    python -m demo.experiments.processes --scenario v30.toml --catalog vision.npz --radio beamformers

The scenario's own process comes first, then those of other makers (`policy.world.processes`), all with the
same nodes, users, wires and request probability. Schemes that are tuned are tuned for each process on
validation worlds of their own (`--tune-worlds`; 0 plays them as they come); the learned policy is the same
everywhere. A gain is how much lower a cost is than the reference's on the same worlds, with its bootstrap
interval; `bound` is what no policy that does not see the future can fall below (`policy.bounds.causal`).
Writes `results/processes-<scenario>.json` and `.md`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from demo.bridge.beamformed import beamformed_world
from demo.experiments.options import experiment_parser
from demo.experiments.tune import tune
from demo.zoo.cache import cache_root
from policy.evaluation import Evaluation, draw_world, evaluate
from policy.evaluation.oracles import BOUNDS, CAUSAL
from policy.interfaces import BlockCatalog
from policy.kept import write_json
from policy.process_config import PROCESSES, ProcessName
from policy.scenario import Scenario, load_scenario
from policy.world.splits import Split

RESULTS = Path(__file__).parent / "results"
SCHEMES = (
    "static-distinct",
    "know-nothing",
    "rendezvous",
    "ewma-greedy",
    "pooled",
    "planner",
    "planner-fair",
    "learned",
)
REFERENCE = "ewma-greedy"
"""The scheme that gains are told against."""
TUNED = ("ewma-greedy", "pooled", "planner-fair", "rendezvous")
"""Schemes that are tuned for each process."""
TUNING_FIRST = 10_000
"""Number of the first validation world of the tuning: none that is reported."""


def with_process(scenario: Scenario, process: ProcessName) -> Scenario:
    """The scenario with another request process."""
    requests = replace(scenario.config.requests, process=process)
    name = f"{scenario.config.name}-{process}"
    return Scenario(replace(scenario.config, name=name, requests=requests), scenario.catalog)


def play_process(scenario: Scenario, options: argparse.Namespace) -> tuple[Evaluation, dict[str, str]]:
    """The ladder of one process, and the settings that each scheme was played with."""
    named = {scheme: _tuned(scheme, scenario, options) for scheme in options.schemes}
    result = evaluate(
        scenario,
        list(dict.fromkeys(named.values())),
        options.worlds,
        options.seeds,
        split=options.split,
        first_world=options.first_world,
        bound_worlds=options.bound_worlds,
        workers=options.workers,
        make_world=beamformed_world if options.radio == "beamformers" else draw_world,
        folder=cache_root() / "evaluations",
        progress=partial(_tell, scenario.config.name),
        seen=options.seen,
    )
    return result, named


def _tuned(scheme: str, scenario: Scenario, options: argparse.Namespace) -> str:
    """The scheme with the settings that are best for the process, if it is one that is tuned."""
    if scheme not in TUNED or not options.tune_worlds:
        return scheme
    beams = options.radio == "beamformers"
    return next(iter(tune(scheme, scenario, options.tune_worlds, beams, TUNING_FIRST)))


def _tell(name: str, done: int, total: int) -> None:
    if done in (1, total) or done % 8 == 0:
        print(f"{name}: {done}/{total} worlds", file=sys.stderr, flush=True)


def summary(result: Evaluation, named: Mapping[str, str]) -> dict[str, Any]:
    """What is kept of one process: each scheme's row, and the bound beside the best scheme on its worlds."""
    return {
        "schemes": {scheme: _row(result, played, named[REFERENCE]) for scheme, played in named.items()},
        "bound_s": result.bounds[BOUNDS[CAUSAL]],
        "best_on_bound_worlds_s": min(result.on_bound_worlds.values(), default=None),
        "settings": dict(result.settings),
    }


def _row(result: Evaluation, played: str, reference: str) -> dict[str, Any]:
    """Cost, user delay, gain against the reference with its interval, decision time."""
    of_scheme, pair = result.schemes[played], result.paired.get(f"{played}|{reference}")
    return {
        "played": played,
        "cost_s": of_scheme.mean_delay_s,
        "user_delay_s": of_scheme.user_delay_s,
        "decision_ms": of_scheme.decision_ms,
        "gain": None if pair is None else asdict(pair),
    }


def markdown(processes: Mapping[str, dict[str, Any]]) -> str:
    """One table a process."""
    lines: list[str] = []
    for name, process in processes.items():
        lines += [
            f"## {name}\n",
            f"| scheme | cost s | user delay s | below {REFERENCE} | 95 % interval | decision ms |",
            "|---|---|---|---|---|---|",
        ]
        rows = sorted(process["schemes"].values(), key=lambda row: -row["cost_s"])
        lines += [*map(_line, rows), _bound_line(process), ""]
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    less = interval = ""
    if row["gain"] is not None:
        low, high = row["gain"]["ci95"]
        less, interval = f"{row['gain']['reduction']:.1%}", f"{low:.1%} to {high:.1%}"
    cost = f"{row['cost_s']:.3f} | {row['user_delay_s']:.3f}"
    return f"| {row['played']} | {cost} | {less} | {interval} | {row['decision_ms']:.1f} |"


def _bound_line(process: Mapping[str, Any]) -> str:
    bound, best = process["bound_s"], process["best_on_bound_worlds_s"]
    if bound is None or best is None:
        return ""
    return (
        f"\nOn the worlds of the bound the best scheme costs {best:.3f} s; who does not see the future never "
        f"gets below {bound:.3f} s: at most {1 - bound / best:.0%} is left to gain."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Play every process, print and keep the ladders."""
    options = _parser().parse_args(argv)
    options.schemes = list(dict.fromkeys([REFERENCE, *options.schemes]))
    base = load_scenario(options.scenario, BlockCatalog.load(options.catalog) if options.catalog else None)
    done: dict[str, dict[str, Any]] = {}
    for process in options.processes or PROCESSES:
        done[process] = summary(*play_process(with_process(base, process), options))
        print(markdown({process: done[process]}), flush=True)
    stem = options.out / f"processes-{base.config.name}"
    write_json(stem.with_suffix(".json"), {"command": sys.argv[1:], "processes": done})
    head = f"# {base.config.name}: {options.worlds} {options.split} worlds a process\n\n"
    stem.with_suffix(".md").write_text(head + markdown(done), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("processes", nargs="*", choices=[[], *PROCESSES], default=[], metavar="PROCESS")
    parser.add_argument("--scenario", default="findings", help="preset or file (%(default)s)")
    parser.add_argument("--catalog", type=Path, help="a block catalog (.npz)")
    parser.add_argument("--radio", choices=("cheap", "beamformers"), default="cheap")
    parser.add_argument("--schemes", type=lambda text: text.split(","), default=list(SCHEMES))
    parser.add_argument("--split", choices=get_args(Split), default="validation")
    parser.add_argument("--seen", action="store_true", help="play held-out worlds again")
    numbers = {"worlds": 16, "tune-worlds": 4, "bound-worlds": 4, "seeds": 1, "first-world": 0, "workers": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
