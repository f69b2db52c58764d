"""What deltas are worth on the air: the zoo's blocks as deltas and compressed, against the same blocks raw.

    python -m demo.experiments.raw_form

The same models, test worlds, and room on the nodes; only the form of the blocks differs.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from demo.experiments.options import out_option
from demo.jobs.catalogs import zoo_catalog
from demo.zoo.cache import cache_root
from policy.config import FINDINGS
from policy.evaluation import Evaluation, evaluate
from policy.evaluation.statistics import bootstrap, paired
from policy.interfaces import BlockCatalog
from policy.kept import write_json
from policy.scenario import Scenario
from policy.strict_json import strict_json
from policy.world.splits import world_seed

RESULTS = Path(__file__).parent / "results"
SCHEMES = ("lru", "rendezvous", "ewma-greedy", "learned")
WORLDS = 16


def play(catalog: BlockCatalog, room: float) -> tuple[Scenario, Evaluation]:
    """All schemes on a form of the catalog."""
    scenario = Scenario(replace(FINDINGS, name="zoo-form", capacity_bytes=(room,)), catalog)
    folder = cache_root() / "evaluations"
    return scenario, evaluate(
        scenario, SCHEMES, WORLDS, split="test", bound_worlds=0, workers=2, folder=folder
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Play both forms, check that the worlds are the same, compare."""
    out = out_option(__doc__, RESULTS / "raw-form.json", argv)
    forms = {"deltas": zoo_catalog("small"), "raw": zoo_catalog("small", "hot")}
    room = 1.1 * float(forms["deltas"].whole_bytes.max())
    (small, with_deltas), (large, raw) = (play(catalog, room) for catalog in forms.values())
    seed = world_seed("test", 0)
    if small.world(seed).trace.digest != large.world(seed).trace.digest:
        raise ValueError("the two forms have other families of models, so other worlds: nothing to compare")
    draws = bootstrap(np.random.default_rng(0), WORLDS, 1)
    outcomes = {
        "room_bytes": room,
        "worlds": WORLDS,
        "dedup_bytes": {name: catalog.dedup_bytes for name, catalog in forms.items()},
        "schemes": {
            name: {
                "deltas_s": with_deltas.schemes[name].mean_delay_s,
                "raw_s": raw.schemes[name].mean_delay_s,
                **asdict(paired(with_deltas.costs[name], raw.costs[name], draws)),
            }
            for name in SCHEMES
        },
    }
    write_json(out, outcomes)
    print(strict_json(outcomes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
