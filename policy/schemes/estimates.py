"""What schemes estimate from the past: who asks for what, and what a table looks like on average."""

from functools import lru_cache

import numpy as np

from policy.errors import SchemeError
from policy.interfaces import Bool, Float, Int
from policy.place.greedy import fill_by_score
from policy.play.scheme import History, Observation
from policy.scenario import Scenario
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules, delay_table, to_masks
from policy.slot.updates import update_seconds
from policy.world.cheap_radio import ProxyDelay, link_snr
from policy.world.mobility import grid_nodes
from policy.world.trace import nearest

REQUEST_BYTES = 12
"""One user's request and place as a node reports it: model (4), two coordinates (4 each)."""


def slot_weights(slots: int, memory: float) -> Float:
    """Weight of each past slot: `memory` to the power of its age, newest 1, (slots,)."""
    return np.asarray(memory ** np.arange(slots - 1, -1, -1), dtype=np.float64)


def cell_counts(history: History, models: int, memory: float = 1.0) -> Float:
    """How often each model was asked for in each node's cell, old requests fading, (nodes, models)."""
    counts = np.zeros((history.node_xy.shape[0], models))
    if history.num_slots:
        cells = nearest(history.node_xy, history.user_xy)
        _add(counts, cells, history, memory)
    return counts


def user_counts(history: History, models: int, memory: float = 1.0) -> Float:
    """How often each user asked for each model, old requests fading, (users, models)."""
    counts = np.zeros((history.requests.shape[1], models))
    if history.num_slots:
        users = np.broadcast_to(np.arange(counts.shape[0]), history.requests.shape)
        _add(counts, users, history, memory)
    return counts


def _add(counts: Float, rows: Int, history: History, memory: float) -> None:
    asked = history.requests >= 0
    weights = np.broadcast_to(slot_weights(history.num_slots, memory)[:, None], asked.shape)
    np.add.at(counts, (rows[asked], history.requests[asked]), weights[asked])


class AveragedTable:
    """Exponential average of past delay tables, plus what it costs to change the caches.

    It starts from the table of a world of which nothing is known: users anywhere, models all alike.
    """

    def __init__(self, scenario: Scenario, weight: float, prior: float = 3.0) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"the weight of the newest table must be in (0, 1], got {weight}")
        if prior < 0:
            raise ValueError(f"the start must weigh >= 0 slots, got {prior}")
        nodes = scenario.config.num_nodes
        if nodes > MAX_TABLE_NODES:
            raise SchemeError(f"schemes on delay tables need at most {MAX_TABLE_NODES} nodes, got {nodes}")
        self._scenario, self._weight, self._prior = scenario, weight, prior
        self.delay_s = np.zeros((scenario.catalog.num_blocks, 2**nodes))
        """Average delay of each block under each set of holders, (blocks, 2^nodes), s."""

    def observe(self, observation: Observation) -> None:
        """Take in the table of the slot that has just passed; before the first, the start."""
        slot = observation.slot
        if slot:
            newest = observation.history.planning_table(slot - 1)
            self.delay_s += max(self._weight, 1 / (slot + self._prior)) * (newest - self.delay_s)
        elif self._prior:
            self.delay_s = know_nothing_table(self._scenario, observation.history.rules).copy()

    def with_update(self, before: Bool, update: float = 1.0) -> Float:
        """Average delay plus `update` times the cost of getting there from placement `before`.

        A copy usually serves more than one slot, so `update` below 1 can be the better bet.

        Returns:
            (blocks, 2^nodes), s.
        """
        return self.delay_s + update * update_table(self._scenario, before)


@lru_cache(maxsize=8)
def know_nothing_table(scenario: Scenario, rules: ServiceRules, samples: int = 48) -> Float:
    """Mean delay table over slots in which users are anywhere and ask for any model, (blocks, 2^nodes), s.

    The draws are fixed and every second user asks: a constant of the scenario, with its cheap radio.
    """
    rng, config, catalog = np.random.default_rng(0), scenario.config, scenario.catalog
    shape = (samples, config.num_users)
    nodes = grid_nodes(config.num_nodes, config.area_m)
    places = rng.uniform(0.0, config.area_m, (*shape, 2))
    asked = np.where(rng.random(shape) < 0.5, rng.integers(catalog.num_models, size=shape), -1)
    return mean_table(scenario, rules, nodes, places, asked)


def mean_table(
    scenario: Scenario,
    rules: ServiceRules,
    node_xy: Float,
    places: Float,
    asked: Int,
    kept: Bool | None = None,
) -> Float:
    """Mean delay table of imagined slots for planning, with the scenario's cheap radio.

    Args:
        scenario: Catalog, radio and wires.
        rules: How slots are served.
        node_xy: Places of the nodes, (nodes, 2), m.
        places: Places of the users, (slots, users, 2), m.
        asked: Model each user asks for, -1 for none, (slots, users).
        kept: Blocks that devices have already, (users, blocks).

    Returns:
        (blocks, 2^nodes), s.
    """
    config, catalog = scenario.config, scenario.catalog
    radio = ProxyDelay(
        snr=link_snr(node_xy, places, config.radio),
        bandwidth_hz=config.radio.bandwidth_hz,
        coherent=config.radio.combining == "coherent",
    )
    total = np.zeros((catalog.num_blocks, 2**config.num_nodes))
    for slot, row in enumerate(asked):
        needs = catalog.members[np.maximum(row, 0)] & (row >= 0)[:, None]
        needs = needs if kept is None else needs & ~kept
        sizes, nodes = catalog.sizes_bytes, config.num_nodes
        total += delay_table(radio, slot, needs, sizes, nodes, config.planning_links, rules).cost_s
    return total / len(asked)


def update_table(scenario: Scenario, before: Bool) -> Float:
    """Weighted time to bring each block from where it is to each set of nodes, (blocks, 2^nodes), s."""
    config, sets = scenario.config, np.arange(2**scenario.config.num_nodes)
    sizes = scenario.catalog.sizes_bytes[:, None]
    return config.update_weight * update_seconds(
        to_masks(before)[:, None], sets[None, :], sizes, config.links
    )


def fill(scenario: Scenario, scores: Float, before: Bool, floor: float = -np.inf) -> Bool:
    """`fill_by_score` with the capacities and the update budget of a scenario."""
    return fill_by_score(
        scores,
        scenario.catalog.sizes_bytes,
        scenario.capacity_bytes,
        before,
        scenario.config.update_budget_bytes,
        floor,
    )


def settle(scenario: Scenario, wanted: Bool, before: Bool, scores: Float | None = None) -> Bool:
    """Make a wanted placement fit: wanted blocks first, then whatever is cached already and still has room.

    Args:
        scenario: Capacities and budget.
        wanted: What the scheme would like to cache, (nodes, blocks).
        before: Placement now, (nodes, blocks).
        scores: Which wanted block matters more, (nodes, blocks); None: those cached already first.

    Returns:
        Placement within capacity and budget, (nodes, blocks).
    """
    order = np.zeros(wanted.shape) if scores is None else scores / (1.0 + np.abs(scores).max(initial=0.0)) / 4
    return fill(scenario, 2.0 * wanted + before + order * wanted, before, floor=0.5)


def central_message_bytes(scenario: Scenario) -> int:
    """Bytes per slot if one node decides for all: requests and places in, one bit per block and node out."""
    others = scenario.config.num_nodes - 1
    reports = REQUEST_BYTES * scenario.config.num_users * others // scenario.config.num_nodes
    return reports + others * -(-scenario.catalog.num_blocks // 8)
