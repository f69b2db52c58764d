"""A placement that the links can bring: greedy by value a byte, with room, idle link time and budget.

What `policy.slot.updates.bring` could not bring would be cut, and the caches would hold what is left of two
plans. So copies that are not at hand are only planned as far as the node's idle time goes.
"""

from heapq import heapify, heappop, heapreplace

import numpy as np

from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.slot.updates import UpdateRoom


def reachable_masks(
    table_s: Float, sizes_bytes: Int, capacity_bytes: Float, room: UpdateRoom, links: LinkConfig
) -> Int:
    """Add the copies that save most seconds per byte, as long as room and links hold them.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        room: Copies at hand, which take no link time; idle time and budget of each node for the others. The
            first copy of a block that is at hand nowhere comes from the cloud.
        links: Backhaul and cloud.

    Returns:
        Holders of each block as integers, (blocks,). Ties go to the lowest node, then the lowest block.
    """
    fill = _Filling(table_s, sizes_bytes, capacity_bytes, room, links)
    ones = 1 << np.arange(capacity_bytes.size)
    most = (table_s[:, :1] - table_s[:, ones]).max(axis=1) / sizes_bytes
    heap = [(-worth, block) for block, worth in enumerate(most.tolist()) if worth > 0]
    heapify(heap)
    while heap:
        worth, block = heap[0]
        gain, node = fill.best(block)
        if node >= 0 and gain >= -worth * (1 - 1e-9):
            fill.add(block, node)
            gain, node = fill.best(block)
        if node < 0:
            heappop(heap)
        else:
            heapreplace(heap, (-gain, block))
    return np.array(fill.masks, dtype=np.int64)


def keep_at_hand(holds: Bool, at_hand: Bool, worth: Float, sizes_bytes: Int, capacity_bytes: Float) -> None:
    """Fill what room is left with copies that are at hand, best first; in place.

    Args:
        holds: Placement, (nodes, blocks).
        at_hand: Copies that cost nothing, (nodes, blocks).
        worth: How good each is, (nodes, blocks).
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
    """
    sizes = sizes_bytes.tolist()
    for node in range(holds.shape[0]):
        room = float(capacity_bytes[node] - holds[node] @ sizes_bytes)
        old = np.flatnonzero(at_hand[node] & ~holds[node])
        for block in old[np.argsort(-worth[node, old], kind="stable")].tolist():
            if sizes[block] <= room:
                holds[node, block] = True
                room -= sizes[block]


class _Filling:
    """Room, link time and budget as they are used up."""

    def __init__(
        self, table_s: Float, sizes_bytes: Int, capacity_bytes: Float, room: UpdateRoom, links: LinkConfig
    ) -> None:
        self.masks = [0] * sizes_bytes.size
        self._table: list[list[float]] = table_s.tolist()
        self._size: list[int] = sizes_bytes.tolist()
        self._room: list[float] = capacity_bytes.tolist()
        self._idle: list[float] = room.idle_s.tolist()
        self._budget = [room.budget_bytes] * len(self._room)
        self._hand: list[list[bool]] = room.at_hand.T.tolist()
        there: Bool = np.asarray(room.at_hand.any(axis=0))
        self._there: list[bool] = there.tolist()
        self._hop, self._cloud = 8.0 / links.backhaul_bit_s, 8.0 / links.cloud_bit_s

    def best(self, block: int) -> tuple[float, int]:
        """Seconds saved per byte by the best copy that can be had, and its node; -1 if none helps."""
        held, row, size, hand = self.masks[block], self._table[block], self._size[block], self._hand[block]
        seconds, now, most, best = self._seconds(block), row[self.masks[block]], 0.0, -1
        for node, room in enumerate(self._room):
            gain = now - row[held | 1 << node]
            if gain <= most or held >> node & 1 or size > room:
                continue
            if hand[node] or (seconds <= self._idle[node] and size <= self._budget[node]):
                most, best = gain, node
        return most / size, best

    def add(self, block: int, node: int) -> None:
        """Take a copy."""
        self._room[node] -= self._size[block]
        if not self._hand[block][node]:
            self._idle[node] -= self._seconds(block)
            self._budget[node] -= self._size[block]
        self._there[block] = True
        self.masks[block] |= 1 << node

    def _seconds(self, block: int) -> float:
        """Link time of one more copy, s."""
        return self._size[block] * (self._hop if self._there[block] else self._cloud)
