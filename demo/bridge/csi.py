"""Channels that the nodes know only up to an error, and what a broadcast designed on them delivers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Design = Literal["robust", "nominal"]
"""robust: beams and rate hold for every channel in the error ball; nominal: as if the estimate were exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiError:
    """How far off the nodes' channel estimates may be, and whether the beams are designed for it."""

    size: float = 0.0
    """Radius of the ball around each link's estimate that holds the true channel."""
    kind: Literal["relative", "absolute"] = "relative"
    """`size` as a share of the norm of the link's channel over the node's antennas, or in units of it (the
    amplitude gain, of which path loss is the square)."""
    design: Design = "robust"

    def __post_init__(self) -> None:
        if self.kind not in ("relative", "absolute"):
            raise ValueError(f"csi kind must be relative or absolute, got {self.kind!r}")
        if self.design not in ("robust", "nominal"):
            raise ValueError(f"csi design must be robust or nominal, got {self.design!r}")
        if not 0 <= self.size < (1.0 if self.kind == "relative" else np.inf):
            limit = "in [0, 1), a share of the channel" if self.kind == "relative" else ">= 0 and finite"
            raise ValueError(f"csi error must be {limit}, got {self.size}")

    def radius(self, h: NDArray[Any]) -> NDArray[np.float64]:
        """Radius of each link's ball in units of h, (users, nodes), for channels (users, nodes, antennas)."""
        norms = np.linalg.norm(h, axis=-1)
        return np.asarray(self.size * norms if self.kind == "relative" else np.full(norms.shape, self.size))

    def estimate(self, h: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """What the nodes believe, (users, nodes, antennas): off by an error drawn evenly from each ball."""
        noise = rng.standard_normal((*h.shape, 2)).view(np.complex128)[..., 0]
        share = rng.random(h.shape[:2]) ** (1.0 / (2 * h.shape[2]))
        return np.asarray(h + noise * (self.radius(h) * share / np.linalg.norm(noise, axis=-1))[..., None])


def delivered(believed: NDArray[Any], true: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rates at which blocks really arrive, and which broadcasts fail at first.

    A broadcast is coded for the rate that its beams are believed to give. Where the true channel carries
    less, the block is lost and sent again at the rate that the users then report: both times count.

    Args:
        believed: Rate of each broadcast that the nodes count on, (broadcasts,), bit/s.
        true: Rate that its slowest user can receive, (broadcasts,), bit/s.

    Returns:
        Bits over the whole time on the air, (broadcasts,), bit/s; and whether the first try failed.
    """
    fails = true < believed * (1 - 1e-9)
    with np.errstate(divide="ignore"):
        again = 1.0 / (1.0 / np.where(fails, believed, np.inf) + 1.0 / np.where(fails, true, np.inf))
    first = believed > 0  # nothing can be counted on: the users report at once
    return np.where(fails & first, again, np.where(first, believed, true)), fails | ~first & (true > 0)
