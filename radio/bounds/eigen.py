"""An upper bound on the max-min SNR from multipliers: one eigenvalue, no SDP."""

import numpy as np

from radio.types import ComplexArray, FloatArray

__all__ = [
    "clean_multipliers",
    "largest_eigenvalue",
    "multiplier_bound",
    "multiplier_estimate",
    "relaxation_columns",
]


_ROUNDING = 1e-12
"""Relative allowance for rounding in sums and eigenvalues, of up to thousands of terms of 1e-16 each."""


def relaxation_columns(num_users: int, num_nodes: int) -> int:
    """Columns with which the factored relaxation is exact: the least r with r^2 >= users + nodes.

    A semidefinite program with that many constraints has an optimum of rank at most r (Huang, Zhang,
    "Rank-constrained separable semidefinite programming", IEEE TSP 58(2), 2010).
    """
    return int(np.ceil(np.sqrt(num_users + num_nodes)))


def multiplier_bound(g: ComplexArray, weights: FloatArray, prices: FloatArray) -> FloatArray:
    """Bound of given multipliers.

    For any weights l >= 0 of users and prices m > 0 of node power, every covariance W >= 0 with tr W_nn <= 1
    has min_k g_k W g_k^H <= (sum m) lmax(D^-1/2 sum_k l_k g_k^H g_k D^-1/2) / sum l with D = diag(m). The
    eigenvalue is computed in double precision from the smaller of the two Gram matrices, so the bound holds
    however rough the multipliers are.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        weights: (batch, users), 0 where masked; see `clean_multipliers`.
        prices: (batch, nodes).

    Returns:
        Upper bound on min_k |g_k v|^2, (batch,).
    """
    weights, prices = clean_multipliers(g, weights, prices)
    scaled = np.sqrt(weights)[:, :, None, None] * g / np.sqrt(prices)[:, None, :, None]
    flat = scaled.reshape(*scaled.shape[:2], g.shape[2] * g.shape[3])
    other = flat.conj().swapaxes(1, 2)
    gram = flat @ other if flat.shape[1] < flat.shape[2] else other @ flat
    largest = largest_eigenvalue(gram)
    return np.asarray(prices.sum(axis=1) * largest / weights.sum(axis=1) * (1.0 + _ROUNDING))


def clean_multipliers(
    g: ComplexArray, weights: FloatArray, prices: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Multipliers that prove something whatever a search left behind.

    Not finite or negative ones count as none; where no weight is left all users that hear something count
    alike, and where no price is left all nodes cost alike. No price is below 1e-9 of the largest.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        weights: (batch, users), of any scale; 0 where masked.
        prices: (batch, nodes), of any scale.

    Returns:
        Both in double precision, at most one, with at least one of them one.
    """
    heard = np.asarray((g != 0).any(axis=(2, 3)))
    made = []
    for values, usual in ((weights, heard), (prices, np.ones(prices.shape, dtype=bool))):
        values = np.where(np.isfinite(values) & (values > 0) & usual, values.astype(np.float64), 0.0)
        most = values.max(axis=1, keepdims=True, initial=0.0)
        made.append(np.where(most > 0, values / np.where(most > 0, most, 1.0), usual))
    return made[0], np.maximum(made[1], 1e-9)


def largest_eigenvalue(matrix: ComplexArray) -> FloatArray:
    """Largest eigenvalue of Hermitian matrices, (batch,); where it cannot be had, a larger number.

    A matrix that is not finite has infinity; one on which the routine fails its Frobenius norm. Neither
    touches the others of the batch.
    """
    finite = np.asarray(np.isfinite(matrix).all(axis=(1, 2)))
    safe = matrix if finite.all() else np.where(finite[:, None, None], matrix, 0.0)
    try:
        largest = np.linalg.eigvalsh(safe)[:, -1]
    except np.linalg.LinAlgError:
        largest = np.array([_largest_of_one(one) for one in safe])
    return np.where(finite, largest, np.inf)


def _largest_of_one(matrix: ComplexArray) -> float:
    try:
        return float(np.linalg.eigvalsh(matrix)[-1])
    except np.linalg.LinAlgError:
        return float(np.linalg.norm(matrix))


def multiplier_estimate(
    flat: ComplexArray, weights: FloatArray, prices: FloatArray, steps: int = 8
) -> FloatArray:
    """What `multiplier_bound` is at least, for a tenth of its price: the power method in single precision.

    Args:
        flat: Scaled CSI, complex64 (batch, users, nodes * antennas).
        weights: (batch, users), >= 0.
        prices: (batch, nodes), > 0.
        steps: Of the power method.

    Returns:
        About the bound or less, (batch,).
    """
    root = np.sqrt(np.maximum(prices, 1e-9 * prices.max(axis=1, keepdims=True)))
    root = np.repeat(root, flat.shape[2] // prices.shape[1], axis=1)[:, :, None]
    adjoint = flat.conj().swapaxes(1, 2)
    # Not a beam that all multipliers were made for: any other direction.
    x = np.exp(1j * np.arange(flat.shape[2]) ** 2)[:, None].astype(np.complex64)
    x = np.broadcast_to(x, (len(flat), *x.shape))
    for _ in range(steps):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        seen = flat @ (x / root)
        x = (adjoint @ (seen * weights[:, :, None])) / root
    largest = np.linalg.norm(x[:, :, 0], axis=1)
    return np.asarray(prices.sum(axis=1) * largest / weights.sum(axis=1))
