"""From values to a placement that fits: greedy by value a byte, then exchanges as long as they pay.

Greedy fills all nodes, and its last blocks end up where room is left, not where they serve best: on forecasts
of the prototype's scenario it costs 1.4 % more than the optimum. Mending that takes changes of two blocks at
once, one of which makes the room that the other needs. Which changes are worth pairing is told by the prices
of room (Lagrangian relaxation, Fisher, 1981): those that pay most, or cost least, when room is charged for.
"""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.place.greedy import greedy_masks
from policy.slot.tables import from_masks, mask_bits

CANDIDATES = 48
"""Changes of one block that are paired with one another in a round."""
AT_ONCE = 12
"""Most exchanges in a round."""
PRICE_STEPS = 20
"""Subgradient steps on the prices of room."""


def decode(
    table_s: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    rounds: int = 12,
    joint: bool = False,
) -> tuple[Bool, Float]:
    """Choose which node caches which block.

    Args:
        table_s: Cost of each block under each set of nodes, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now; what a node keeps costs no budget. None: all empty.
        budget_bytes: Most bytes a node may add.
        rounds: Most rounds of exchanges after the greedy start; 0 for plain greedy.
        joint: Whether one greedy step may give a block to several nodes, see `greedy_masks`.

    Returns:
        Placement, (nodes, blocks), never worse than plain greedy; and the price of room at each node,
        (nodes,), s per byte: what the least useful cached byte saves, 0 where there is room left for all.
    """
    nodes, sizes = capacity_bytes.size, np.asarray(sizes_bytes, dtype=np.float64)
    masks = greedy_masks(table_s, sizes_bytes, capacity_bytes, before, budget_bytes, joint)
    rent = np.outer(sizes, mask_bits(nodes) @ room_prices(table_s, sizes, capacity_bytes))
    load, room = np.tile(sizes[:, None], nodes), capacity_bytes
    if np.isfinite(budget_bytes):
        fresh = load if before is None else np.where(before.T, 0.0, load)
        load, room = np.hstack([load, fresh]), np.append(room, np.full(nodes, budget_bytes))
    search = _Exchanges(table_s + rent, table_s, masks, load, room)
    for _ in range(rounds):
        if not search.round():
            break
    return from_masks(search.masks, nodes), _marginal_prices(table_s, sizes, search.masks)


def room_prices(table_s: Float, sizes: Float, capacity_bytes: Float) -> Float:
    """Prices of room at which blocks, each choosing its cheapest set of nodes, about fill the nodes.

    Subgradient steps on the Lagrangian dual of the one-slot problem; the mean of the later half.

    Args:
        table_s: (blocks, 2^nodes), s.
        sizes: (blocks,), bytes.
        capacity_bytes: (nodes,).

    Returns:
        (nodes,), s per byte; 0 where there is room left for all.
    """
    bits, column = mask_bits(capacity_bytes.size).astype(np.float64), sizes[:, None]
    typical = float((table_s[:, 0] - table_s.min(axis=1)).sum() / sizes.sum())
    prices, total = np.full(capacity_bytes.size, 0.3 * typical), np.zeros(capacity_bytes.size)
    for step in range(PRICE_STEPS):
        if step >= PRICE_STEPS // 2:
            total += prices
        chosen = (table_s + column * (bits @ prices)).argmin(axis=1)
        excess = sizes @ bits[chosen] / capacity_bytes - 1.0
        prices = np.maximum(prices + typical / (step + 2) * excess, 0.0)
    return total / (PRICE_STEPS - PRICE_STEPS // 2)


def _marginal_prices(table_s: Float, sizes: Float, masks: Int) -> Float:
    """Seconds that the least useful cached byte of each node saves, (nodes,)."""
    nodes, rows = table_s.shape[1].bit_length() - 1, np.arange(masks.size)
    ones = (1 << np.arange(nodes))[:, None]
    held = (masks & ones) != 0
    change = (table_s[rows, masks ^ ones] - table_s[rows, masks]) / sizes
    least = np.where(held, change, np.inf).min(axis=1)
    wished = np.where(held, 0.0, -change).max(axis=1)
    return np.where(np.isfinite(least) & (wished > 0), np.maximum(least, 0.0), 0.0)


class _Exchanges:
    """Local search: one or two blocks at a time change their sets of holders."""

    def __init__(self, priced_s: Float, table_s: Float, masks: Int, load: Float, room: Float) -> None:
        """Start from a placement that fits.

        Args:
            priced_s: `table_s` with the rent of the room that is taken, (blocks, 2^nodes), s.
            table_s: Cost of each block under each set of nodes, (blocks, 2^nodes), s.
            masks: Sets of holders, (blocks,); changed in place.
            load: What a copy of each block takes of each resource, (blocks, resources): room at each node
                and, if it is limited, the update budget of each node.
            room: How much there is of each resource, (resources,).
        """
        nodes = table_s.shape[1].bit_length() - 1
        self.masks, self._priced, self._table, self._load = masks, priced_s, table_s, load
        self._takes = np.tile(mask_bits(nodes).astype(np.float64), load.shape[1] // nodes)
        self._rows = np.arange(masks.size)
        self._room = room - (load * self._takes[masks]).sum(axis=0)
        self._slack = 1e-9 * room

    def round(self) -> bool:
        """Make the best exchanges found that do not get in one another's way; False when none pays."""
        block, into, gain, need = self._candidates()
        both = gain[:, None] + gain
        np.fill_diagonal(both, gain)  # a change that pays and fits alone
        one, two = np.nonzero(np.triu(both > 1e-12 * np.abs(gain).max(initial=0.0)))
        apart = (one == two) | (block[one] != block[two])
        one, two = one[apart], two[apart]
        total = need[one] + np.where((one == two)[:, None], 0.0, need[two])
        fits = (total <= self._room + self._slack).all(axis=1)
        one, two, total = one[fits], two[fits], total[fits]
        best = np.argsort(-both[one, two], kind="stable")[: 8 * AT_ONCE]
        moved: set[int] = set()
        for first, second, load in zip(one[best].tolist(), two[best].tolist(), total[best], strict=True):
            pair = {int(block[first]), int(block[second])}
            if pair & moved or (load > self._room + self._slack).any():
                continue
            moved |= pair
            self._room -= load
            self.masks[block[[first, second]]] = into[[first, second]]
            if len(moved) >= 2 * AT_ONCE:
                break
        return bool(moved)

    def _candidates(self) -> tuple[Int, Int, Float, Float]:
        """Changes of one block that pay most when room is charged for.

        Returns:
            Block, new set of holders and seconds saved, each (candidates,), and what the change takes of
            each resource, (candidates, resources).
        """
        worth = self._priced[self._rows, self.masks][:, None] - self._priced
        worth[self._rows, self.masks] = -np.inf
        count = min(CANDIDATES, worth.size - self.masks.size)
        top = np.argpartition(worth.ravel(), worth.size - count)[worth.size - count :]
        block, into = np.divmod(top, worth.shape[1])
        held = self.masks[block]
        gain = self._table[block, held] - self._table[block, into]
        return block, into, gain, self._load[block] * (self._takes[into] - self._takes[held])
