"""What one slot leaves to the next: work not done, idle link time, copies at hand; and how busy all was."""

from dataclasses import dataclass, field

import numpy as np

from policy.interfaces import Bool, Float
from policy.slot.timeline import Broadcast, Transfer, busy_s
from policy.slot.updates import CacheUpdate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Carried:
    """State between two slots. Times count from the start of the coming slot."""

    link_free_s: Float
    """When each node's incoming link is free, (nodes,), s."""
    band_free_s: float
    """When the band is free, s."""
    idle_s: Float
    """Time that each node's incoming link stood idle in the slot before, (nodes,), s: for cache updates."""
    fetched: Bool
    """Copies that nodes fetched to serve the slot before, (nodes, blocks): they may stay for nothing."""

    @classmethod
    def first(cls, nodes: int, blocks: int, idle_s: float) -> "Carried":
        """Before the first slot: nothing to do, and one idle slot to fill the caches in."""
        return cls(
            link_free_s=np.zeros(nodes),
            band_free_s=0.0,
            idle_s=np.full(nodes, idle_s),
            fetched=np.zeros((nodes, blocks), dtype=bool),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotLoad:
    """Work that one slot gave to band and links, and what it left undone."""

    band_s: float = 0.0
    """Time on the air of all broadcasts, s."""
    backhaul_s: Float = field(default_factory=lambda: np.zeros(0))
    """Time of each node's incoming link for copies from nodes, updates before the slot included, (nodes,)."""
    cloud_s: Float = field(default_factory=lambda: np.zeros(0))
    """The same for copies from the cloud."""
    band_backlog_s: float = 0.0
    """Work of the band that is left when the slot ends, s."""
    link_backlog_s: Float = field(default_factory=lambda: np.zeros(0))
    """The same for each node's incoming link, (nodes,), s."""


def carry(
    carried: Carried,
    transfers: tuple[Transfer, ...],
    broadcasts: tuple[Broadcast, ...],
    slot_s: float,
    *,
    backlog: bool,
) -> Carried:
    """What is left at a slot's end.

    Args:
        carried: What the slot before had left.
        transfers: All of the slot, in times from its start.
        broadcasts: All of the slot.
        slot_s: Length of a slot, s.
        backlog: Whether work that is not done is carried on; off: it is forgotten.
    """
    free, busy = carried.link_free_s.copy(), np.minimum(carried.link_free_s, slot_s)
    fetched = np.zeros_like(carried.fetched)
    for move in transfers:
        free[move.target] = max(free[move.target], move.end_s)
        busy[move.target] += max(0.0, min(move.end_s, slot_s) - max(move.start_s, 0.0))
        fetched[move.target, move.block] = True
    band = max((cast.end_s for cast in broadcasts), default=carried.band_free_s)
    left = 1.0 if backlog else 0.0
    return Carried(
        link_free_s=left * np.maximum(free - slot_s, 0.0),
        band_free_s=left * max(band - slot_s, 0.0),
        idle_s=np.maximum(slot_s - np.minimum(busy, slot_s), 0.0),
        fetched=fetched,
    )


def load_of(
    transfers: tuple[Transfer, ...],
    broadcasts: tuple[Broadcast, ...],
    update: CacheUpdate,
    after: Carried,
) -> SlotLoad:
    """Work of a slot, the update before it included, and what it left (`after`)."""
    nodes = after.link_free_s.size
    none = np.zeros(nodes)
    backhaul = none + update.backhaul_s if update.backhaul_s.size else none.copy()
    cloud = none + update.cloud_s if update.cloud_s.size else none.copy()
    for move in transfers:
        (cloud if move.source < 0 else backhaul)[move.target] += move.end_s - move.start_s
    return SlotLoad(
        band_s=busy_s(broadcasts),
        backhaul_s=backhaul,
        cloud_s=cloud,
        band_backlog_s=after.band_free_s,
        link_backlog_s=after.link_free_s,
    )
