"""From scores or tables to a placement that fits: deterministic, never a penalty."""

from heapq import heapify, heappop, heapreplace

import numpy as np

from policy.errors import DivergedError
from policy.interfaces import Bool, Float, Int
from policy.slot.tables import from_masks

Moves = list[tuple[int, int]]
"""Sets of nodes that one step may add, and how many nodes each has."""


def fill_by_score(
    scores: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    floor: float = -np.inf,
) -> Bool:
    """Each node takes blocks from its best score down, skipping what does not fit; ties by block number.

    Args:
        scores: (nodes, blocks).
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now, (nodes, blocks); what a node keeps costs no budget. None: all empty.
        budget_bytes: Most bytes a node may add.
        floor: Only scores above this are taken.

    Returns:
        Placement, (nodes, blocks).

    Raises:
        DivergedError: If a score is NaN.
    """
    nodes, blocks = scores.shape
    _refuse_nan(scores, "score of node {}, block {}")
    ranks = np.argsort(-scores, axis=1, kind="stable")
    sizes = np.asarray(sizes_bytes, dtype=np.float64).tolist()
    holds = np.zeros((nodes, blocks), dtype=bool)
    for node in range(nodes):
        room, budget = float(capacity_bytes[node]), float(budget_bytes)
        kept = before[node] if before is not None else None
        taken = []
        good = scores[node] > floor
        for block in ranks[node].tolist():
            if not good[block]:
                break
            size = sizes[block]
            price = 0.0 if kept is not None and kept[block] else size
            if size <= room and price <= budget:
                room -= size
                budget -= price
                taken.append(block)
        holds[node, taken] = True
    return holds


def _refuse_nan(values: Float, what: str) -> None:
    """NaN would be ranked somewhere: whoever computed it has to know."""
    bad = np.argwhere(np.isnan(values))
    if len(bad):
        raise DivergedError(f"the {what.format(*bad[0].tolist())} is not a number ({len(bad)} are not)")


def greedy_placement(
    table_s: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    joint: bool = False,
) -> Bool:
    """Add the copies that save most seconds per byte until nothing fits or helps; see `greedy_masks`.

    Returns:
        Placement, (nodes, blocks).
    """
    masks = greedy_masks(table_s, sizes_bytes, capacity_bytes, before, budget_bytes, joint)
    return from_masks(masks, capacity_bytes.size)


def greedy_masks(
    table_s: Float,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool | None = None,
    budget_bytes: float = np.inf,
    joint: bool = False,
) -> Int:
    """Add the copies that save most seconds per byte until nothing fits or helps.

    A heap holds the best step of each block alone. A step changes nothing for other blocks but room, which
    only shrinks, so an entry is at worst too high: it is looked at again when it comes up.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s; update costs included by
            the caller.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now; what a node keeps costs no budget. None: all empty.
        budget_bytes: Most bytes a node may add.
        joint: Whether one step may give a block to several nodes at once. With migration both place alike;
            without it one copy at a bad node may hurt and three may help, as amplitudes add up, and single
            steps stop too early.

    Returns:
        Holders of each block as integers, (blocks,). Ties go to the lowest nodes, then the lowest block.
    """
    nodes, blocks = capacity_bytes.size, sizes_bytes.size
    if table_s.shape != (blocks, 2**nodes):
        raise ValueError(f"need a table of shape {(blocks, 2**nodes)}, got {table_s.shape}")
    _refuse_nan(table_s, "cost of block {} under holders {}")
    sizes = np.asarray(sizes_bytes, dtype=np.float64)
    price = np.tile(sizes, (nodes, 1)) if before is None else np.where(before, 0.0, sizes)
    room, budget, cost = capacity_bytes.tolist(), [budget_bytes] * nodes, price.T.tolist()
    steps = np.arange(1, 2**nodes) if joint else 1 << np.arange(nodes)
    heap, moves = _first_steps(table_s, sizes, steps)
    table, size, masks = table_s.tolist(), sizes.tolist(), [0] * blocks
    while heap:
        step, block = divmod(heap[0][1], blocks)
        need, prices = size[block], cost[block]
        shut = masks[block] | _full(need, prices, room, budget)
        if not step & shut:
            for node in range(nodes):
                if step >> node & 1:
                    room[node] -= need
                    budget[node] -= prices[node]
            masks[block] |= step
            shut |= step
        worth, step = _best_step(table[block], masks[block], shut, need, moves)
        if step:
            heapreplace(heap, (-worth, step * blocks + block))
        else:
            heappop(heap)
    return np.array(masks, dtype=np.int64)


def _first_steps(table_s: Float, sizes: Float, steps: Int) -> tuple[list[tuple[float, int]], Moves]:
    """Heap of each block's best step from no holder: (-seconds saved per byte, step x blocks + block)."""
    copies = np.bitwise_count(steps).astype(np.int64)
    gain = (table_s[:, :1] - table_s[:, steps]) / (copies * sizes[:, None])
    best, most = steps[gain.argmax(axis=1)], gain.max(axis=1)
    useful = np.flatnonzero(most > 0)
    places = best[useful] * sizes.size + useful
    heap = list(zip((-most[useful]).tolist(), places.tolist(), strict=True))
    heapify(heap)
    return heap, list(zip(steps.tolist(), copies.tolist(), strict=True))


def _best_step(row: list[float], held: int, shut: int, size: float, moves: Moves) -> tuple[float, int]:
    """Most seconds saved per byte by a step on nodes that are not shut, and that step; 0 if none helps."""
    most, best = 0.0, 0
    for step, count in moves:
        if step & shut:
            continue
        worth = (row[held] - row[held | step]) / (count * size)
        if worth > most:
            most, best = worth, step
    return most, best


def _full(size: float, prices: list[float], room: list[float], budget: list[float]) -> int:
    """Nodes that cannot take a block, as an integer."""
    masks = 0
    for node, price in enumerate(prices):
        if size > room[node] or price > budget[node]:
            masks |= 1 << node
    return masks
