"""The planner of `learned` for slots that overlap, with nothing trained, or with some of it.

What `learned` is ahead of this scheme is what training brings. Settings switch single parts on: `demand`, the
network that corrects the forecast; `clock`, the prices distilled from served slots in place of those of a
lower bound; `decisions`, the trade-offs set by hand.
"""

from dataclasses import replace

import numpy as np

from policy.learn.augur_pipelined import AugurPipelined, Learned, PipelinedConfig
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.learned import learned_from
from policy.schemes.pooled import PooledCoverage
from policy.slot.tables import MAX_TABLE_NODES


def start(
    scenario: Scenario,
    rng: np.random.Generator,
    samples: int = PipelinedConfig().samples,
    rounds: int = PipelinedConfig().rounds,
    demand: float = 0.0,
    clock: float = 0.0,
    decisions: float = 0.0,
    guard: float = 1.0,
) -> Scheme:
    """The planner of one world; from 0.5 on a part is the trained one. Many nodes: pooled coverage.

    Below 0.5 `guard` takes away the rival that a placement must beat.
    """
    nodes = scenario.config.num_nodes
    if nodes > MAX_TABLE_NODES:
        return PooledCoverage(scenario, rng)
    switches = {"demand": demand, "clock": clock, "decisions": decisions}
    parts, wanted = Learned.untrained(nodes), {name for name, on in switches.items() if on >= 0.5}
    if wanted:
        trained = learned_from()
        parts = replace(parts, **{name: getattr(trained, name) for name in wanted})
    config = PipelinedConfig(samples=int(samples), rounds=int(rounds))
    rival = PooledCoverage(scenario, rng) if guard >= 0.5 else None
    return AugurPipelined(scenario, rng, parts, config, rival)


ENTRY = SchemeEntry(
    name="planner-clock",
    start=start,
    paper="Sample average approximation (Kleywegt et al., 2002) on a bound of each slot's delay, untrained",
    random=True,
)
