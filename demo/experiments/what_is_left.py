"""What is left to win in the ten settings: planners that are told more, beside ours, on the same worlds.

    python -m demo.experiments.what_is_left --worlds 4 --first-world p1=160,others=148

`told:distribution` knows the true chances of all requests and how users move, `told:future` the coming slots
(`policy.bounds.told_distribution`); both decide as `learned` does. `planner-clock` is the same planner with
nothing trained. What `demo.experiments.settings_ten` has played is taken from where it keeps its episodes, so
run that first: this refuses held-out worlds that are not on record. Each world is kept as it is done, under a
hash of code and weights; the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from demo.experiments.by_setting import at_least_one, by_setting, settings_chosen
from demo.experiments.options import experiment_parser
from demo.experiments.settings_ten import RESULTS, UNTRAINED, Table
from demo.experiments.ten_settings import SETTINGS
from demo.experiments.training_seeds import OURS
from policy.bounds.told_distribution import Told, told_entry
from policy.evaluation.closure import closure_of
from policy.evaluation.results import scenario_digest
from policy.evaluation.sources import code_version
from policy.evaluation.statistics import bootstrap, paired
from policy.kept import replace_text, write_json
from policy.parallel import spread
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
        """What a file has of the same code, weights and split, else nothing."""
        own, weights = closure_of(["demo.experiments.what_is_left"]).digest, code_version(OURS)
        code = f"{split} {own[:16]} {str(weights)[:16]}"
        if path.is_file():
            old = json.loads(path.read_text(encoding="utf-8"))
            if old.get("code") == code:
                return cls(path, code, old["rows"])
            print(f"{path} is of other code, weights or split: played anew", file=sys.stderr)
        return cls(path, code)

    def add(self, setting: str, world: int, row: dict[str, float]) -> None:
        """Keep one more world; settings and worlds stay in order, whoever is done first."""
        self.rows.setdefault(setting, {})[str(world)] = row
        order = [each.name for each in SETTINGS]
        self.rows = {
            name: dict(sorted(self.rows[name].items(), key=lambda item: int(item[0])))
            for name in sorted(self.rows, key=order.index)
        }
        write_json(self.path, {"code": self.code, "rows": self.rows, "summary": summary(self.rows)})
        replace_text(self.path.with_suffix(".md"), markdown(self.rows))


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
    """Play the worlds that are missing, the first of every setting first, and print the table."""
    parser = _parser()
    options = parser.parse_args(argv)
    tables = [
        Table(setting=setting, scenario=setting.scenario())
        for setting in settings_chosen(parser, options, SETTINGS)
    ]
    wanted = [(table, number) for table in tables for number in _numbers(table, options)]
    if options.split == "held-out":
        for table, number in wanted:
            _check_recorded(table, number)
    kept = Kept.at((options.out / options.name).with_suffix(".json"), options.split)
    items = [
        (table, options.split, number)
        for table, number in sorted(wanted, key=lambda pair: pair[1] - options.first_world.of(_name(pair[0])))
        if str(number) not in kept.rows.get(_name(table), {})
    ]
    for name, number, row in spread(_play_item, items, options.workers):
        kept.add(name, number, row)
        print(name, number, file=sys.stderr, flush=True)
    print(markdown(kept.rows))
    return 0


def _play_item(item: tuple[Table, Split, int]) -> tuple[str, int, dict[str, float]]:
    table, split, number = item
    return _name(table), number, play(table, split, number)


def _name(table: Table) -> str:
    return table.setting.name


def _numbers(table: Table, options: argparse.Namespace) -> range:
    """The worlds of a setting that are asked for."""
    first: int = options.first_world.of(_name(table))
    return range(first, first + options.worlds.of(_name(table)))


def _check_recorded(table: Table, number: int) -> None:
    if not past_looks("held-out", number, 1, scenario_digest(table.scenario)):
        where = f"held-out world {number} of {table.setting.name}"
        raise ValueError(f"{where} is not on record: play demo.experiments.settings_ten first")


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("--name", default="what-is-left", help="of the files (%(default)s)")
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all ten")
    parser.add_argument("--split", choices=get_args(Split), default="held-out")
    for name, default in {"worlds": "4", "first-world": "72"}.items():
        text = "a number, or name=number,...,others=number (%(default)s)"
        parser.add_argument(f"--{name}", type=by_setting, default=default, help=text)
    parser.add_argument("--workers", type=at_least_one, default=1, help="processes (%(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
