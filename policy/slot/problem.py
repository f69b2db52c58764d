"""One slot that has to be served, as one value."""

from dataclasses import dataclass, field

import numpy as np

from policy.config import LinkConfig, Timing
from policy.interfaces import Bool, DelayModel, Float, Int
from policy.slot.tables import ServiceRules


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

    def bits(self, blocks: Int) -> Float:
        """Sizes of some blocks, (blocks,), bit."""
        return np.asarray(8.0 * self.sizes_bytes[blocks].astype(np.float64))
