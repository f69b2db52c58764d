"""Fair planner: everything that `learned` does when it decides, but nothing was trained.

As many samples, exchanges and later slots; users' places forecast alike; demand forecast by the counts and
the mixture that are fitted online (`policy.learn.request_statistics`), as they are: the network that would
correct them is left out. Where costs add up, what `learned` is ahead of this scheme is what training brings;
where slots overlap `planner_clock` is the scheme to compare with.
"""

import numpy as np

from policy.learn.augur import Augur, AugurConfig
from policy.learn.augur_many_nodes import AugurManyNodes
from policy.learn.demand import DemandModel
from policy.play.scheme import Scheme, SchemeEntry
from policy.scenario import Scenario
from policy.slot.tables import MAX_TABLE_NODES


def start(
    scenario: Scenario,
    rng: np.random.Generator,
    samples: int = AugurConfig().samples,
    patience: float = AugurConfig().patience,
    rounds: int = AugurConfig().rounds,
) -> Scheme:
    """The planner of one world; settings as in `AugurConfig`, by default those of `learned`."""
    model = DemandModel.untrained()
    if scenario.config.num_nodes > MAX_TABLE_NODES:
        return AugurManyNodes(scenario, rng, model)
    config = AugurConfig(samples=int(samples), patience=patience, rounds=int(rounds))
    return Augur(scenario, rng, model, config)


ENTRY = SchemeEntry(
    name="planner-fair",
    start=start,
    paper="Sample average approximation (Kleywegt et al., 2002) with the machinery of `learned`, untrained",
    random=True,
)
