"""The fixed point for worst-case broadcast beamforming under CSI error, batched in numpy."""

from dataclasses import dataclass

import numpy as np

from radio.fast.weights import fold
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["RobustPoint", "robust_fixed_point"]

_TINY = np.float32(1e-30)
_FLOOR = np.float32(1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustPoint:
    """What a run found."""

    v: ComplexArray
    """Best beams seen, (rows, nodes, antennas, columns); blocks of norm at most one."""
    least: FloatArray
    """Guaranteed amplitude of the weakest user under them, (rows,); may be negative."""
    weights: FloatArray
    """Weight of each user's received power at the end, (rows, users); 0 where masked."""
    prices: FloatArray
    """Price of each node's power at the end, (rows, nodes)."""

    def take(self, rows: np.ndarray) -> "RobustPoint":
        """Some rows."""
        return RobustPoint(
            v=self.v[rows], least=self.least[rows], weights=self.weights[rows], prices=self.prices[rows]
        )


def robust_fixed_point(
    g: ComplexArray,
    v: ComplexArray,
    users: BoolArray,
    error: FloatArray,
    root_power: FloatArray,
    num_iterations: int,
    markup: float | None = None,
    damping: float = 0.0,
) -> RobustPoint:
    """Maximise min_k (|g_k v| - penalty_k) for one column, and its generalisation for more.

    As the nominal iteration, with target amplitude t + penalty_k in the weights. User k combines the columns
    by a unit vector z_k; what is guaranteed is Re(g_k v z_k) - penalty_k with penalty error_k ||R v z_k||
    (joint) or sum_n error_kn ||R_n v_n z_k|| (per link), R = diag(sqrt(P_n)). Beams and z_k in turn maximise
    a minorant of the weighted sum of these (each norm replaced by its quadratic majorant, so a node whose
    power costs more in error than it brings in signal turns itself down).

    Args:
        g: Scaled CSI, complex64 (rows, users, nodes * antennas). Several starts are several rows.
        v: Start, complex64 (rows, nodes, antennas, columns).
        users: Users that count, (rows, users).
        error: Scaled radius, (rows, users) joint or (rows, users, nodes) per link.
        root_power: sqrt of the nodes' power, (rows, nodes).
        num_iterations: Length of the run.
        markup: If given, every user pays for all columns together, as it does for one: the relaxation of one
            column. Beams are chosen as if that cost were this many times as high: at one their power is the
            best for the guarantee, above one it is less, below one more.
        damping: Weight of the old beam in its mean with the new one; tames rows that swing between users.

    Returns:
        The best beams seen, and the multipliers at the end, for `beam_bound` or, with several columns and no
        markup, for the nominal bound on the worst channels.
    """
    whole = markup is not None or v.shape[3] == 1
    rows = _Rows(
        g,
        users,
        error.astype(np.float32),
        root_power.astype(np.float32),
        1.0 if markup is None else markup,
        whole=whole,
    )
    prices = np.ones((len(g), v.shape[1]), dtype=np.float32)
    v, _ = _clip(v, np.float32(0.0))
    weights = np.where(users, np.float32(1.0), np.float32(0.0))
    best, least = v.copy(), np.full((len(g), 1), -np.inf, dtype=np.float32)
    z = np.zeros(0, dtype=np.complex64)
    for step in range(num_iterations + 1):
        y = rows.receive(v)
        z, cost, penalty = rows.combine(y, z, v)
        amplitude = (z.conj() * y).real.sum(axis=2) + _TINY
        guaranteed = amplitude - penalty if rows.absent is None else amplitude - penalty + rows.absent
        weakest = fold(np.minimum, guaranteed)
        better = weakest > least
        np.copyto(best, v, where=better[:, :, None, None])
        np.copyto(least, weakest, where=better)
        if step == num_iterations:
            break
        third = 3 * step // num_iterations
        ratio = np.clip(
            (weakest + penalty) / np.maximum(amplitude, _FLOOR), np.float32(1e-3), np.float32(1.0)
        )
        weights = weights * (np.sqrt(ratio), ratio, ratio * np.sqrt(ratio))[third]
        weights /= fold(np.maximum, weights)
        if third < 2:
            weights = np.where(users, np.maximum(weights, _FLOOR), np.float32(0.0))
        old = v
        v, prices = rows.improve(v, z, weights, cost)
        if damping:
            v += np.float32(damping) * old
            v *= np.float32(1.0 / (1.0 + damping))
    return RobustPoint(
        v=best, least=least[:, 0], weights=weights / amplitude if rows.whole else weights, prices=prices
    )


class _Rows:
    """What stays fixed over the iterations."""

    def __init__(
        self,
        g: ComplexArray,
        users: BoolArray,
        error: FloatArray,
        root_power: FloatArray,
        markup: float,
        *,
        whole: bool,
    ) -> None:
        self.markup, self.whole = np.float32(markup), whole
        self.g, self.adjoint = g, np.ascontiguousarray(np.conj(g.transpose(0, 2, 1)))
        self.absent = None if users.all() else np.where(users, 0.0, np.inf).astype(np.float32)
        self.joint = error.ndim == 2
        most = root_power.max(axis=1)
        root = (root_power / most[:, None])[:, None, :]
        self.error = error * (most[:, None] if self.joint else most[:, None, None])
        self.power, self.root = root**2, root

    def receive(self, v: ComplexArray) -> ComplexArray:
        """Conjugate of what users receive, (rows, users, columns)."""
        return np.conj(self.g @ v.reshape(len(v), -1, v.shape[3]))

    def combine(
        self, y: ComplexArray, z: ComplexArray, v: ComplexArray
    ) -> tuple[ComplexArray, FloatArray, FloatArray]:
        """Combining vectors, then the curvature of the penalty (rows, users, nodes), and the penalty."""
        columns = y.shape[2]
        if self.whole:
            z = _unit(y)
            norm2 = (v * v.conj()).real.sum(axis=(2, 3))[:, None]
            return z, *self._penalty(norm2)
        gram = (v.conj().swapaxes(2, 3) @ v).reshape(*v.shape[:2], columns * columns)
        if not z.size:
            z = _unit(y)
        for _ in range(2):
            cost, _ = self._penalty(_quadratic(gram, z))
            pull = (cost @ gram).reshape(*y.shape, columns)
            most = np.einsum("bkcc->bk", pull).real[:, :, None]
            z = _unit(y - (pull @ z[..., None])[..., 0] + most * z)
        return z, *self._penalty(_quadratic(gram, z))

    def _penalty(self, norm2: FloatArray) -> tuple[FloatArray, FloatArray]:
        """From ||v_n z_k||^2, (rows, users or 1, nodes)."""
        if self.joint:
            total = np.sqrt((self.power * norm2).sum(axis=2) + _FLOOR**2)
            share = self.error / total
            return share[:, :, None] * self.power, self.error * total
        norm = np.sqrt(norm2) + _FLOOR
        spread = self.error * self.root
        return spread / norm, (spread * norm).sum(axis=2)

    def improve(
        self, v: ComplexArray, z: ComplexArray, weights: FloatArray, cost: FloatArray
    ) -> tuple[ComplexArray, FloatArray]:
        """Maximise the minorant over the beams of each node."""
        columns = v.shape[3]
        weighted = np.conj(z) * weights[:, :, None]
        pull: ComplexArray = np.matmul(self.adjoint, weighted).reshape(v.shape).astype(np.complex64)
        load = cost * weights[:, :, None]
        kappa = self.markup * fold(np.add, load)[:, 0, :, None, None]
        if not self.whole:
            outer = (z[..., :, None] * z.conj()[..., None, :]).reshape(*z.shape[:2], columns * columns)
            mixed = (load.swapaxes(1, 2) @ outer).reshape(*v.shape[:2], columns, columns)
            pull = pull + kappa * v - v @ mixed
        v, price = _clip(pull, kappa)
        return v, np.asarray(price if self.whole else price - kappa)[:, :, 0, 0]


def _quadratic(gram: ComplexArray, z: ComplexArray) -> FloatArray:
    """z_k^H gram_n z_k, (rows, users, nodes)."""
    outer = (z.conj()[..., :, None] * z[..., None, :]).reshape(*z.shape[:2], -1)
    return np.maximum((outer @ gram.swapaxes(1, 2)).real, np.float32(0.0))


def _unit(z: ComplexArray) -> ComplexArray:
    return np.asarray(z / np.sqrt((z * z.conj()).real.sum(axis=2, keepdims=True) + _TINY))


def _clip(pull: ComplexArray, kappa: FloatArray | np.float32) -> tuple[ComplexArray, FloatArray]:
    """Pull / kappa, cut to norm one, node by node, and what it was divided by."""
    norm = np.sqrt((pull * pull.conj()).real.sum(axis=(2, 3), keepdims=True) + _TINY)
    price = np.maximum(norm, kappa)
    return np.asarray(pull * (np.float32(1.0) / price)), price
