"""Ours beside all that are not told the future, in ten settings on the real chain, on held-out worlds.

    python -m demo.experiments.settings_ten --worlds 64 --training-seeds 3 --first-world p1=160,others=148

Real beams, pipelined slots, mean user delay. A few worlds of every setting in turn, so that a run that is
stopped has played the same worlds everywhere. All worlds asked for are put on record at the start
(`policy.world.looks`); with `--seen` the same command goes on (finished episodes are kept under a hash of the
code that made them). Settings may be played by several commands: one over all of them with `--seen` then
writes the one table, from what is kept. EWMA-greedy is tuned in each setting on validation worlds; ours has
the same weights in all. With several training seeds ours is their mean: `learned` is seed 0, as shipped,
the others come from files, see `demo.experiments.training_seeds`. Writes `results/settings-ten.json` and
`.md` after every step; what they say together is in `demo.experiments.settings_verdict`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np

from demo.experiments.by_setting import at_least_one, by_setting, settings_chosen
from demo.experiments.options import experiment_parser
from demo.experiments.settings_verdict import verdict, verdict_lines
from demo.experiments.ten_settings import SETTINGS, Setting
from demo.experiments.training_seeds import OURS, digests, seed_entries, seeds_in
from demo.zoo.cache import cache_root
from policy.evaluation import Evaluation, evaluate
from policy.evaluation.results import scenario_digest
from policy.evaluation.statistics import bootstrap, paired
from policy.kept import replace_text, write_json
from policy.learn.checkpoint import CheckpointError
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario
from policy.world.looks import Look, LookedAtError, check_unseen, record_look
from policy.world.splits import Split

RESULTS = Path(__file__).parent / "results"
UNTRAINED = "planner-clock"
"""The same planner with nothing trained: beside the others, not one of them."""
RIVALS = (
    "rendezvous",
    "static-distinct",
    "know-nothing",
    "ewma-greedy",
    "ewma-local",
    "pooled",
    "planner-fair",
)
EWMA_GRID = (
    "ewma-greedy",
    "ewma-greedy:weight=0.2;update=0.5",
    "ewma-greedy:weight=0.05;update=0.5",
    "ewma-greedy:weight=0.1;update=0.75;prior=2",
)
"""EWMA-greedy as it comes, and settings that won elsewhere."""
TUNING_FIRST = 20_000
"""Number of the first validation world of the tuning: none that anything else was tried on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One setting with its scenario, and what is played there."""

    setting: Setting
    scenario: Scenario
    names: tuple[str, ...] = ()
    seeds: tuple[SchemeEntry, ...] = ()
    """Ours of other training seeds, named among `names`."""
    workers: int = 1
    """Processes."""

    def play(self, names: Sequence[str], worlds: int, split: Split, first: int) -> Evaluation:
        """Some schemes on its worlds; who may look is settled before, see `put_on_record`."""
        own = {entry.name: entry for entry in self.seeds}
        with TemporaryDirectory() as scratch:
            return evaluate(
                self.scenario,
                [own.get(name, name) for name in names],
                worlds,
                split=split,
                first_world=first,
                bound_worlds=0,
                workers=self.workers,
                make_world=self.setting.make_world(),
                folder=cache_root() / "evaluations",
                seen=True,
                looks=Path(scratch) / "looks.json",
            )


def put_on_record(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """Refuse held-out worlds that were looked at, and record the look; `--seen` plays them and adds nothing.

    Raises:
        LookedAtError: If a look at any of the worlds is on record; with `--seen`, if one is not on record.
    """
    if options.split != "held-out":
        return
    for table in tables:
        name, digest = table.setting.name, scenario_digest(table.scenario)
        first, worlds = options.first_world.of(name), options.worlds.of(name)
        if not options.seen:
            check_unseen(options.split, first, worlds, digest)
            continue
        fresh = [n for n in range(first, first + worlds) if not _looked_at(options.split, n, digest)]
        if fresh:
            raise LookedAtError(f"world {fresh[0]} of {name} is not on record: leave --seen out")
    for table in tables if not options.seen else ():
        name = table.setting.name
        look = Look(
            split=options.split,
            first_world=options.first_world.of(name),
            worlds=options.worlds.of(name),
            scenario=name,
            scenario_sha256=scenario_digest(table.scenario),
            when=datetime.now(UTC).date().isoformat(),
            what=f"demo.experiments.settings_ten: {', '.join(table.names)}",
        )
        record_look(look)


def _looked_at(split: Split, number: int, digest: str) -> bool:
    try:
        check_unseen(split, number, 1, digest)
    except LookedAtError:
        return True
    return False


def tuned_ewma(table: Table, worlds: int) -> str:
    """The EWMA-greedy that is best on validation worlds of the setting; as it comes if there are none."""
    if not worlds:
        return EWMA_GRID[0]
    schemes = table.play(EWMA_GRID, worlds, "validation", TUNING_FIRST).schemes
    best: str = min(schemes, key=lambda name: schemes[name].mean_delay_s)
    return best


def summary(table: Table, result: Evaluation) -> dict[str, Any]:
    """What is kept of a setting: every scheme, and how far ours is below each, with its interval."""
    seeds = seeds_in(list(result.schemes))
    ours = np.concatenate([result.costs[name] for name in seeds], axis=1)
    draws = bootstrap(np.random.default_rng(0), *ours.shape)
    rows: dict[str, dict[str, Any]] = {
        name: {
            "delay_s": row.mean_delay_s,
            "user_delay_s": row.user_delay_s,
            "p95_s": row.p95_delay_s,
            "hit_ratio": row.hit_ratio,
            "decision_ms": row.decision_ms,
            "message_bytes": row.message_bytes,
            "ours_below": None if name in seeds else asdict(paired(ours, result.costs[name], draws)),
            "costs_s": result.costs[name][:, 0].round(6).tolist(),
        }
        for name, row in result.schemes.items()
    }
    scenario, means = table.scenario, ours.mean(axis=0)
    rivals = [name for name in rows if name not in (*seeds, UNTRAINED)]
    return {
        "about": table.setting.about,
        "room_of_all": float(scenario.capacity_bytes.sum() / scenario.catalog.dedup_bytes),
        "first_world": result.settings["first_world"],
        "worlds": result.settings["worlds"],
        "rivals": rivals,
        "best_rival": min(rivals, key=lambda name: rows[name]["delay_s"]),
        "seeds": seeds,
        "ours": {"delay_s": float(means.mean()), "least_s": float(means.min()), "most_s": float(means.max())},
        "schemes": rows,
        "code_sha256": result.settings["code_sha256"],
    }


def markdown(done: Mapping[str, Mapping[str, Any]], worlds: int, split: str) -> str:
    """One row a setting, what is asked, then one column a setting."""
    head = [*("setting", "worlds", "room of all nodes", "best rival", "s", "ours, s", "seeds")]
    head += ["below", "interval", "below untrained"]
    lines = [
        f"# Ten settings, real chain, {worlds} {split} worlds each\n",
        "Mean user delay, s; `below`: how much lower ours is, with its 95 % bootstrap interval over worlds",
        "and training seeds. Ours is the mean over its seeds; `seeds`: lowest and highest mean of one.\n",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for name, one in done.items():
        rows, best, ours = one["schemes"], one["best_rival"], one["ours"]
        least = rows[best]["ours_below"]
        low, high = (_percent(value) for value in least["ci95"])
        cells = [
            f"{name}: {one['about']}",
            f"{one['first_world']} to {one['first_world'] + one['worlds'] - 1}",
            f"{one['room_of_all']:.0%}",
            best,
            f"{rows[best]['delay_s']:.3f}",
            f"{ours['delay_s']:.3f}",
            f"{ours['least_s']:.3f} to {ours['most_s']:.3f}",
            _percent(least["reduction"]),
            f"{low} to {high}",
            _percent(rows[UNTRAINED]["ours_below"]["reduction"]) if UNTRAINED in rows else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *verdict_lines(verdict(done))]
    schemes = list(dict.fromkeys(scheme for one in done.values() for scheme in one["schemes"]))
    families = list(dict.fromkeys(scheme.partition(":")[0] for scheme in schemes))
    lines += ["", "| s | " + " | ".join(done) + " |", "|---|" + "---|" * len(done)]
    for family in families:
        cells = [_cell(one["schemes"], family) for one in done.values()]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(rows: Mapping[str, Any], family: str) -> str:
    rows_of = [row for name, row in rows.items() if name.partition(":")[0] == family]
    return f"{rows_of[0]['delay_s']:.3f}" if rows_of else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def main(argv: Sequence[str] | None = None) -> int:
    """Play step by step, print and keep."""
    parser = _parser()
    options = parser.parse_args(argv)
    chosen = settings_chosen(parser, options, SETTINGS)
    try:
        seeds = seed_entries(options.weights, options.training_seeds)
        tables = [tuned_table(setting, seeds, options) for setting in chosen]
        put_on_record(tables, options)
    except (CheckpointError, LookedAtError) as error:
        print(f"settings_ten: {error}", file=sys.stderr)
        return 2
    stem = options.out / options.name
    for count in counts(options.step, max(options.worlds.of(setting.name) for setting in chosen)):
        done = {table.setting.name: played(table, count, options) for table in tables}
        document = {
            "worlds": count,
            "split": options.split,
            "weights_sha256": digests(options.weights, options.training_seeds),
            "asked": asdict(verdict(done)),
            "settings": done,
        }
        write_json(stem.with_suffix(".json"), document)
        replace_text(stem.with_suffix(".md"), markdown(done, count, options.split))
        print(f"{count} worlds", file=sys.stderr, flush=True)
    print(stem.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


def counts(step: int, worlds: int) -> list[int]:
    """After how many worlds the table is written; the last time after all of them."""
    return [*range(step, worlds, step), worlds]


def tuned_table(setting: Setting, seeds: tuple[SchemeEntry, ...], options: argparse.Namespace) -> Table:
    """A setting with all that play there, EWMA-greedy tuned."""
    table = Table(setting=setting, scenario=setting.scenario(), seeds=seeds, workers=options.workers)
    tuned = tuned_ewma(table, options.tune_worlds)
    print(f"{setting.name}: {tuned}", file=sys.stderr, flush=True)
    names = [tuned if name == EWMA_GRID[0] else name for name in options.schemes]
    return replace(table, names=(*names, UNTRAINED, OURS, *(entry.name for entry in seeds)))


def played(table: Table, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a setting after `count` worlds, or all that it has."""
    name = table.setting.name
    worlds = min(count, options.worlds.of(name))
    result = table.play(table.names, worlds, options.split, options.first_world.of(name))
    print(f"{name}: {worlds} worlds", file=sys.stderr, flush=True)
    return summary(table, result)


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("--name", default="settings-ten", help="of the files (%(default)s)")
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all ten")
    parser.add_argument("--schemes", type=lambda text: text.split(","), default=list(RIVALS))
    parser.add_argument("--split", choices=get_args(Split), default="held-out")
    parser.add_argument(
        "--seen", action="store_true", help="the worlds are on record: go on with a run, or play it again"
    )
    for name, default in {"worlds": "64", "first-world": "0"}.items():
        text = "a number, or name=number,...,others=number (%(default)s)"
        parser.add_argument(f"--{name}", type=by_setting, default=default, help=text)
    for name, number in {"step": 2, "workers": 1, "training-seeds": 1}.items():
        parser.add_argument(f"--{name}", type=at_least_one, default=number)
    parser.add_argument("--tune-worlds", type=int, default=2)
    parser.add_argument(
        "--weights", type=Path, default=RESULTS, help="folder with the weights of further training seeds"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
