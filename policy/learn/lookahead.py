"""What it is worth tomorrow that a block is here today: dynamic programming on each block's set of nodes.

Changing the caches costs transfer time, so a copy is worth more than what it saves in the next slot. Given
a price of each node's bytes, blocks no longer compete, and the best course of each block over the next
slots is a Bellman recursion on its 2^nodes sets (Lagrangian decomposition as in Whittle, 1988, on
forecasts instead of a known process).
"""

from dataclasses import dataclass

import numpy as np

from policy.config import LinkConfig
from policy.interfaces import Float
from policy.tables import mask_bits
from policy.updates import update_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LookaheadConfig:
    """How far to look ahead and how much to trust it."""

    horizon: int = 8
    """Slots after the next; 0 looks at the next slot only."""
    discount: float = 0.75
    """Weight of each slot relative to the one before."""
    trust: float = 0.3
    """How fast a forecast of the next slot turns into the long-run mean, a slot; 1: it stays."""

    def __post_init__(self) -> None:
        if self.horizon < 0:
            raise ValueError(f"horizon must be >= 0, got {self.horizon}")
        for name in ("discount", "trust"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


class Lookahead:
    """Adds to a forecast of the next slot what follows from it."""

    def __init__(self, nodes: int, links: LinkConfig, update_weight: float, config: LookaheadConfig) -> None:
        sets = np.arange(2**nodes)
        self.config = config
        self.update = update_weight * update_seconds(sets[:, None], sets[None, :], np.array(1 / 8), links)
        """Weighted time to change a set of nodes into another, a bit, (from, to), s."""
        self._bits = mask_bits(nodes).astype(np.float64)

    def values(self, forecast: Float, long_run: Float, prices: Float) -> Float:
        """Seconds of the next slot and what they lead to, a bit, (classes, 2^nodes).

        Args:
            forecast: Expected seconds a bit of the next slot, (classes, 2^nodes).
            long_run: The same of a slot far ahead.
            prices: Worth of room at each node, s a bit, (nodes,).
        """
        near_s, far_s = np.ascontiguousarray(forecast.T), np.ascontiguousarray(long_run.T)
        rent, change = (self._bits @ prices)[:, None], self.update.T[:, :, None]
        follow = np.zeros_like(near_s)
        for ahead in range(self.config.horizon, 0, -1):
            near = self.config.trust**ahead
            stay = near * near_s + (1 - near) * far_s + rent + self.config.discount * follow
            follow = (stay[:, None, :] + change).min(axis=0)  # over sets to change to
        return np.ascontiguousarray((near_s + self.config.discount * follow).T)
