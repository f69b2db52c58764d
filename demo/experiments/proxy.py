"""How well the cheap radio ranks broadcasts: Spearman's correlation with real beamformers.

    python -m demo.experiments.proxy

Random holders and random users in slots of validation worlds; one correlation for each slot, then the mean.
What counts for a policy is the order within a slot: which holders are faster, and for whom. The beamformers
see the shadowing and fading of TR 38.901, the cheap radio sees places alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata

from demo.bridge.beamformed import beamformed_world
from demo.experiments.options import out_option
from policy.config import PRESETS
from policy.interfaces import Float
from policy.kept import write_json
from policy.scenario import Scenario, load_scenario
from policy.world.cheap_radio import proxy_delay
from policy.world.splits import world_seed

RESULTS = Path(__file__).parent / "results"
Combining = Literal["power-sum", "coherent"]
WORLDS, SLOTS, BROADCASTS = 8, 6, 60


def correlations(scenario: Scenario, combining: Combining, rng: np.random.Generator) -> Float:
    """Spearman's correlation in every slot looked at, (worlds x slots,)."""
    config, per_world = scenario.config, []
    cheap_config = replace(config.radio, combining=combining)
    for index in range(WORLDS):
        world = beamformed_world(scenario, world_seed("validation", index))
        cheap = proxy_delay(world.trace.node_xy, world.trace.user_xy, cheap_config)
        for slot in rng.choice(world.trace.num_slots, SLOTS, replace=False).tolist():
            holders = rng.random((BROADCASTS, config.num_nodes)) < rng.uniform(0.2, 0.8, (BROADCASTS, 1))
            users = rng.random((BROADCASTS, config.num_users)) < rng.uniform(0.05, 0.5, (BROADCASTS, 1))
            some = holders.any(axis=1) & users.any(axis=1)
            rough = cheap.rate_bit_s(slot, holders[some], users[some])
            real = world.delay.rate_bit_s(slot, holders[some], users[some])
            per_world.append(float(np.corrcoef(rankdata(rough), rankdata(real))[0, 1]))
    return np.array(per_world)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and keep what was found."""
    out = out_option(__doc__, RESULTS / "proxy.json", argv)
    measured = {}
    for name in PRESETS:
        for combining in get_args(Combining):
            values = correlations(load_scenario(name), combining, np.random.default_rng(0))
            measured[f"{name}, {combining}"] = {
                "mean": round(float(values.mean()), 4),
                "lowest": round(float(values.min()), 4),
                "slots": values.size,
            }
            print(name, combining, measured[f"{name}, {combining}"], flush=True)
    write_json(out, measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
