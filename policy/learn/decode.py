"""From values to a placement that fits: greedy by value a byte, then swaps as long as they pay."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.placing import greedy_masks
from policy.tables import from_masks


def decode(
    table_s: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    swaps: int = 40,
    joint: bool = False,
) -> tuple[Bool, Float]:
    """Choose which node caches which block.

    Args:
        table_s: Cost of each block under each set of nodes, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now; what a node keeps costs no budget. None: all empty.
        budget_bytes: Most bytes a node may add.
        swaps: Most swaps after the greedy start; 0 for plain greedy.
        joint: Whether one greedy step may give a block to several nodes, see `greedy_masks`.

    Returns:
        Placement, (nodes, blocks), never worse than plain greedy; and the price of room at each node,
        (nodes,), s a byte: what the least useful cached byte saves, 0 where there is room left for all.
    """
    nodes, sizes = capacity_bytes.size, np.asarray(sizes_bytes, dtype=np.float64)
    price = np.tile(sizes, (nodes, 1)) if before is None else np.where(before, 0.0, sizes)
    masks = greedy_masks(table_s, sizes_bytes, capacity_bytes, before, budget_bytes, joint)
    search = _Swaps(table_s, sizes, masks, price, capacity_bytes, budget_bytes)
    for _ in range(swaps):
        if not search.step():
            break
    return from_masks(search.masks, nodes), search.prices()


class _Swaps:
    """Local search: let a block in at a node and, to make room, the blocks out that save least a byte."""

    def __init__(
        self, table_s: Float, sizes: Float, masks: Int, price: Float, capacity_bytes: Float, budget: float
    ) -> None:
        nodes, blocks = price.shape
        self._table, self._sizes, self._price, self.masks = table_s.ravel(), sizes, price, masks
        self._ones = (1 << np.arange(nodes))[:, None]
        self._start = np.arange(blocks) * table_s.shape[1]
        held = (masks & self._ones) != 0
        self._room = capacity_bytes - held @ sizes
        self._budget = budget - (held * price).sum(axis=1)

    def _worth(self) -> tuple[Bool, Float]:
        """What is held, and seconds that each (node, block) copy saves or would save, (nodes, blocks)."""
        held = (self.masks & self._ones) != 0
        flipped = self._table[self._start + (self.masks ^ self._ones)]
        now = self._table[self._start + self.masks]
        return held, np.where(held, flipped - now, now - flipped)

    def step(self) -> bool:
        """Do the best swap found; False when none pays."""
        held, worth = self._worth()
        density = worth / self._sizes
        wish = np.where(held | (self._price > self._budget[:, None]), -np.inf, density)
        best, node, change = 1e-12, -1, None
        for place, block in enumerate(wish.argmax(axis=1).tolist()):
            if wish[place, block] <= 0:
                continue
            out = self._make_room(place, block, held[place], density[place])
            if out is None:
                continue
            net = float(worth[place, block] - worth[place, out].sum())
            if net > best:
                best, node, change = net, place, (block, out)
        if change is None:
            return False
        self._apply(node, *change)
        return True

    def _make_room(self, node: int, block: int, held: Bool, density: Float) -> Int | None:
        """Held blocks that must go for `block`, cheapest a byte first; None if it cannot fit."""
        missing = self._sizes[block] - self._room[node]
        if missing <= 0:
            return np.zeros(0, dtype=np.int64)
        inside = np.flatnonzero(held)
        order = inside[np.argsort(density[inside], kind="stable")]
        freed = np.cumsum(self._sizes[order])
        count = int(np.searchsorted(freed, missing - 1e-6)) + 1
        return None if count > order.size else order[:count]

    def _apply(self, node: int, block: int, out: Int) -> None:
        one = int(self._ones[node, 0])
        self.masks[out] &= ~one
        self.masks[block] |= one
        self._room[node] += self._sizes[out].sum() - self._sizes[block]
        self._budget[node] += self._price[node, out].sum() - self._price[node, block]

    def prices(self) -> Float:
        """Seconds that the least useful cached byte of each node saves, (nodes,)."""
        held, worth = self._worth()
        density = np.where(held, worth / self._sizes, np.inf).min(axis=1)
        wished = np.where(held, 0.0, worth / self._sizes).max(axis=1)
        return np.where(np.isfinite(density) & (wished > 0), np.maximum(density, 0.0), 0.0)
