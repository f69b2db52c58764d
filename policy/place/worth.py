"""What each copy of a decided placement is worth, for links that cannot bring all of them at once."""

import numpy as np

from policy.interfaces import Bool, Float, Int
from policy.slot.tables import to_masks


def worth_in_turn(table_s: Float, sizes_bytes: Int, at_hand: Bool, wanted: Bool) -> Float:
    """Seconds saved per byte by each wanted copy, those of one block one after another, best first.

    The first copy of a block is valued alone, the second beside the first, and so on: two copies that stand
    in for one another are not both worth nothing. What is at hand and wanted counts as there from the start,
    and is valued by what would be lost without it.

    Args:
        table_s: Cost of each block under each set of holders, (blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        at_hand: Copies that nodes have, (nodes, blocks).
        wanted: Placement decided, (nodes, blocks).

    Returns:
        (nodes, blocks), s per byte; for copies that are not wanted as if they came last.
    """
    nodes, blocks = wanted.shape
    ones, rows = 1 << np.arange(nodes), np.arange(blocks)
    held, left = to_masks(wanted & at_hand), wanted & ~at_hand
    worth = table_s[rows, to_masks(wanted) & ~ones[:, None]] - table_s[rows, to_masks(wanted) | ones[:, None]]
    while left.any():
        gain = np.where(left, table_s[rows, held] - table_s[rows, held | ones[:, None]], -np.inf)
        best, some = gain.argmax(axis=0), left.any(axis=0)
        worth[best[some], rows[some]] = gain[best[some], rows[some]]
        held[some] |= ones[best[some]]
        left[best[some], rows[some]] = False
    return np.asarray(worth / sizes_bytes, dtype=np.float64)
