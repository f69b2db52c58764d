"""Tune every baseline with the same small budget, on validation worlds of a scenario.

    python -m demo.experiments.tune [SCHEME ...]
    python -m demo.experiments.tune --scenario v30.toml --catalog vision.npz --radio beamformers [SCHEME ...]

At most `BUDGET` settings a scheme, all on the same worlds; the best mean wins. The winners on `findings` are
the defaults in `policy/schemes`; what was tried and what it gave is in `results/tuning.json`, and for another
scenario in `results/tuning-<name>.json`. A comparison there plays the winners there (`best_names`).
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from demo.bridge.beamformed import beamformed_world
from demo.experiments.options import experiment_parser
from demo.zoo.cache import cache_root
from policy.evaluation import draw_world, evaluate
from policy.evaluation.sources import code_version
from policy.interfaces import BlockCatalog
from policy.kept import write_json
from policy.scenario import Scenario, load_scenario

RESULTS = Path(__file__).parent / "results"
BUDGET = 12
"""Most settings tried for one scheme."""
WORLDS = 16
"""Validation worlds each setting is played on."""

Grid = dict[str, tuple[float, ...]]

TABLE_GRID: Grid = {"weight": (0.05, 0.1, 0.2), "update": (0.5, 0.75), "prior": (2, 4)}
DEMAND_GRID: Grid = {"memory": (1.0, 0.95, 0.9), "own": (0.3, 0.7), "slack": (1.3, 3.0)}

GRIDS: dict[str, Grid] = {
    "lfu": {"memory": (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)},
    "popularity": {"memory": (0.8, 0.65, 0.5, 0.3), "local": (1.0, 0.7, 0.3)},
    "whole-model": {"memory": (1.0, 0.97, 0.95, 0.92, 0.9, 0.8, 0.7)},
    "whole-model-shared-air": {"memory": (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)},
    "whole-model-greedy": TABLE_GRID,
    "trimcaching-gen": DEMAND_GRID,
    "trimcaching-spec": DEMAND_GRID,
    "trimcaching-gen-delay": {"weight": (0.05, 0.1, 0.2), "per_byte": (0.5, 1.0), "prior": (2, 4)},
    "m-pso": {"weight": (0.1, 0.2), "inertia": (0.4, 0.5), "update": (0.5, 1.0)},
    "mba": {"memory": (0.65, 0.5, 0.3), "reuse": (0.5, 1.0, 1.5)},
    "rendezvous": {"memory": (1.0, 0.95), "drop": (0.0, 0.05, 0.1, 0.2, 0.3)},
    "ewma-greedy": TABLE_GRID,
    "price": TABLE_GRID,
    "planner": {"horizon": (1, 2, 3), "blend": (0.7, 1.0), "update": (0.5, 1.0)},
    "planner-fair": {"patience": (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16)},
    "static-distinct": {"whole": (0, 1)},
    "pooled": {"whole": (0, 0.5), "later": (0.3, 0.6), "update": (1, 2, 4)},
}


def settings_of(scheme: str) -> list[str]:
    """All settings of a scheme's grid, as names that the registry takes."""
    grid = GRIDS[scheme]
    names = [
        f"{scheme}:" + ";".join(f"{key}={value:g}" for key, value in zip(grid, row, strict=True))
        for row in itertools.product(*grid.values())
    ]
    if len(names) > BUDGET:
        raise ValueError(f"{scheme} has {len(names)} settings, the budget is {BUDGET}")
    return names


def tune(
    scheme: str,
    scenario: Scenario,
    worlds: int = WORLDS,
    beamformers: bool = False,
    first_world: int = 0,
) -> dict[str, float]:
    """Mean cost per slot of every setting on validation worlds, best first."""
    names = settings_of(scheme)
    result = evaluate(
        scenario,
        names,
        worlds,
        workers=2,
        first_world=first_world,
        bound_worlds=0,
        make_world=beamformed_world if beamformers else draw_world,
        folder=cache_root() / "evaluations",
    )
    costs = {name: result.schemes[name].mean_delay_s for name in names}
    return dict(sorted(costs.items(), key=lambda item: item[1]))


def best_names(file: Path, schemes: Sequence[str]) -> list[str]:
    """Each scheme with the settings that won in a file of results; as it is where it was not tuned."""
    known = json.loads(file.read_text(encoding="utf-8"))["cost_s"] if file.is_file() else {}
    return [min(known[name], key=known[name].__getitem__) if name in known else name for name in schemes]


def main(argv: Sequence[str] | None = None) -> int:
    """Tune, print, and keep what was found beside what is known of schemes whose code is as it was."""
    parser = experiment_parser(__doc__, RESULTS / "tuning.json")
    parser.add_argument("schemes", nargs="*", choices=[[], *GRIDS], default=[], metavar="SCHEME")
    parser.add_argument("--scenario", default="findings", help="preset or file (%(default)s)")
    parser.add_argument("--catalog", type=Path, help="a block catalog (.npz)")
    parser.add_argument("--radio", choices=("cheap", "beamformers"), default="cheap")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    options = parser.parse_args(argv)
    catalog = BlockCatalog.load(options.catalog) if options.catalog else None
    scenario = load_scenario(options.scenario, catalog)
    if options.out == RESULTS / "tuning.json" and scenario.config.name != "findings":
        options.out = RESULTS / f"tuning-{scenario.config.name}.json"
    code = {scheme: code_version(scheme) for scheme in GRIDS}
    document = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    made_by = document.get("made_by", {})
    known = {
        name: cost for name, cost in document.get("cost_s", {}).items() if made_by.get(name) == code[name]
    }
    for scheme in options.schemes or GRIDS:
        ranking = tune(scheme, scenario, options.worlds, options.radio == "beamformers")
        known[scheme] = {name: round(cost, 3) for name, cost in ranking.items()}
        best, worst = next(iter(ranking.items())), list(ranking.items())[-1]
        print(f"{best[0]:60} {best[1]:6.2f}   (worst {worst[1]:.2f})", flush=True)
    ordered = {scheme: known[scheme] for scheme in GRIDS if scheme in known}
    write_json(options.out, {"made_by": {scheme: code[scheme] for scheme in ordered}, "cost_s": ordered})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
