"""What is left to win with many nodes: pooled coverage that is told more, beside those that are not.

    python -m demo.experiments.many_nodes_left --nodes 9,16,36

The scenario of `pbcast experiment nodes` with as many nodes, on training worlds with real beams. Beyond 6
nodes `learned` is pooled coverage by its forecast, so `told:distribution` and `told:future`
(`policy.bounds.told_distribution`) are pooled coverage by a perfect forecast, of chances and of what comes.
Each is told by how much less users wait than with `ewma-local`, on the same worlds.
"""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from demo.experiments.by_setting import at_least_one
from demo.experiments.options import experiment_parser
from demo.experiments.papers.network import NODES
from demo.experiments.papers.play import scenario_at
from demo.experiments.settings_ten import RESULTS
from policy.bounds.told_distribution import Told, told_entry
from policy.evaluation.statistics import bootstrap, paired
from policy.kept import replace_text, write_json
from policy.parallel import spread
from policy.play.rollout import rollout
from policy.schemes import find_scheme
from policy.world.splits import world_seed

REFERENCE = "ewma-local"
SCHEMES = (REFERENCE, "rendezvous", "pooled", "learned")
TOLD = tuple(f"told:{told}" for told in get_args(Told))


def play(job: tuple[int, int]) -> tuple[int, list[float]]:
    """Mean user delay with each scheme in one world, s; the job is how many nodes and which world."""
    nodes, number = job
    point = next(point for point in NODES.points if point.x == nodes)
    world = point.air.make_world()(scenario_at(NODES, point), world_seed("train", number))
    entries = [find_scheme(name) for name in SCHEMES] + [told_entry(world, told) for told in get_args(Told)]
    delays = [rollout(world, entry, np.random.default_rng(0)).mean_cost_s for entry in entries]
    return nodes, [float(delay) for delay in delays]


def summary(delays: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of each scheme the mean delay, and how much less it is than the reference, with its 95 % interval."""
    costs = dict(zip((*SCHEMES, *TOLD), np.array(delays).T[:, :, None], strict=True))
    draws = bootstrap(np.random.default_rng(0), len(delays), 1)
    told: dict[str, Any] = {}
    for name, cost in costs.items():
        less = paired(cost, costs[REFERENCE], draws)
        told[name] = {"delay_s": float(cost.mean()), "less": less.reduction, "ci95": list(less.ci95)}
    return told


def markdown(results: dict[int, dict[str, Any]], command: str) -> str:
    """One row for each number of nodes."""
    names = [name for name in (*SCHEMES, *TOLD) if name != REFERENCE]
    lines = [
        "# What is left to win with many nodes\n",
        f"Mean user delay of `{REFERENCE}`, s, and how much lower the others are, with 95 % bootstrap",
        f"intervals. Training worlds; made by `{command}`.\n",
        f"| nodes | {REFERENCE} | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for nodes, one in results.items():
        cells = [str(nodes), f"{one[REFERENCE]['delay_s']:.3f}"]
        for name in names:
            low, high = one[name]["ci95"]
            cells.append(f"{100 * one[name]['less']:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Play, write the table and print it."""
    parser = experiment_parser(__doc__, RESULTS)
    possible = [int(point.x) for point in NODES.points]
    parser.add_argument("--nodes", default="9,16,36", help=f"of {possible} (%(default)s)")
    parser.add_argument("--worlds", type=at_least_one, default=12, help="for each (%(default)s)")
    parser.add_argument("--first-world", type=int, default=410000, help="of split train (%(default)s)")
    parser.add_argument("--workers", type=at_least_one, default=1, help="processes (%(default)s)")
    options = parser.parse_args(argv)
    if not all(part.isdecimal() and int(part) in possible for part in options.nodes.split(",")):
        parser.error(f"--nodes must be some of {possible}, joined by commas, got {options.nodes!r}")
    wanted = [int(part) for part in options.nodes.split(",")]
    jobs = [(nodes, options.first_world + n) for nodes in wanted for n in range(options.worlds)]
    rows: dict[int, list[list[float]]] = {nodes: [] for nodes in wanted}
    for nodes, delays in spread(play, jobs, options.workers):
        rows[nodes].append(delays)
    results = {nodes: summary(sorted(delays)) for nodes, delays in rows.items()}
    where = f"--nodes {options.nodes} --worlds {options.worlds} --first-world {options.first_world}"
    table = markdown(results, f"python -m demo.experiments.many_nodes_left {where}")
    path = options.out / "many-nodes-left.md"
    told = {str(nodes): one for nodes, one in results.items()}
    write_json(path.with_suffix(".json"), {"worlds": options.worlds, "results": told})
    replace_text(path, table)
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
