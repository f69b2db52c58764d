"""The worst channel in a CSI error ball for given beams: exact, in double precision."""

from dataclasses import dataclass

import numpy as np

from radio.types import ComplexArray, FloatArray

__all__ = ["Guarantee", "worst_case"]


_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """What can go wrong for each user."""

    amplitude: FloatArray
    """Amplitude that is guaranteed, (batch, users), >= 0; its square is the worst received power."""
    channel: ComplexArray
    """A channel of the ball that has it, (batch, users, nodes, antennas). Of one column that guarantees
    nothing, the far end of the ball along the same line, past the channel with amplitude 0."""


def worst_case(g: ComplexArray, v: ComplexArray, error: FloatArray, root_power: FloatArray) -> Guarantee:
    """Least received amplitude over ||e_k|| <= error_k (joint) or ||e_kn|| <= error_kn (per link).

    The user receives the columns y = (g_k + e_k R) v, R = diag(sqrt(P_n)). Since min_e ||y|| is the distance
    of a point to an ellipsoid, or to a sum of ellipsoids, it equals max over ||z|| = 1 of Re(y z) - error_k
    ||R v z||, or with sum_n error_kn ||R_n v_n z||: any z gives a guarantee. For one column z is a phase and
    the result is |y| - error_k ||R v||; for more, joint, a secular equation; per link, a fixed point on the
    multipliers.

    What is guaranteed is a difference: 1e-14 of both its parts is taken off for their rounding.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        v: Beams, (batch, nodes, antennas, columns).
        error: Scaled radius, (batch, users) or (batch, users, nodes).
        root_power: sqrt of the nodes' power, (batch, nodes).

    Returns:
        Guaranteed amplitude and a channel that attains it (but see `Guarantee.channel`).
    """
    batch, num_users, num_nodes, num_antennas = g.shape
    sent = v * root_power[:, :, None, None]
    flat = g.reshape(batch, num_users, -1)
    y = np.conj(flat @ v.reshape(batch, num_nodes * num_antennas, -1))
    grams = np.conj(sent.swapaxes(2, 3)) @ sent
    if v.shape[3] == 1:
        residual, gain = y, np.full(error.shape, 1e150)
    elif error.ndim == 2:
        residual, gain = _secular(y, grams.sum(axis=1), error)
    else:
        residual, gain = _multipliers(y, grams, error)
    size = np.linalg.norm(residual, axis=2, keepdims=True)
    z = np.where(size > 0, residual / np.where(size > 0, size, 1.0), np.eye(v.shape[3])[0])
    loss = np.einsum("bnac,bkc->bkna", sent, z)
    norms = np.linalg.norm(loss, axis=3)
    # Where the residual costs nothing (loss 0) the error is shorter than the radius and ends at the residual.
    if error.ndim == 2:
        norms = np.linalg.norm(norms, axis=2)
        share = np.minimum(error / np.maximum(norms, 1e-300), gain * size[..., 0])[:, :, None, None]
        penalty = error * norms
    else:
        share = np.minimum(error / np.maximum(norms, 1e-300), gain * size)[..., None]
        penalty = (error * norms).sum(axis=2)
    received = np.einsum("bkc,bkc->bk", z, np.conj(y)).real
    amplitude = received - penalty - _ROUNDING * (np.abs(received) + penalty)
    moved = g - root_power[:, None, :, None] * share * np.conj(loss)
    sure = np.where(np.isnan(amplitude), 0.0, np.maximum(amplitude, 0.0))
    return Guarantee(amplitude=sure, channel=moved)


def _secular(y: ComplexArray, gram: ComplexArray, error: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """Residual r = y - projection on {b : b = gram^(1/2) e, ||e|| <= error} by bisection on its multiplier.

    Also the gain with which gram r gives the projection, 1 / multiplier.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)[:, None, :]
    turned = y @ np.conj(vectors)
    power = np.abs(turned) ** 2
    low = np.zeros(error.shape)
    high = np.sqrt((values * power).sum(axis=2)) / np.maximum(error, 1e-300) + 1e-300
    for _ in range(80):
        middle = (low + high) / 2.0
        size = (values * power / np.maximum(values + middle[..., None], 1e-150) ** 2).sum(axis=2)
        too_small = size > error**2
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    multiplier = high[..., None]
    residual = turned * (multiplier / np.maximum(values + multiplier, 1e-150))
    return np.asarray(residual @ vectors.swapaxes(1, 2)), 1.0 / np.maximum(high, 1e-150)


def _multipliers(
    y: ComplexArray, grams: ComplexArray, error: FloatArray, num_steps: int = 300
) -> tuple[ComplexArray, FloatArray]:
    """Residual y minus the nearest point of a sum of ellipsoids, one of each node, and each node's gain."""
    columns, strength = y.shape[2], np.einsum("bncc->bn", grams).real
    # Below this a residual is rounding: its node's ellipsoid holds the point.
    least = 1e-24 * strength.max(axis=1)[:, None, None] * (np.abs(y) ** 2).sum(axis=2)[:, :, None] + 1e-300
    close = 1e-7 * np.abs(y).max(axis=2, keepdims=True)
    residual, ratio = y, np.zeros(error.shape)
    for _ in range(num_steps):
        size = np.einsum("bkc,bncd,bkd->bkn", np.conj(residual), grams, residual).real
        ratio = np.minimum(error / np.sqrt(np.maximum(size, least)), 1e150)
        load = np.einsum("bkn,bn->bk", ratio, strength)
        # Never singular to the last digit, however large an ellipsoid is: any residual gives a guarantee.
        matrix = (1.0 + 1e-14 * load)[..., None, None] * np.eye(columns)
        matrix = matrix + np.einsum("bkn,bncd->bkcd", ratio, grams)
        last, residual = residual, np.linalg.solve(matrix, y[..., None])[..., 0]
        if (np.abs(residual - last) <= close).all():
            break
    return np.asarray(residual), ratio
