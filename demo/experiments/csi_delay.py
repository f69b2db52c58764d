"""What channels known only up to an error cost a user: robust against nominal beams, in delay and outage.

    python -m demo.experiments.csi_delay

The nodes design on estimates; the true channel decides. Robust beams hold for every channel in the ball
around each link's estimate. Nominal ones take the estimate for the channel: a broadcast that the true channel
does not carry is lost and sent again at the rate that the users then report.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError, Design
from demo.bridge.radio_delay import RadioDelay
from demo.experiments.options import out_option
from policy.kept import write_json
from policy.play.rollout import rollout
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.strict_json import strict_json
from policy.world.splits import world_seed

RESULTS = Path(__file__).parent / "results"
SCHEME = "rendezvous"
SIZES = (0.05, 0.1, 0.2)
DESIGNS: tuple[Design, ...] = ("robust", "nominal")
WORLDS = 8
SLOTS = 6


def play(scenario: Scenario, number: int, csi: CsiError) -> tuple[float, float]:
    """Mean user delay of one world, s, and the share of broadcasts that were lost at first."""
    world = beamformed_world(scenario, world_seed("test", number), csi=csi)
    outcomes = rollout(world, find_scheme(SCHEME), np.random.default_rng(0)).outcomes
    delays = np.concatenate([outcome.user_delay_s[outcome.asked] for outcome in outcomes])
    delay = world.delay
    if not isinstance(delay, RadioDelay):
        raise TypeError(f"expected the radio's delays, got {type(delay).__name__}")
    lost = [
        delay.lost(outcome.slot, cast.holders, cast.users)
        for outcome in outcomes
        for cast in outcome.broadcasts
    ]
    return float(delays.mean()), float(np.mean(lost)) if lost else 0.0


def row(played: Sequence[tuple[float, float]], exact: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Means over worlds, and how much more delay than with exact channels, paired, with its 95 % interval."""
    delays, base = (np.array([delay for delay, _ in one]) for one in (played, exact))
    more = (delays - base) / base.mean()
    half = float(student.ppf(0.975, more.size - 1) * more.std(ddof=1) / more.size**0.5)
    return {
        "mean_delay_s": float(delays.mean()),
        "more": float(more.mean()),
        "more_ci95": [float(more.mean()) - half, float(more.mean()) + half],
        "lost_ratio": float(np.mean([lost for _, lost in played])),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Play every size and design on the same worlds, write what it cost."""
    out = out_option(__doc__, RESULTS / "csi-delay.json", argv)
    named = load_scenario("default")
    scenario = Scenario(replace(named.config, num_slots=SLOTS), named.catalog)
    exact = [play(scenario, number, CsiError()) for number in range(WORLDS)]
    rows: dict[str, Any] = {"exact": row(exact, exact)}
    for size in SIZES:
        for design in DESIGNS:
            played = [play(scenario, number, CsiError(size=size, design=design)) for number in range(WORLDS)]
            rows[f"{size:g} {design}"] = row(played, exact)
    outcomes = {"scheme": SCHEME, "scenario": "default", "worlds": WORLDS, "slots": SLOTS, "rows": rows}
    write_json(out, outcomes)
    print(strict_json(outcomes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
