r"""What Augur's planner would gain if it were told more, where updates are dear: an informed reference.

    python -m demo.experiments.worth_of_knowledge --worlds 256 --workers 2 \
        --out demo/experiments/results/gap.json

On the same worlds play EWMA-greedy as tuned for the scenario (read from the published comparison), Augur, and
Augur's planner told the request process, the state of demand, and the whole hidden state
(`policy.bounds.informed`). `bound` is `policy.bounds.unforeseen_bound`. An interrupted run goes on from what
its output file holds.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from demo.experiments.augur import Comparison, scenario_of
from policy.batched import batch_worlds
from policy.bounds import unforeseen_bound
from policy.bounds.informed import Knowledge, informed_entry
from policy.evaluation.closure import closure_of
from policy.evaluation.lookup import play_by_tables
from policy.evaluation.sources import code_version
from policy.evaluation.statistics import bootstrap, mean_interval, paired
from policy.interfaces import Float
from policy.learn.checkpoint import versions
from policy.parallel import spread
from policy.schemes import find_scheme
from policy.world.splits import world_seed

log = logging.getLogger(__name__)

COMPARED = Path(__file__).parent / "results" / "augur.json"
"""The published comparison, see `demo.experiments.augur`."""
EARLY = 6
"""First slots of an episode, in which popularity is still being learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One world to play."""

    scenario: str
    world: int
    ewma: str
    """Setting of EWMA-greedy."""
    futures: int
    """Futures a slot behind the bound."""


def play_item(item: Item) -> dict[str, Any]:
    """Costs on one world: of each scheme in every slot, and the bound on their mean, s."""
    world = scenario_of(item.scenario).world(item.world)
    entries = {"ewma": find_scheme(item.ewma), "augur": find_scheme("learned")}
    entries |= {told: informed_entry(world, told) for told in get_args(Knowledge)}
    played = {
        name: play_by_tables(world, entry, np.random.default_rng([item.world, 0])).slots_s
        for name, entry in entries.items()
    }
    rng = np.random.default_rng([item.world, 1])
    bound = unforeseen_bound([world], batch_worlds([world]), rng, item.futures)
    costs = {name: np.round(slots_s, 6).tolist() for name, slots_s in played.items()}
    return {"world": item.world, "slots_s": costs, "bound_s": round(float(bound[0]), 6)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over worlds: costs, reductions below EWMA-greedy and below Augur, where the gap arises."""
    slots = {name: np.array([row["slots_s"][name] for row in rows]) for name in rows[0]["slots_s"]}
    costs = {name: each.mean(axis=1, keepdims=True) for name, each in slots.items()}
    costs["bound"] = np.array([[row["bound_s"]] for row in rows])
    draws = bootstrap(np.random.default_rng(0), len(rows), 1)
    gains: dict[str, Any] = {}
    for name, cost in costs.items():
        gains[name] = {"cost_s": float(cost.mean()), "ci95_s": mean_interval(cost, draws)}
        if name in slots:
            gains[name]["slots_s"] = np.round(slots[name].mean(axis=0), 4).tolist()
        if name != "ewma":
            gains[name]["below_ewma"] = asdict(paired(cost, costs["ewma"], draws))
        if name not in ("ewma", "augur"):
            gains[name]["below_augur"] = asdict(paired(cost, costs["augur"], draws))
    for told in get_args(Knowledge):
        gains[told]["gain_in_first_slots"] = _early(slots["augur"] - slots[told])
    return gains


def _early(gain_s: Float) -> dict[str, float]:
    """How much of a gain (worlds, slots) arises in the first slots of an episode, s an episode."""
    return {
        "slots": EARLY,
        "gain_s": float(gain_s[:, :EARLY].sum(axis=1).mean()),
        "all_s": float(gain_s.sum(axis=1).mean()),
    }


def markdown(rows: dict[str, Any]) -> str:
    """What `summary` made, as a table."""
    lines = ["| policy | s per slot | below EWMA-greedy | 95 % interval | worlds |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [name, f"{row['cost_s']:.2f}", "", "", ""]
        if "below_ewma" in row:
            less = row["below_ewma"]
            low, high = less["ci95"]
            cells[2:] = [f"{less['reduction']:.2%}", f"{low:.2%} to {high:.2%}", str(less["worlds"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Play the worlds that the output file lacks, then sum up."""
    options = _parser().parse_args(argv)
    name: str = options.scenario
    ewma = json.loads(COMPARED.read_text(encoding="utf-8"))["scenarios"][name]["ewma"]
    settings = {
        "scenario": name,
        "split": "validation",
        "worlds": [options.first_world, options.worlds],
        "futures": options.futures,
        "ewma": ewma,
        "versions": versions(),
        "code": {scheme: code_version(scheme) for scheme in ("learned", "ewma-greedy")},
        "own_code": closure_of(["demo.experiments.worth_of_knowledge"]).digest[:16],
    }
    comparison = Comparison(options.out, settings)
    numbers = [world_seed("validation", options.first_world + place) for place in range(options.worlds)]
    if name not in comparison.done["scenarios"]:
        make = partial(Item, scenario=name, ewma=ewma, futures=options.futures)
        play([make(world=number) for number in numbers], comparison, options.workers)
    options.out.with_suffix(".md").write_text(markdown(comparison.done["scenarios"][name]), encoding="utf-8")
    return 0


def play(items: Sequence[Item], comparison: Comparison, workers: int) -> None:
    """Play what is missing of one scenario, sum up, and let the worlds go."""
    name, worlds = items[0].scenario, comparison.done["worlds"]
    missing = [item for item in items if str(item.world) not in worlds]
    try:
        for row in spread(play_item, missing, workers):
            worlds[str(row["world"])] = row
            comparison.save(now=False)
        comparison.done["scenarios"][name] = summary([worlds[str(item.world)] for item in items])
        worlds.clear()
    finally:
        comparison.save()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenario", default="dear updates", help="one of demo.experiments.shifted")
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--first-world", type=int, default=5000, help="number of the first validation world")
    parser.add_argument("--futures", type=int, default=64, help="behind the bound, a slot")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    raise SystemExit(main())
