"""One slot that has to be served, as one value."""

from dataclasses import dataclass, field

import numpy as np

from policy.config import LinkConfig, Timing
from policy.interfaces import Bool, DelayModel, Float, Int
from policy.slot.tables import MAX_TABLE_NODES, ServiceRules


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotProblem:
    """Who asked, who misses what, who caches what, and over which radio and wires it is to come."""

    slot: int
    """Slot of the trace; what the radio is asked about."""
    sizes_bytes: Int
    """Size of each block, (blocks,)."""
    delay: DelayModel
    """The radio."""
    asked: Bool
    """Users who asked, (users,)."""
    needs: Bool
    """Which user misses which block, (users, blocks)."""
    cached: Bool
    """Placement, (nodes, blocks)."""
    links: LinkConfig
    """Backhaul and cloud."""
    timing: Timing
    """How transfers and broadcasts overlap."""
    rules: ServiceRules = field(default_factory=ServiceRules)
    """Ablations."""
    link_free_s: Float | None = None
    """When each node's incoming link is free, (nodes,), s after the slot's start; None: at once."""
    band_free_s: float = 0.0
    """When the band is free, s after the slot's start."""
    may_fetch: Bool | None = None
    """Nodes that may fetch blocks, (nodes,); None: all. For some nodes only up to `MAX_TABLE_NODES`."""
    air_bytes: Int | None = None
    """What each block weighs on the air, (blocks,), if not its size: the form it is broadcast in."""
    wire_bytes: Int | None = None
    """What each block weighs on backhaul and cloud, (blocks,), if not its size."""
    at_once: int = 1
    """Blocks that may be on the air at once, each for users of its own; 1: one after another."""

    def __post_init__(self) -> None:
        nodes, blocks = self.cached.shape
        for name, count in (("link_free_s", nodes), ("air_bytes", blocks), ("wire_bytes", blocks)):
            values = getattr(self, name)
            if values is not None and (values.shape != (count,) or not (values >= 0).all()):
                raise ValueError(f"{name} must be ({count},) and >= 0, got {values}")
        if self.at_once < 1:
            raise ValueError(f"at_once must be >= 1, got {self.at_once}")
        if self.may_fetch is not None and (self.may_fetch.shape != (nodes,) or nodes > MAX_TABLE_NODES):
            raise ValueError(
                f"may_fetch must be ({nodes},), up to {MAX_TABLE_NODES} nodes, got {self.may_fetch}"
            )
        if not (0 <= self.band_free_s < np.inf) or np.isinf(self.links_free).any():
            raise ValueError(f"link_free_s and band_free_s must be finite and >= 0, got {self.band_free_s}")

    @property
    def num_nodes(self) -> int:
        """Nodes."""
        return int(self.cached.shape[0])

    @property
    def num_blocks(self) -> int:
        """Blocks."""
        return int(self.sizes_bytes.size)

    @property
    def wanted(self) -> Int:
        """Blocks that somebody misses, in order of their numbers."""
        return np.flatnonzero(self.needs.any(axis=0))

    @property
    def links_free(self) -> Float:
        """`link_free_s` with its default, (nodes,), s."""
        return np.zeros(self.num_nodes) if self.link_free_s is None else self.link_free_s

    def air_bits(self, blocks: Int) -> Float:
        """What some blocks weigh on the air, (blocks,), bit."""
        weights = self.sizes_bytes if self.air_bytes is None else self.air_bytes
        return np.asarray(8.0 * weights[blocks].astype(np.float64))

    def wire_bits(self, blocks: Int) -> Float:
        """What some blocks weigh on backhaul and cloud, (blocks,), bit."""
        weights = self.sizes_bytes if self.wire_bytes is None else self.wire_bytes
        return np.asarray(8.0 * weights[blocks].astype(np.float64))
