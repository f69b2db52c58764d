"""An upper bound on what a single beam can guarantee under CSI error: closed form in the multipliers."""

import numpy as np

from radio.bounds.eigen import clean_multipliers, multiplier_bound
from radio.types import ComplexArray, FloatArray

__all__ = ["beam_bound", "one_user_bound"]

_CELLS = 64
"""Intervals of total power of which each is bounded by itself."""
_ROUNDING = 1e-13
"""Of an amplitude, for the rounding of its parts."""
_TANGENTS = np.array([0.25, 0.5, 0.7, 0.85, 1.0])
"""Where the square root is linearised, as shares of its value with all nodes at full power."""


def beam_bound(
    g: ComplexArray, error: FloatArray, root_power: FloatArray, weights: FloatArray, prices: FloatArray
) -> FloatArray:
    """Bound on min_k |g_k v| - penalty_k(v) over all v with one column and ||v_n|| = x_n <= 1.

    A beam of one column pays for all of its power whatever the error, error_k ||R v|| or sum_n error_kn R_n
    x_n: that depends on x only. With weights l (sum 1) and prices m such that sum_k l_k g_k^H g_k <= diag(m_n
    I), which `multiplier_bound` scales to hold, t <= |g_k v| - p_k(x) gives sum_k l_k (t + p_k(x))^2 <= sum_n
    m_n x_n^2, thus t <= sqrt(sum m_n x_n^2 - var p(x)) - mean p(x) with the mean and variance over users of
    weight l. This is maximised over x. More columns pay less for the same power, so they can beat this bound.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        error: Scaled radius, (batch, users) or (batch, users, nodes).
        root_power: R_n, sqrt of the nodes' power, (batch, nodes).
        weights: (batch, sets, users), 0 where masked. Every set bounds; several bound better.
        prices: (batch, sets, nodes).

    Returns:
        Upper bound on the guaranteed amplitude, (batch,), >= 0.
    """
    clean = [clean_multipliers(g, weights[:, i], prices[:, i]) for i in range(weights.shape[1])]
    weights = np.stack([one / one.sum(axis=1, keepdims=True) for one, _ in clean], axis=1)
    prices = np.stack([one / one.sum(axis=1, keepdims=True) for _, one in clean], axis=1)
    scale = [multiplier_bound(g, weights[:, i], prices[:, i]) for i in range(weights.shape[1])]
    prices = prices * np.stack(scale, axis=1)[:, :, None]
    bound = (_joint if error.ndim == 2 else _per_link)(weights, prices, error, root_power)
    # What is left of a difference near outage is rounding: it counts against the whole.
    slack = _ROUNDING * np.sqrt(prices.sum(axis=2).min(axis=1))
    return np.maximum(np.where(np.isnan(bound), np.inf, bound + slack), 0.0)


def _joint(weights: FloatArray, prices: FloatArray, error: FloatArray, root_power: FloatArray) -> FloatArray:
    """Penalty error_k rho, rho = ||R v||.

    For any r >= 0, sum_n m_n x_n^2 <= r rho^2 + sum_n (m_n - r R_n^2)_+; the best r is 0 or one of the m_n /
    R_n^2. The bound so got is convex or falling in rho: on an interval at most the larger of its ends.
    """
    power = root_power[:, None, :] ** 2
    mean = np.einsum("bsk,bk->bs", weights, error)
    var = np.einsum("bsk,bsk->bs", weights, (error[:, None, :] - mean[..., None]) ** 2)
    rates = np.where(power > 0, prices / np.where(power > 0, power, 1.0), 0.0)
    rates = np.concatenate([rates, np.zeros_like(mean)[..., None]], axis=2)
    rest = np.maximum(prices[:, :, None] - rates[..., None] * power[:, :, None], 0.0).sum(axis=3)
    rho = np.sqrt(power.sum(axis=2))[..., None, None] * np.linspace(0.0, 1.0, _CELLS + 1)
    inside = rest[..., None] + (rates - np.maximum(var, 0.0)[..., None])[..., None] * rho**2
    t = np.sqrt(np.maximum(inside, 0.0)) - mean[..., None, None] * rho
    return np.asarray(np.maximum(t[..., 1:], t[..., :-1]).min(axis=(1, 2)).max(axis=1))


def _per_link(
    weights: FloatArray, prices: FloatArray, error: FloatArray, root_power: FloatArray
) -> FloatArray:
    """Penalty sum_n error_kn R_n x_n.

    The variance is replaced by its tangent at x = 1 and sqrt(q) by (q / c + c) / 2: both err upwards. What is
    left is a sum over nodes of functions convex in x_n, each at most the larger of its ends.
    """
    spread = error * root_power[:, None, :]
    full = spread.sum(axis=2)
    mean = np.einsum("bsk,bkn->bsn", weights, spread)
    away = full[:, None] - np.einsum("bsk,bk->bs", weights, full)[..., None]
    slope = 2.0 * np.einsum("bsk,bkn->bsn", weights * away, spread)
    var = slope.sum(axis=2) / 2.0
    total = prices.sum(axis=2)
    c = np.sqrt(np.maximum(total - var, 1e-12 * total))[..., None] * _TANGENTS
    nodes = (prices - slope)[:, :, None] / (2.0 * c[..., None]) - mean[:, :, None]
    t = np.maximum(nodes, 0.0).sum(axis=3) + (var[..., None] / c + c) / 2.0
    return np.asarray(t.min(axis=(1, 2)))


def one_user_bound(g: ComplexArray, error: FloatArray, root_power: FloatArray) -> FloatArray:
    """Bound on what any number of columns can guarantee to each user served alone.

    Per link the matched beam is best, sum_n (||g_kn|| - error_kn R_n)_+; joint, every amplitude is at most
    (||g_k R^-1|| - error_k)_+ ||R v||.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        error: Scaled radius, (batch, users) or (batch, users, nodes).
        root_power: sqrt of the nodes' power, (batch, nodes).

    Returns:
        Amplitude, (batch, users).
    """
    strength = np.linalg.norm(g, axis=3)
    root = root_power[:, None, :]
    if error.ndim == 3:
        return np.asarray(_difference(strength, error * root).sum(axis=2))
    apart = np.linalg.norm(np.where(root > 0, strength / np.where(root > 0, root, 1.0), 0.0), axis=2)
    most = _difference(apart, error) * np.linalg.norm(root_power, axis=1)[:, None]
    return np.asarray(np.minimum(most, strength.sum(axis=2)))


def _difference(large: FloatArray, small: FloatArray) -> FloatArray:
    """(large - small)_+, rounded up where it is positive."""
    return np.where(large > small, large - small + _ROUNDING * large, 0.0)
