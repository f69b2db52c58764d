"""Which sets of nodes may hold a block when it is sent."""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Bool, Int
from policy.place.holders import growing_sets
from policy.slot.problem import SlotProblem
from policy.slot.rates import AirTimes
from policy.slot.tables import MAX_TABLE_NODES, mask_bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """Options of each parcel; see `Freight`."""

    holders: Bool
    first: Int
    valid: Bool


def holder_choices(cached: Bool, needs: Bool, problem: SlotProblem, air: AirTimes) -> Choices:
    """All supersets of the caching nodes for few nodes, sets grown node by node for many.

    The first option copies nothing where somebody caches the block.

    Args:
        cached: Caching nodes of each parcel, (parcels, nodes).
        needs: Users of each parcel, (parcels, users).
        problem: The slot.
        air: Its radio.
    """
    alike = np.concatenate([cached, needs], axis=1) if cached.shape[1] > MAX_TABLE_NODES else cached
    _, row, back = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    if cached.shape[1] > MAX_TABLE_NODES:
        lists = growing_sets(cached[row], needs[row], air.delay, air.slot, problem.rules)
    else:
        lists = [_supersets(held) for held in cached[row]]
    nodes, most = cached.shape[1], max(len(options) for options in lists)
    holders = np.zeros((row.size, most, nodes), dtype=bool)
    first = np.full((row.size, most), -1, dtype=np.int64)
    valid = np.zeros((row.size, most), dtype=bool)
    for at, options in enumerate(lists):
        for option, (members, cloud) in enumerate(options):
            holders[at, option], first[at, option], valid[at, option] = members, cloud, True
    back = back.reshape(-1)
    return Choices(holders=holders[back], first=first[back], valid=valid[back])


def _supersets(cached: Bool) -> list[tuple[Bool, int]]:
    """Sets that contain the caching nodes, smallest first, with every node that may fetch the first copy."""
    bits = mask_bits(cached.size)
    sets = bits[(bits >= cached).all(axis=1) & bits.any(axis=1)]
    sets = sets[np.argsort(sets.sum(axis=1), kind="stable")]
    if cached.any():
        return [(members, -1) for members in sets]
    return [(members, int(node)) for members in sets for node in np.flatnonzero(members)]
