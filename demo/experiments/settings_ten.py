"""Ours beside all that are not told the future, in ten settings on the real chain, on held-out worlds.

    python -m demo.experiments.settings_ten --worlds 64

Real beams, pipelined slots, mean user delay. A few worlds of every setting in turn, so that a run that is
stopped has played the same worlds everywhere. All worlds asked for are put on record at the start
(`policy.world.looks`); with `--seen` the same command goes on (finished episodes are kept under a hash of the
code that made them). EWMA-greedy is tuned in each setting on validation worlds; `learned`
has one set of weights. Writes `results/settings-ten.json` and `.md` after every step.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from demo.experiments.options import experiment_parser
from demo.experiments.ten_settings import SETTINGS, Setting
from demo.zoo.cache import cache_root
from policy.evaluation import Evaluation, evaluate
from policy.evaluation.results import scenario_digest
from policy.kept import write_json
from policy.scenario import Scenario
from policy.world.looks import Look, check_unseen, record_look
from policy.world.splits import Split

RESULTS = Path(__file__).parent / "results"
OURS = "learned"
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

    def play(self, names: Sequence[str], worlds: int, split: Split, first: int) -> Evaluation:
        """Some schemes on its worlds; who may look is settled before, see `put_on_record`."""
        with TemporaryDirectory() as scratch:
            return evaluate(
                self.scenario,
                list(names),
                worlds,
                split=split,
                first_world=first,
                bound_worlds=0,
                make_world=self.setting.make_world(),
                folder=cache_root() / "evaluations",
                seen=True,
                looks=Path(scratch) / "looks.json",
            )


def put_on_record(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """Refuse held-out worlds that were looked at, and record the look; `--seen` plays them and adds nothing.

    Raises:
        LookedAtError: If a look at any of the worlds is on record.
    """
    if options.split != "held-out" or options.seen:
        return
    digests = [scenario_digest(table.scenario) for table in tables]
    for digest in digests:
        check_unseen(options.split, options.first_world, options.worlds, digest)
    for table, digest in zip(tables, digests, strict=True):
        look = Look(
            split=options.split,
            first_world=options.first_world,
            worlds=options.worlds,
            scenario=table.setting.name,
            scenario_sha256=digest,
            when=datetime.now(UTC).date().isoformat(),
            what=f"demo.experiments.settings_ten: {', '.join(table.names)}",
        )
        record_look(look)


def tuned_ewma(table: Table, worlds: int) -> str:
    """The EWMA-greedy that is best on validation worlds of the setting; as it comes if there are none."""
    if not worlds:
        return EWMA_GRID[0]
    schemes = table.play(EWMA_GRID, worlds, "validation", TUNING_FIRST).schemes
    best: str = min(schemes, key=lambda name: schemes[name].mean_delay_s)
    return best


def summary(table: Table, result: Evaluation) -> dict[str, Any]:
    """What is kept of a setting: every scheme, and how far ours is below each, with its interval."""
    rows: dict[str, dict[str, Any]] = {
        name: {
            "delay_s": row.mean_delay_s,
            "user_delay_s": row.user_delay_s,
            "p95_s": row.p95_delay_s,
            "hit_ratio": row.hit_ratio,
            "decision_ms": row.decision_ms,
            "message_bytes": row.message_bytes,
            "ours_below": None if name == OURS else asdict(result.paired[f"{OURS}|{name}"]),
        }
        for name, row in result.schemes.items()
    }
    scenario = table.scenario
    room = float(scenario.capacity_bytes.sum() / scenario.catalog.dedup_bytes)
    best = min((name for name in rows if name not in (OURS, UNTRAINED)), key=lambda n: rows[n]["delay_s"])
    return {"about": table.setting.about, "room_of_all": room, "best_rival": best, "schemes": rows}


def markdown(done: Mapping[str, Mapping[str, Any]], worlds: int, split: str) -> str:
    """One row a setting, then one table a setting."""
    lines = [
        f"# Ten settings, real chain, {worlds} {split} worlds each\n",
        "Mean user delay, s; `below`: how much lower ours is, with its 95 % bootstrap interval.\n",
        "| setting | room of all nodes | best rival | s | ours, s | below | interval | below untrained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in done.items():
        rows, best = one["schemes"], one["best_rival"]
        least = rows[best]["ours_below"]
        bare = _percent(rows[UNTRAINED]["ours_below"]["reduction"]) if UNTRAINED in rows else ""
        low, high = (_percent(value) for value in least["ci95"])
        lines.append(
            f"| {name}: {one['about']} | {one['room_of_all']:.0%} | {best} | {rows[best]['delay_s']:.3f} | "
            f"{rows[OURS]['delay_s']:.3f} | {_percent(least['reduction'])} | {low} to {high} | {bare} |"
        )
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
    options = _parser().parse_args(argv)
    tables = []
    for setting in SETTINGS:
        if setting.name in (options.settings or [setting.name]):
            table = Table(setting=setting, scenario=setting.scenario())
            tuned = tuned_ewma(table, options.tune_worlds)
            names = [tuned if name == EWMA_GRID[0] else name for name in options.schemes]
            tables.append(replace(table, names=(*names, UNTRAINED, OURS)))
            print(f"{setting.name}: {tuned}", file=sys.stderr, flush=True)
    put_on_record(tables, options)
    stem, played = options.out / options.name, options.split
    for count in range(options.step, options.worlds + 1, options.step):
        results = [table.play(table.names, count, played, options.first_world) for table in tables]
        done = {
            table.setting.name: summary(table, result) for table, result in zip(tables, results, strict=True)
        }
        write_json(stem.with_suffix(".json"), {"worlds": count, "split": played, "settings": done})
        stem.with_suffix(".md").write_text(markdown(done, count, played), encoding="utf-8")
        print(f"{count} worlds", file=sys.stderr, flush=True)
    print(stem.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("--name", default="settings-ten", help="of the files (%(default)s)")
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all ten")
    parser.add_argument("--schemes", type=lambda text: text.split(","), default=list(RIVALS))
    parser.add_argument("--split", choices=get_args(Split), default="held-out")
    parser.add_argument(
        "--seen", action="store_true", help="the worlds are on record: go on with a run, or play it again"
    )
    numbers = {"worlds": 64, "step": 2, "first-world": 0, "tune-worlds": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
