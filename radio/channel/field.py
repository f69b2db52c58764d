"""Random fields over the plane: the same place always gives the same value, near places nearly the same."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from radio.types import FloatArray

__all__ = ["PlaneFields", "draw_fields"]

_NUM_WAVES = 256
"""Plane waves that all fields share; each field weighs them by its own spectrum."""
_SLOWEST, _FASTEST = 0.03, 40.0
"""Least and largest wave number, times the correlation distance: a field has no waves shorter than a sixth of
that distance, so that it is smooth over centimetres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFields:
    """Independent standard normal fields, sums of the same plane waves with coefficients of their own."""

    waves: FloatArray
    """Wave vectors, (2, waves), turns/m."""
    coefficients: FloatArray
    """Of cos, then of sin, (2 * waves, fields), float32."""

    def __call__(self, xy: FloatArray) -> FloatArray:
        """Value at each place: (..., 2) in m -> (..., fields)."""
        turns = xy.reshape(-1, 2) @ self.waves
        angle = turns - np.round(turns)
        angle = (angle * (2.0 * np.pi)).astype(np.float32)
        basis = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        values = (basis @ self.coefficients).astype(np.float64)
        return values.reshape(*xy.shape[:-1], values.shape[1])


def draw_fields(
    correlation_m: ArrayLike, rng: np.random.Generator, num_waves: int = _NUM_WAVES
) -> PlaneFields:
    """Draw fields with correlation exp(-distance / correlation_m), TR 38.901 (7.4-5).

    In the plane that correlation has the spectrum of a two-dimensional Cauchy law: a share 1 - 1 / sqrt(1 +
    (k D)^2) of it lies at wave numbers below k. Each wave stands for one ring of wave numbers, the same for
    all fields, and each field gives it the share of the ring as its variance. Given the waves the values are
    exactly standard normal; the correlation is the exponential up to what `num_waves` resolves.

    Args:
        correlation_m: Distance of each field at which the correlation is 1/e, (fields,), m.
        rng: Source of the draw.
        num_waves: Waves.

    Returns:
        The fields.
    """
    distance = np.asarray(correlation_m, np.float64)
    edges = np.geomspace(_SLOWEST / distance.max(), _FASTEST / distance.min(), num_waves + 1)
    number = edges[:-1] * (edges[1:] / edges[:-1]) ** rng.random(num_waves)
    golden = np.pi * (3.0 - np.sqrt(5.0))
    heading = golden * np.arange(num_waves) + rng.uniform(0.0, 2.0 * np.pi)
    waves = number * np.stack([np.cos(heading), np.sin(heading)]) / (2.0 * np.pi)
    reach = np.minimum(edges[1:, None] * distance, _FASTEST)
    below = (1.0 - 1.0 / np.sqrt(1.0 + reach**2)) / (1.0 - 1.0 / np.sqrt(1.0 + _FASTEST**2))
    share = np.maximum(np.diff(below, axis=0, prepend=0.0), 0.0)
    normal = rng.standard_normal((2, num_waves, distance.size), dtype=np.float32)
    coefficients = (normal * np.sqrt(share).astype(np.float32)).reshape(2 * num_waves, distance.size)
    return PlaneFields(waves=waves, coefficients=coefficients)
