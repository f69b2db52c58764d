"""Know-nothing: the greedy placement for uniform demand from anywhere; no request is ever looked at.

It knows what is known before the first slot: the catalog, the capacities, the wires, where the nodes stand
and how rate falls with distance. A scheme that looks at requests has to beat it to have learnt anything.
"""

import numpy as np

from policy.interfaces import Bool
from policy.place.greedy import greedy_placement
from policy.place.local_tables import candidate_nodes, greedy_local, local_table, near_scores
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import fill, know_nothing_table
from policy.schemes.ewma_local import imagined_demand
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules

WIDTH = 5
"""Nodes that a block's table looks at where there are too many for all sets."""


class KnowNothing:
    """One placement, computed before the first slot and kept; the update budget may take it several slots."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._wanted: Bool | None = None

    def decide(self, observation: Observation) -> Placement:
        """The same blocks in every slot."""
        if self._wanted is None:
            self._wanted = blind_placement(self._scenario, observation.history.rules)
        return Placement(
            holds=fill(self._scenario, self._wanted.astype(np.float64), observation.at_hand, floor=0.5)
        )


def blind_placement(scenario: Scenario, rules: ServiceRules) -> Bool:
    """Greedy placement for users anywhere and models all alike, (nodes, blocks).

    The first fill is paid once and serves all slots: it is not weighed.
    """
    nodes, catalog = scenario.config.num_nodes, scenario.catalog
    empty = np.zeros((nodes, catalog.num_blocks), dtype=bool)
    if nodes > MAX_TABLE_NODES:
        return _local_placement(scenario, rules, empty)
    table, sizes = know_nothing_table(scenario, rules), catalog.sizes_bytes
    return greedy_placement(table, sizes, scenario.capacity_bytes, empty, joint=not rules.migration)


def _local_placement(scenario: Scenario, rules: ServiceRules, empty: Bool) -> Bool:
    """The same on tables over the few nodes that matter to each block."""
    imagined, sizes = imagined_demand(scenario), scenario.catalog.sizes_bytes
    near = sum((near_scores(demand, sizes.size) for demand in imagined), np.zeros(empty.shape))
    candidates = candidate_nodes(near, WIDTH)
    tables = [local_table(scenario, demand, candidates, rules.migration) for demand in imagined]
    return greedy_local(np.mean(tables, axis=0), candidates, sizes, scenario.capacity_bytes, empty, np.inf)


ENTRY = SchemeEntry(
    name="know-nothing",
    start=KnowNothing,
    paper="Cost-benefit greedy (Khuller, Moss and Naor, 1999) on uniform demand; sees no request",
)
