"""What it costs to change the caches between two slots."""

from dataclasses import dataclass

import numpy as np

from policy.config import LinkConfig
from policy.errors import PlacementError
from policy.interfaces import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUpdate:
    """Transfers that turn one placement into the next."""

    backhaul_bytes: int
    """Bytes copied from node to node."""
    cloud_bytes: int
    """Bytes fetched from the cloud: blocks that no node held before."""
    seconds: float
    """Time of all these transfers one after another, s."""


def update_seconds(before: Int, after: Int, sizes_bytes: Int, links: LinkConfig) -> Float:
    """Transfer time of each block when its set of holders changes (sets as integers).

    A first copy comes from the cloud, all others from a node.

    Returns:
        Seconds, in the common shape of `before`, `after` and `sizes_bytes`.
    """
    added = after & ~before
    fresh = (before == 0) & (added != 0)
    copies = np.bitwise_count(added.astype(np.uint64)).astype(np.float64) - fresh
    bits = 8.0 * np.asarray(sizes_bytes, dtype=np.float64)
    return np.asarray(copies * bits / links.backhaul_bit_s + fresh * bits / links.cloud_bit_s)


def cache_update(before: Bool, after: Bool, sizes_bytes: Int, links: LinkConfig) -> CacheUpdate:
    """Bytes and seconds to go from one placement to the next, both (nodes, blocks); any number of nodes."""
    added = (after & ~before).sum(axis=0)
    fresh = (added > 0) & ~before.any(axis=0)
    cloud = int(sizes_bytes[fresh].sum())
    backhaul = int(((added - fresh) * sizes_bytes).sum())
    seconds = 8.0 * cloud / links.cloud_bit_s + 8.0 * backhaul / links.backhaul_bit_s
    return CacheUpdate(backhaul_bytes=backhaul, cloud_bytes=cloud, seconds=seconds)


def check_placement(
    placement: Bool, before: Bool, sizes_bytes: Int, capacity_bytes: Float, budget_bytes: float
) -> None:
    """Refuse a placement that does not fit.

    Raises:
        PlacementError: If a node holds more than its capacity or adds more than the budget of a slot.
    """
    if placement.shape != before.shape or placement.dtype != np.bool_:
        raise PlacementError(f"a placement is bool {before.shape}, got {placement.dtype} {placement.shape}")
    held = placement @ sizes_bytes
    added = (placement & ~before) @ sizes_bytes
    for node in np.flatnonzero(held > capacity_bytes):
        raise PlacementError(f"node {node} would hold {held[node]} bytes of {capacity_bytes[node]:.0f}")
    for node in np.flatnonzero(added > budget_bytes):
        raise PlacementError(f"node {node} would add {added[node]} bytes, the budget is {budget_bytes:.0f}")
