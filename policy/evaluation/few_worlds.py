"""Intervals over few worlds, by Student's t: a bootstrap of a handful of worlds is too sure of itself.

Worlds are the sample; the seeds played on one world are averaged first. Values have shape (worlds, seeds).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from policy.interfaces import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A number with its 95 % interval."""

    value: float
    low: float
    """NaN where one world alone was played."""
    high: float


def mean_of(values: Float) -> Spread:
    """Mean over worlds.

    Args:
        values: (worlds, seeds).
    """
    per_world = _per_world(values)
    return _around(float(per_world.mean()), per_world)


def difference(a: Float, b: Float) -> Spread:
    """How much higher a is than b on the same worlds: mean of a - b.

    Args:
        a: (worlds, seeds).
        b: (worlds, other seeds), likewise.
    """
    apart = _per_world(a) - _per_world(b)
    return _around(float(apart.mean()), apart)


def reduction(a: Float, b: Float) -> Spread:
    """How much lower a is than b on the same worlds, as a share of b: 1 - mean(a) / mean(b).

    The interval is that of a ratio of means by linearisation (Cochran, Sampling Techniques, 1977, section
    2.11): of the residuals a - r b, with r the ratio found.

    Args:
        a: (worlds, seeds), >= 0.
        b: (worlds, other seeds), > 0 in the mean.
    """
    left, right = _per_world(a), _per_world(b)
    if right.mean() <= 0:
        raise ValueError(f"need a reference above 0 in the mean, got {right.mean()}")
    ratio = float(left.mean() / right.mean())
    return _around(1.0 - ratio, (left - ratio * right) / right.mean())


def _per_world(values: Float) -> Float:
    if values.ndim != 2 or not values.size:
        raise ValueError(f"need values (worlds, seeds), got shape {values.shape}")
    return np.asarray(values.mean(axis=1))


def _around(value: float, spread: Float) -> Spread:
    """A value with the interval of a mean of what varies as `spread` does."""
    if spread.size < 2:
        return Spread(value=value, low=np.nan, high=np.nan)
    half = float(stdtrit(spread.size - 1, 0.975) * spread.std(ddof=1) / spread.size**0.5)
    return Spread(value=value, low=value - half, high=value + half)
