"""Price decoding: nodes put a price on their bytes, every block buys its best set of nodes, prices clear."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.place.greedy import greedy_placement
from policy.place.worth import worth_in_turn
from policy.play.scheme import Observation, Placement, SchemeEntry
from policy.scenario import Scenario
from policy.schemes.estimates import AveragedTable, central_message_bytes, settle
from policy.slot.tables import from_masks, mask_bits, to_masks


def clear_prices(table_s: Float, sizes_bytes: Int, capacity_bytes: Float, rounds: int = 40) -> Float:
    """Prices at which demand about meets capacity: subgradient ascent on the Lagrangian dual.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        rounds: Steps.

    Returns:
        Prices, (nodes,), s per byte, >= 0; the ones with the highest dual value.
    """
    bits = mask_bits(capacity_bytes.size).astype(np.float64)
    sizes = sizes_bytes.astype(np.float64)
    prices, best, best_dual = np.zeros(capacity_bytes.size), np.zeros(capacity_bytes.size), -np.inf
    scale = float((table_s[:, 0] - table_s.min(axis=1)).sum() / max(capacity_bytes.sum(), 1.0))
    for turn in range(rounds):
        costs = table_s + sizes[:, None] * (bits @ prices)[None, :]
        pick = costs.argmin(axis=1)
        dual = float(costs[np.arange(sizes.size), pick].sum() - prices @ capacity_bytes)
        if dual > best_dual:
            best, best_dual = prices, dual
        over = (sizes @ bits[pick] - capacity_bytes) / capacity_bytes
        prices = np.maximum(0.0, prices + scale * over / (1.0 + 0.25 * turn))
    return best


def price_placement(
    table_s: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    rounds: int = 40,
) -> Bool:
    """Placement decoded from prices: buy, drop what does not fit, fill up; never worse than plain greedy.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now; what a node keeps costs no budget. None: all empty.
        budget_bytes: Most bytes a node may add.
        rounds: Steps of the price search.

    Returns:
        Placement, (nodes, blocks).
    """
    nodes, rows = capacity_bytes.size, np.arange(sizes_bytes.size)
    kept = np.zeros((nodes, rows.size), dtype=bool) if before is None else before
    prices = clear_prices(table_s, sizes_bytes, capacity_bytes, rounds)
    costs = table_s + sizes_bytes[:, None] * (mask_bits(nodes) @ prices)[None, :]
    bought = _fit(table_s, costs.argmin(axis=1), sizes_bytes, capacity_bytes, kept, budget_bytes)
    filled = _top_up(table_s, bought, sizes_bytes, capacity_bytes, kept, budget_bytes)
    plain = greedy_placement(table_s, sizes_bytes, capacity_bytes, kept, budget_bytes)
    worth = [float(table_s[rows, to_masks(placement)].sum()) for placement in (filled, plain)]
    return filled if worth[0] < worth[1] else plain


def _fit(
    table_s: Float, masks: Int, sizes_bytes: Int, capacity_bytes: Float, kept: Bool, budget_bytes: float
) -> Bool:
    """Drop the copies that are worth least per byte until every node is within capacity and budget."""
    nodes = capacity_bytes.size
    rows, ones = np.arange(masks.size), 1 << np.arange(nodes)
    without = masks[None, :] & ~ones[:, None]
    worth = (table_s[rows[None, :], without] - table_s[rows, masks][None, :]) / sizes_bytes
    held = from_masks(masks, nodes)
    for node in range(nodes):
        room, budget = float(capacity_bytes[node]), float(budget_bytes)
        for block in np.argsort(-worth[node], kind="stable"):
            size = float(sizes_bytes[block])
            price = 0.0 if kept[node, block] else size
            if held[node, block] and size <= room and price <= budget:
                room, budget = room - size, budget - price
            else:
                held[node, block] = False
    return held


def _top_up(
    table_s: Float, held: Bool, sizes_bytes: Int, capacity_bytes: Float, kept: Bool, budget_bytes: float
) -> Bool:
    """Add copies greedily to what is held, in the room and budget that are left."""
    nodes = capacity_bytes.size
    masks, sizes = to_masks(held), sizes_bytes.astype(np.float64)
    rows, ones = np.arange(masks.size), 1 << np.arange(nodes)
    room = capacity_bytes - held @ sizes
    budget = budget_bytes - (held & ~kept) @ sizes
    price = np.where(kept, 0.0, sizes)
    while True:
        gain = table_s[rows, masks][None, :] - table_s[rows[None, :], masks[None, :] | ones[:, None]]
        fits = (sizes[None, :] <= room[:, None]) & (price <= budget[:, None])
        density = np.where(fits & (gain > 0), gain / sizes, 0.0)
        node, block = divmod(int(density.argmax()), sizes.size)
        if density[node, block] <= 0:
            return from_masks(masks, nodes)
        masks[block] |= ones[node]
        room[node] -= sizes[block]
        budget[node] -= price[node, block]


class PriceDecoding:
    """The averaged table of EWMA-greedy, decoded by prices instead of greedily."""

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        weight: float = 0.1,
        update: float = 0.5,
        prior: float = 4.0,
        rounds: int = 40,
    ) -> None:
        self._scenario, self._update, self._rounds = scenario, update, int(rounds)
        self._table = AveragedTable(scenario, weight, prior)

    def decide(self, observation: Observation) -> Placement:
        """Take in the last slot's table, then let prices decide."""
        scenario, before = self._scenario, observation.at_hand
        self._table.observe(observation)
        sizes, table = scenario.catalog.sizes_bytes, self._table.with_update(before, self._update)
        holds = price_placement(
            table,
            sizes,
            scenario.capacity_bytes,
            before,
            scenario.config.update_budget_bytes,
            self._rounds,
        )
        holds = settle(scenario, holds, before)
        return Placement(
            holds=holds,
            value=worth_in_turn(table, sizes, before, holds),
            message_bytes=central_message_bytes(scenario),
        )


ENTRY = SchemeEntry(
    name="price",
    start=PriceDecoding,
    paper="Lagrangian relaxation of the capacities (Fisher, 1981) on the averaged table; ours",
)
