"""The multiplicative-weights fixed point for max-min broadcast beamforming, batched in numpy."""

from dataclasses import dataclass

import numpy as np

from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["FixedPoint", "fixed_point", "fold", "random_start"]

_TINY = np.float32(1e-30)
_MOST = np.float32(1e4)
"""Of one over an amplitude: four steps without normalisation stay within single precision."""
_FEW = 1 << 11
"""Numbers up to which one call of numpy is faster than many, if its order of working does not matter."""
_FLOOR = np.float32(1e-6)
"""Least weight of a user in the first two thirds: lets one come back that was well served early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """What a run found."""

    u: ComplexArray
    """Best beams seen, (batch, nodes * antennas, columns, starts); every holder's block has norm one, or at
    most one after small steps."""
    least: FloatArray
    """Amplitude of the weakest user under them, (batch, starts)."""
    weights: FloatArray
    """Weight of each user's received power at the end, (batch, users, starts); 0 where masked."""
    prices: FloatArray
    """Price of each node's power at the end, (batch, nodes, starts)."""


def random_start(shape: tuple[int, int, int, int], rng: np.random.Generator) -> ComplexArray:
    """Beams of random phases, (batch, nodes * antennas, columns, starts), complex64 of modulus one."""
    phases = rng.random(shape, dtype=np.float32) * np.float32(2.0 * np.pi)
    return np.asarray(np.cos(phases) + np.complex64(1j) * np.sin(phases))


def fold(operation: np.ufunc, array: FloatArray) -> FloatArray:
    """Reduce axis 1 to size 1 by halving it: much faster than numpy on a short middle axis.

    Only for sums, minima and maxima.
    """
    if array.size <= _FEW and operation is not np.add:
        return np.asarray(operation.reduce(array, axis=1, keepdims=True))
    rest = None
    while array.shape[1] > 1:
        half = array.shape[1] // 2
        if array.shape[1] % 2:
            last = array[:, -1:]
            rest = last if rest is None else operation(rest, last)
        array = operation(array[:, :half], array[:, half : 2 * half])
    return array if rest is None else operation(array, rest)


def fixed_point(
    g: ComplexArray,
    u: ComplexArray,
    users: BoolArray,
    num_nodes: int,
    num_iterations: int,
    length: float = 0.0,
    weights: FloatArray | None = None,
) -> FixedPoint:
    """Run the iteration from u.

    y_k = g_k u, a_k = ||y_k||, l_k <- l_k (min_j a_j / a_k)^eta, u_n <- unit(sum_k l_k g_k^H y_k / a_k)_n,
    with eta 1/2, 1, 3/2 over the thirds of the run. A fixed point is a stationary point of the max-min
    problem; with enough columns (columns^2 >= users + nodes) that is its relaxation, and the point its
    optimum.

    With a `length` the beam moves by a small step and is projected on the unit balls, u_n <- proj(u + length
    s / max_m ||s_m||)_n, s the sum above, so that a node may send with less than its power. Weights that only
    add up what users lack, and a beam that only adds up steps, chase each other in circles; so s counts each
    user (min_j a_j / a_k)^4 times, which reacts at once and damps them: the run settles in a local optimum.

    Args:
        g: Scaled CSI, complex64 (batch, users, nodes * antennas); zero where masked.
        u: Start, complex64 (batch, nodes * antennas, columns, starts); scaled to norm one a node without a
            length.
        users: Users that count, (batch, users).
        num_nodes: Nodes; antennas of a node lie side by side.
        num_iterations: Length of the run.
        length: Of a step; 0 goes all the way.
        weights: First weights of the users' amplitudes, (batch, users, starts); None is equal ones.

    Returns:
        The best beams seen in the last two thirds, and the multipliers at the end.
    """
    adjoint = np.ascontiguousarray(np.conj(g.transpose(0, 2, 1)))
    absent = None if users.all() else np.where(users, 0.0, np.inf).astype(np.float32)[:, :, None]
    u = u if length else _unit(u, num_nodes)[0]
    if weights is None:
        weights = np.ones((*g.shape[:2], u.shape[3]), dtype=np.float32)
    best, least = u.copy(), np.zeros((len(g), 1, u.shape[3]), dtype=np.float32)
    norm, pushed = np.ones((len(g), num_nodes, u.shape[3]), dtype=np.float32), weights
    for step in range(num_iterations + 1):
        y, amplitude = _receive(g, u, absent)
        third = 3 * step // num_iterations
        if third:
            weakest = fold(np.minimum, amplitude)
            better = weakest > least
            np.copyto(best, u, where=better[:, :, None, :])
            np.copyto(least, weakest, where=better)
        if step == num_iterations:
            break
        inverse = np.minimum(1.0 / amplitude, _MOST)
        weights = _reweigh(weights, inverse, third, normalise=step % 4 == 3)
        pushed = weights * inverse
        if length:
            pushed *= np.square(np.square(fold(np.minimum, amplitude) * inverse))
        sent, norm = _unit(_send(adjoint, y, pushed), num_nodes)
        u = _ascend(u, sent, norm, length) if length else sent
    return FixedPoint(u=best, least=least[:, 0], weights=pushed, prices=norm)


def _reweigh(weights: FloatArray, inverse: FloatArray, third: int, *, normalise: bool) -> FloatArray:
    """Raise the share of the weak users; keep the strong ones in sight until the last third.

    The common factor of a start, its weakest amplitude, is left out: only ratios matter.
    """
    root = np.sqrt(inverse) if third != 1 else inverse
    weights = weights * root
    if third == 2:
        weights *= inverse
    if normalise:
        weights /= fold(np.maximum, weights)
    if third < 2:
        np.maximum(weights, _FLOOR, out=weights)
    return weights


def _receive(g: ComplexArray, u: ComplexArray, absent: FloatArray | None) -> tuple[ComplexArray, FloatArray]:
    """What users receive, (batch, users, columns, starts), and its norm over columns; inf where masked."""
    batch, size, columns, starts = u.shape
    y = (g @ u.reshape(batch, size, columns * starts)).reshape(batch, -1, columns, starts)
    if columns == 1:
        amplitude = np.abs(y[:, :, 0])
    else:
        power = (y * y.conj()).real
        amplitude = np.sqrt(_add_columns(power))
    amplitude += _TINY
    return y, amplitude if absent is None else amplitude + absent


def _send(adjoint: ComplexArray, y: ComplexArray, weights: FloatArray) -> ComplexArray:
    """sum_k weight_k g_k^H y_k."""
    batch, _, columns, starts = y.shape
    weighted = (y * weights[:, :, None, :]).reshape(batch, -1, columns * starts)
    return (adjoint @ weighted).reshape(batch, -1, columns, starts)


def _unit(u: ComplexArray, num_nodes: int) -> tuple[ComplexArray, FloatArray]:
    """Scale each node's block to norm one, zeros stay; also the norms, (batch, nodes, starts)."""
    batch, size, _, starts = u.shape
    power = (u * u.conj()).real
    total = _add_columns(power).reshape(batch * num_nodes, size // num_nodes, starts)
    norm = np.sqrt(fold(np.add, total).reshape(batch, num_nodes, starts) + _TINY)
    return _scale_nodes(u, 1.0 / norm), norm


def _ascend(u: ComplexArray, sent: ComplexArray, norm: FloatArray, length: float) -> ComplexArray:
    """A step along sent, of unit blocks that had these norms, and back into the balls of norm one."""
    share = norm * (length / fold(np.maximum, norm))
    moved, size = _unit(u + _scale_nodes(sent, share), norm.shape[1])
    return _scale_nodes(moved, np.minimum(size, 1.0))


def _scale_nodes(u: ComplexArray, factor: FloatArray) -> ComplexArray:
    """Each node's block times a factor, (batch, nodes, starts)."""
    batch, num_nodes, starts = factor.shape
    return np.asarray((u.reshape(batch, num_nodes, -1, starts) * factor[:, :, None, :]).reshape(u.shape))


def _add_columns(power: FloatArray) -> FloatArray:
    """Sum over axis 2, slice by slice."""
    total = power[:, :, 0]
    for column in range(1, power.shape[2]):
        total = total + power[:, :, column]
    return total
