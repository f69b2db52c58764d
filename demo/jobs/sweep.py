"""A run's schemes at other capacities: the same scenario and models, on the policy's cheap radio."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.jobs.evaluate import Worlds, kept_in, run_evaluation
from demo.jobs.overrides import Overrides
from demo.jobs.report import RunReport
from policy.evaluation import Evaluation

SCHEMES = ("whole-model", "lru", "rendezvous", "ewma-greedy", "learned")
"""What is compared at each capacity."""


def store_of(run: RunReport, folder: Path) -> Path:
    """The store of the models of a run.

    Raises:
        ValueError: If it is not where the run had it.
    """
    named = run.settings.get("run", {}).get("store")
    store = folder / "cloud" if named is None else Path(named)
    if not (store / "STORE.json").is_file():
        raise ValueError(f"expected the store of the run's models at {store}")
    return store


def sweep_capacities(
    run: RunReport, folder: Path, shares: Sequence[float], *, worlds: int = 3, workers: int = 2
) -> dict[float, Evaluation]:
    """Play the schemes on validation worlds at each capacity; finished episodes are kept between calls.

    Args:
        run: The report, which has the scenario.
        folder: Folder of the run.
        shares: Rooms of a node as shares of the catalog.
        worlds: Worlds of each capacity.
        workers: Processes.

    Raises:
        ValueError: If the run's store is gone.
    """
    store = store_of(run, folder)
    with tempfile.TemporaryDirectory() as scratch:
        scenario = Path(scratch) / "scenario.json"
        scenario.write_text(json.dumps(run.settings["scenario"]), encoding="utf-8")
        return {
            share: run_evaluation(
                Worlds(
                    scenario=str(scenario),
                    catalog_from=store,
                    changes=Overrides(capacity_share=share),
                    count=worlds,
                ),
                list(SCHEMES),
                seeds=1,
                bound_worlds=0,
                workers=workers,
                ray=False,
                folder=kept_in(None),
                boot_seed=run.seed,
            )
            for share in sorted(shares)
        }
