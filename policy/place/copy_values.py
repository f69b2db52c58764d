"""Placement for any number of nodes: the value of a copy split into parts that add up.

Let B be the nodes that would send a block if nobody cached it. Caching it at C costs about

    air(B) + S/R_bh x |B - C| + [C empty] x (S/R_cloud - S/R_bh),

so each node of B that caches the block saves one copy over the backhaul, and the first copy
anywhere saves the cloud. What is left out: nodes outside B that, once they cache the block, send along.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, DelayModel, Float, Int
from policy.place.greedy import fill_by_score
from policy.place.holders import greedy_holders
from policy.scenario import Scenario
from policy.slot.problem import SlotProblem
from policy.slot.tables import ServiceRules


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopyValues:
    """Value of copies, s."""

    copy_s: Float
    """Saved by a copy at a node, whoever else has one, (nodes, blocks)."""
    first_s: Float
    """Saved besides by the first copy anywhere, (blocks,)."""

    def blend(self, newest: "CopyValues", weight: float) -> "CopyValues":
        """Average with `weight` on the newest."""
        return CopyValues(
            copy_s=self.copy_s + weight * (newest.copy_s - self.copy_s),
            first_s=self.first_s + weight * (newest.first_s - self.first_s),
        )


def slot_copy_values(
    scenario: Scenario, delay: DelayModel, slot: int, needs: Bool, rules: ServiceRules | None = None
) -> CopyValues:
    """Value of copies in one slot.

    Args:
        scenario: Sizes and links.
        delay: The radio.
        slot: Slot of the trace.
        needs: Which user misses which block, (users, blocks).
        rules: Ablations.
    """
    links, nodes = scenario.config.planning_links, scenario.config.num_nodes
    bits = 8.0 * scenario.catalog.sizes_bytes.astype(np.float64)
    problem = SlotProblem(
        slot=slot,
        sizes_bytes=scenario.catalog.sizes_bytes,
        delay=delay,
        asked=np.asarray(needs.any(axis=1)),
        needs=needs,
        cached=np.zeros((nodes, bits.size), dtype=bool),
        links=scenario.config.links,
        timing=scenario.config.timing,
        rules=rules or ServiceRules(),
    )
    hop_weight = scenario.config.links.backhaul_bit_s / links.backhaul_bit_s
    senders = greedy_holders(problem, hop_weight)
    hop, cloud = bits / links.backhaul_bit_s, bits / links.cloud_bit_s
    return CopyValues(copy_s=senders * hop, first_s=needs.any(axis=0) * (cloud - hop))


def place_by_copy_values(
    values: CopyValues,
    sizes_bytes: Int,
    capacity_bytes: Float,
    before: Bool,
    budget_bytes: float = np.inf,
    update_s: tuple[Float, Float] | None = None,
) -> Bool:
    """Take copies by seconds saved per byte: first copies at their best node, further ones where they save.

    Args:
        values: Value of copies.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now; what a node keeps costs neither budget nor update.
        budget_bytes: Most bytes a node may add.
        update_s: Cost of adding a copy where some node has one now, and where none has, both (blocks,), s.

    Returns:
        Placement, (nodes, blocks).
    """
    sizes = np.asarray(sizes_bytes, dtype=np.float64)
    value = values.copy_s.copy()
    if update_s is not None:
        price = np.where(before.any(axis=0), *update_s)
        value -= np.where(before, 0.0, price)
    first = value + values.first_s
    best, rows = first.argmax(axis=0), np.arange(sizes.size)
    density = value / sizes
    density[best, rows] = first[best, rows] / sizes
    holds = fill_by_score(density, sizes_bytes, capacity_bytes, before, budget_bytes, floor=0.0)
    room = capacity_bytes - holds @ sizes
    budget = budget_bytes - (holds & ~before) @ sizes
    _rescue(holds, first, room, budget, before, sizes)
    return holds


def _take(holds: Bool, room: Float, budget: Float, before: Bool, sizes: Float, node: int, block: int) -> bool:
    """Add a copy if it fits; tells whether it did."""
    size = sizes[block]
    price = 0.0 if before[node, block] else size
    if holds[node, block] or size > room[node] or price > budget[node]:
        return False
    holds[node, block] = True
    room[node] -= size
    budget[node] -= price
    return True


def _rescue(holds: Bool, first: Float, room: Float, budget: Float, before: Bool, sizes: Float) -> None:
    """Blocks whose best node was full go to the best node that still has room, most saved per byte first."""
    gain = first.max(axis=0) / sizes
    lost = np.flatnonzero(~holds.any(axis=0) & (gain > 0))
    for block in lost[np.argsort(-gain[lost], kind="stable")].tolist():
        for node in np.argsort(-first[:, block], kind="stable").tolist():
            if first[node, block] <= 0 or _take(holds, room, budget, before, sizes, node, block):
                break
