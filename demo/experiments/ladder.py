"""The ladder from coarse caching to the bound, on several catalogs and capacities.

    python -m demo.experiments.ladder [findings shapes zoo-small zoo-full] [--worlds N] ...

Writes `results/ladder-<name>.json`, `.md` and `.png` for each catalog. Finished episodes are kept in the
cache folder of pbcast: a second call goes on where the first one stopped. `--split held-out` is for the final
report: it is played once, see `policy.world.looks`.
"""

import argparse
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from demo.bridge.beamformed import beamformed_world
from demo.experiments.options import experiment_parser
from demo.jobs.catalogs import CATALOGS
from demo.show.evaluation import markdown_capacities, markdown_rungs, markdown_table
from demo.show.ladder import draw_capacities, draw_ladder
from demo.zoo.cache import cache_root
from policy.config import FINDINGS
from policy.evaluation import Evaluation, draw_world, evaluate, playable
from policy.interfaces import BlockCatalog
from policy.kept import write_json
from policy.scenario import Scenario
from policy.schemes import HOMES
from policy.world.splits import Split

RESULTS = Path(__file__).parent / "results"

RUNGS = {
    # schemes in single steps: what each adds to the one before
    "no-cache": "nothing is cached",
    "whole-model": "whole models in the caches, each sent whole",
    "whole-model-shared-air": "a shared block is broadcast once",
    "lfu": "blocks instead of models in the caches",
    "trimcaching-gen-delay": "the placement minimises delay, model by model",
    "ewma-greedy": "the same block by block",
    "planner": "a demand model fitted to the world's own past",
    "learned": "a demand model learned from other worlds, later slots, exchanges",
}
ABLATIONS = ("no-migration", "no-comp", "no-air-sharing", "no-store-sharing", "whole-models")
BLIND = ("static-distinct", "know-nothing", "rendezvous")
"""Baselines that see no request, or only what is popular."""
SWEEP = (
    "whole-model",
    "whole-model-shared-air",
    "lru",
    "trimcaching-gen",
    *BLIND,
    "ewma-greedy",
    "pooled",
    "planner",
    "planner-fair",
    "learned",
)
REFERENCES = (*RUNGS, *BLIND, "lru", "trimcaching-gen", "pooled", "planner-fair")
"""Schemes that all others are compared with in the committed files."""
CAPACITIES = (0.05, 0.1, 0.2, 0.4, 0.6)
"""Room of a node as shares of the catalog's deduplicated bytes: the design's sweep."""
DEFAULT = ("findings", "shapes", "zoo-small")
SLOW_BLOCKS = 200
"""Catalogs with more blocks than this leave out the schemes whose cost grows fastest."""
SLOW = ("m-pso", "m-pso-clock", "price")


def scenario_of(name: str, capacity_share: float | None = None) -> Scenario:
    """The prototype's cells, users, requests and wires around a catalog.

    Without a share, nodes have the prototype's room, on other catalogs room for 1.1 of the largest model
    kept whole, so that coarse caching is not shut out.
    """
    catalog = _catalog(name)
    if capacity_share is not None:
        config = replace(FINDINGS, name=name, capacity_bytes=(), capacity_share=capacity_share)
    elif name == "findings":
        config = FINDINGS
    else:
        config = replace(FINDINGS, name=name, capacity_bytes=(1.1 * float(catalog.whole_bytes.max()),))
    return Scenario(config, catalog)


@cache
def _catalog(name: str) -> BlockCatalog:
    return CATALOGS[name]()


def schemes_of(scenario: Scenario) -> list[str]:
    """All schemes that run on a scenario, and EWMA-greedy's ablations; says what is left out and why."""
    names = [*HOMES, *(f"ewma-greedy+{switch}" for switch in ABLATIONS)]
    large = scenario.catalog.num_blocks > SLOW_BLOCKS
    names, reasons = playable(scenario, [name for name in names if not (large and name in SLOW)])
    for name, reason in reasons.items():
        print(f"{scenario.config.name}: without {name}: {reason}", file=sys.stderr)
    return names


def climb(name: str, options: argparse.Namespace) -> None:
    """Play one catalog's ladder and its sweep, and write what came out."""
    scenario = scenario_of(name)
    full = _play(scenario, schemes_of(scenario), options.worlds, options.bound_worlds, options)
    sweep = {
        share: _play(scenario_of(name, share), list(SWEEP), options.sweep_worlds, 0, options)
        for share in (CAPACITIES if options.sweep_worlds else ())
    }
    label = name if options.radio == "cheap" else f"{name}-{options.radio}"
    stem = options.out / f"ladder-{label}"
    document = {"ladder": _kept(full), "capacities": {share: _kept(e) for share, e in sweep.items()}}
    write_json(stem.with_suffix(".json"), document)
    rungs = {rung: text for rung, text in RUNGS.items() if rung in full.schemes}
    text = [
        f"# {label}: {options.worlds} {options.split} worlds, {options.seeds} seed(s)\n",
        f"`python -m demo.experiments.ladder {' '.join(sys.argv[1:]) or name}`\n",
        markdown_rungs(full, rungs),
        markdown_table(full),
        *([markdown_capacities(sweep)] if sweep else []),
    ]
    stem.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    draw_ladder(full, stem.with_suffix(".png"))
    if sweep:
        draw_capacities(sweep, options.out / f"capacities-{label}.png")
    print("\n".join(text), flush=True)


def _kept(result: Evaluation) -> dict[str, Any]:
    """The result without the pairs that nobody asks about."""
    data = result.to_dict()
    return {**data, "paired": {k: v for k, v in data["paired"].items() if k.split("|")[1] in REFERENCES}}


def _play(
    scenario: Scenario, schemes: list[str], worlds: int, bound_worlds: int, options: argparse.Namespace
) -> Evaluation:
    def tell(done: int, total: int) -> None:
        if done in (1, total) or done % 8 == 0:
            print(f"{scenario.config.name}: {done}/{total} worlds", file=sys.stderr, flush=True)

    return evaluate(
        scenario,
        schemes,
        worlds,
        options.seeds,
        split=options.split,
        bound_worlds=bound_worlds,
        workers=options.workers,
        make_world=beamformed_world if options.radio == "beamformers" else draw_world,
        folder=cache_root() / "evaluations",
        progress=tell,
        seen=options.seen,
    )


def main() -> None:
    """Read the command line and climb."""
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("names", nargs="*", choices=[[], *CATALOGS], default=[])
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--sweep-worlds", type=int, default=16)
    parser.add_argument("--bound-worlds", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--split", choices=get_args(Split), default="validation")
    parser.add_argument("--seen", action="store_true", help="play held-out worlds again")
    parser.add_argument("--radio", choices=("cheap", "beamformers"), default="cheap")
    options = parser.parse_args()
    for name in options.names or DEFAULT:
        climb(name, options)


if __name__ == "__main__":
    main()
