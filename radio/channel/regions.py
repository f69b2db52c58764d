"""Visibility regions: which cluster of a slot is seen from a place, without drawing more than is looked at.

Every node has slots, and every slot cuts the plane into square cells with an offset and a heading of its own.
The cluster of a slot is drawn by the cell: it lives as long as the user is inside, its amplitude rises from
and falls to zero at the border, and beyond is another one. So a link changes a little at a time, users close
to one another see the same clusters, and users far apart see others; COST 2100 (Liu et al., IEEE Wireless
Communications 19(6), 2012) has clusters with such regions. What is drawn for a cell is a hash of the cell
under a random key: nothing is stored, and the plane has no edge.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from radio.types import FloatArray

__all__ = ["Cells", "Regions", "Seen", "Words", "draw_keys", "make_regions", "see"]

Words = NDArray[np.uint64]
_RAMP_M = 1.0
"""Over this distance inside its border a cluster comes up: a dozen wavelengths at 3.5 GHz."""
_RAMP_POWER = 0.3714
"""Mean over the ramp of the squared amplitude r^2 (3 - 2 r)."""
_SIDE = 1.722
"""Side of a cell over the correlation distance: two places that far apart share 1/e of their clusters,
1 - 4 r / pi + r^2 / pi = 1/e at r = 1 / 1.722, the mean over directions of the overlap of two squares."""
_BITS = 12
_MASK = np.uint64((1 << _BITS) - 1)


def draw_keys(rng: np.random.Generator, batch: tuple[int, ...] = ()) -> Words:
    """Keys of independent sets of clusters, (*batch,)."""
    return np.asarray(rng.integers(0, 2**64, size=batch, dtype=np.uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """The cells of every slot of every node; arrays are (batch, nodes, slots)."""

    words: Words
    """Hash of key, node and slot."""
    heading: FloatArray
    """Direction of the cells' first axis, (2, ...): its cosine and sine."""
    offset: FloatArray
    """Corner of the cells along their axes, (2, ...), in sides."""
    side_m: float


def make_regions(
    keys: Words, num_nodes: int, num_clusters: int, correlation_m: float, stream: int
) -> Regions:
    """Lay out the cells.

    Args:
        keys: (batch,).
        num_nodes: Nodes.
        num_clusters: Clusters to be seen at a time on average.
        correlation_m: Distance at which a share of 1/e of them is the same, m.
        stream: Number of the set: sets of one key are independent.

    Returns:
        The cells; there are a few more slots than clusters, since some are coming up or going.
    """
    side = _SIDE * correlation_m
    seen = (1.0 - 2.0 * min(_RAMP_M / side, 0.5) * (1.0 - _RAMP_POWER)) ** 2
    slots = round(num_clusters / seen)
    names = (np.arange(num_nodes * slots) + (stream << 32) + 1).astype(np.uint64).reshape(num_nodes, slots)
    words = _mix(keys[:, None, None] + _mix(names))
    layout = _mix(words + np.uint64(1))
    turn = 2.0 * np.pi * _uniform(layout, 0)
    return Regions(
        words=words,
        heading=np.stack([np.cos(turn), np.sin(turn)]),
        offset=np.stack([_uniform(layout, 1), _uniform(layout, 2)]),
        side_m=side,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What links see; arrays are (links, slots), float32."""

    amplitude: FloatArray
    """0 at the border of a cell, 1 inside."""
    place_m: FloatArray
    """User from the middle of the cell, (2, links, slots), along x and y, m."""
    words: Words
    """Hash of the cell."""


def see(regions: Regions, batch: NDArray[np.intp], node: NDArray[np.intp], xy: FloatArray) -> Seen:
    """Find the cells that links look at.

    Args:
        regions: The cells.
        batch: Row of the regions of each link, (links,).
        node: Node of each link, (links,).
        xy: User of each link, (links, 2), m.

    Returns:
        The cells.
    """
    cos, sin = regions.heading[:, batch, node]
    offset = regions.offset[:, batch, node]
    x, y = xy[:, :1] / regions.side_m, xy[:, 1:] / regions.side_m
    along = np.stack([x * cos + y * sin, y * cos - x * sin]) + offset
    cell = np.floor(along)
    inside = (along - cell - 0.5).astype(np.float32) * np.float32(regions.side_m)
    rise = np.minimum((0.5 * regions.side_m - np.abs(inside)) / np.float32(_RAMP_M), np.float32(1.0))
    rise = rise * rise * (3.0 - 2.0 * rise)
    number = cell.astype(np.int64).astype(np.uint64)
    words = regions.words[batch, node] ^ (number[0] * _ODD[0] + number[1] * _ODD[1])
    cos, sin = cos.astype(np.float32), sin.astype(np.float32)
    place = np.stack([inside[0] * cos - inside[1] * sin, inside[0] * sin + inside[1] * cos])
    return Seen(amplitude=rise[0] * rise[1], place_m=place, words=_mix(words))


_ODD = np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F], dtype=np.uint64)


def _mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit depends on every bit."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))


def _field(words: Words, which: int) -> NDArray[np.intp]:
    """Twelve of the bits, `which` in 0 to 4."""
    return ((words >> np.uint64(_BITS * which)) & _MASK).astype(np.intp)


def _uniform(words: Words, which: int) -> FloatArray:
    return np.asarray((_field(words, which) + 0.5) / (1 << _BITS))


@cache
def _quantiles() -> tuple[FloatArray, FloatArray]:
    """Quantiles of an exponential of mean 1 and of a normal of variance 1, both (4096,), float32."""
    middle = (np.arange(1 << _BITS) + 0.5) / (1 << _BITS)
    return (-np.log(middle)).astype(np.float32), ndtri(middle).astype(np.float32)


class Cells:
    """Numbers drawn for cells, each (links, slots), float32; a pure function of their hashes."""

    def __init__(self, words: Words) -> None:
        """Take the hashes, (links, slots)."""
        self._first, self._second = words, _mix(words)

    def delay(self) -> FloatArray:
        """Exponential of mean 1, and 0 in the first slot: exponentials less the least of them are that."""
        values = _quantiles()[0][_field(self._first, 0)]
        values[:, 0] = 0.0
        return values

    def shadow(self) -> FloatArray:
        """Standard normal."""
        return _quantiles()[1][_field(self._first, 1)]

    def angle(self, which: int) -> tuple[FloatArray, FloatArray]:
        """A random sign and a standard normal; 0 azimuth of departure, 1 zenith of departure, 2 arrival."""
        word, place = ((self._first, 2), (self._second, 0), (self._second, 1))[which]
        sign = 1.0 - 2.0 * ((word >> np.uint64(60 + which)) & np.uint64(1)).astype(np.float32)
        return sign, _quantiles()[1][_field(word, place)]

    def spread(self) -> FloatArray:
        """Standard normal, for a spread that each cluster has of its own."""
        return _quantiles()[1][_field(self._second, 4)]

    def choice(self, which: int, count: int) -> NDArray[np.intp]:
        """A whole number below `count` (a power of two up to 4096); `which` in 0 to 2."""
        word, place = ((self._first, 3), (self._first, 4), (self._second, 2))[which]
        return _field(word, place) & (count - 1)

    def phase(self) -> FloatArray:
        """Uniform on a turn, rad."""
        return (2.0 * np.pi * _uniform(self._second, 3)).astype(np.float32)
