"""What is left to win in the ten settings: planners that are told more, beside ours, on the same worlds.

    python -m demo.experiments.what_is_left --worlds 4 --first-world 72

`told:distribution` knows the true chances of all requests and how users move, `told:future` the coming slots
(`policy.bounds.told_distribution`); both decide as `learned` does. `planner-clock` is the same planner with
nothing trained. What `demo.experiments.settings_ten` has played is taken from where it keeps its episodes, so
run that first: this refuses held-out worlds that are not on record. Each world is kept as it is done, under a
hash of the code; the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from demo.experiments.options import experiment_parser
from demo.experiments.settings_ten import OURS, RESULTS, UNTRAINED, Table
from demo.experiments.ten_settings import SETTINGS
from policy.bounds.told_distribution import Told, told_entry
from policy.evaluation.closure import closure_of
from policy.evaluation.results import scenario_digest
from policy.evaluation.statistics import bootstrap, paired
from policy.kept import write_json
from policy.play.rollout import rollout
from policy.world.looks import past_looks
from policy.world.splits import Split, world_seed

KNOWN = ("pooled", UNTRAINED, OURS)
"""Played without being told anything."""
PAIRS = (
    (OURS, "pooled"),
    (OURS, UNTRAINED),
    ("told:distribution", OURS),
    ("told:future", OURS),
)
"""Who is how much below whom."""


@dataclass(slots=True)
class Kept:
    """Rows done so far: by setting, then by world, the delay of each scheme, s."""

    path: Path
    code: str
    rows: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, split: Split) -> "Kept":
        """What a file has of the same code and split, else nothing."""
        code = f"{split} {closure_of(['demo.experiments.what_is_left']).digest[:16]}"
        if path.is_file():
            old = json.loads(path.read_text(encoding="utf-8"))
            if old.get("code") == code:
                return cls(path, code, old["rows"])
        return cls(path, code)

    def add(self, setting: str, world: int, row: dict[str, float]) -> None:
        """Keep one more world."""
        self.rows.setdefault(setting, {})[str(world)] = row
        write_json(self.path, {"code": self.code, "rows": self.rows, "summary": summary(self.rows)})
        self.path.with_suffix(".md").write_text(markdown(self.rows), encoding="utf-8")


def play(table: Table, split: Split, number: int) -> dict[str, float]:
    """Mean user delay of all on one world, s."""
    told = table.play(KNOWN, 1, split, number).schemes
    row = {name: told[name].mean_delay_s for name in KNOWN}
    world = table.setting.make_world()(table.scenario, world_seed(split, number))
    for knowledge in get_args(Told):
        entry = told_entry(world, knowledge)
        row[entry.name] = rollout(world, entry, np.random.default_rng(0)).mean_cost_s
    return {name: round(delay, 6) for name, delay in row.items()}


def summary(rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """By setting: mean delays, and how much lower one is than another, with its 95 % interval."""
    told: dict[str, Any] = {}
    for setting, worlds in rows.items():
        costs = {
            name: np.array([[row[name]] for row in worlds.values()]) for name in next(iter(worlds.values()))
        }
        draws = bootstrap(np.random.default_rng(0), len(worlds), 1)
        told[setting] = {
            "worlds": len(worlds),
            "delay_s": {name: float(cost.mean()) for name, cost in costs.items()},
            "below": {f"{a}|{b}": asdict(paired(costs[a], costs[b], draws)) for a, b in PAIRS},
        }
    return told


def markdown(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """One row a setting."""
    names = (*KNOWN, "told:distribution", "told:future")
    lines = [
        "# What is left to win\n",
        "Mean user delay, s, and how much lower one is than the other, with its 95 % bootstrap interval.\n",
        "| setting | worlds | "
        + " | ".join(names)
        + " | "
        + " | ".join(f"{a} below {b}" for a, b in PAIRS)
        + " |",
        "|---|---|" + "---|" * (len(names) + len(PAIRS)),
    ]
    for setting, one in summary(rows).items():
        cells = [setting, str(one["worlds"]), *(f"{one['delay_s'][name]:.3f}" for name in names)]
        for a, b in PAIRS:
            least = one["below"][f"{a}|{b}"]
            low, high = least["ci95"]
            cells.append(f"{100 * least['reduction']:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Play the worlds that are missing, world by world, and print the table."""
    options = _parser().parse_args(argv)
    tables = [
        Table(setting=setting, scenario=setting.scenario())
        for setting in SETTINGS
        if setting.name in (options.settings or [each.name for each in SETTINGS])
    ]
    kept = Kept.at((options.out / options.name).with_suffix(".json"), options.split)
    for number in range(options.first_world, options.first_world + options.worlds):
        for table in tables:
            if options.split == "held-out":
                _check_recorded(table, number)
            if str(number) not in kept.rows.get(table.setting.name, {}):
                kept.add(table.setting.name, number, play(table, options.split, number))
                print(table.setting.name, number, file=sys.stderr, flush=True)
    print(markdown(kept.rows))
    return 0


def _check_recorded(table: Table, number: int) -> None:
    if not past_looks("held-out", number, 1, scenario_digest(table.scenario)):
        where = f"held-out world {number} of {table.setting.name}"
        raise ValueError(f"{where} is not on record: play demo.experiments.settings_ten first")


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("--name", default="what-is-left", help="of the files (%(default)s)")
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all ten")
    parser.add_argument("--split", choices=get_args(Split), default="held-out")
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--first-world", type=int, default=72)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
