"""Worst-case broadcast beamforming by the S-procedure, and rank-one beams from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from radio.bounds.eigen import clean_multipliers, largest_eigenvalue
from radio.errors import SolverFailedError
from radio.fast.worst_case import worst_case
from radio.reference.randomise import factor
from radio.reference.sdr import Relaxation, multipliers, run, to_psd
from radio.types import ComplexArray, FloatArray

__all__ = ["DcResult", "difference_of_convex", "solve_robust_relaxation"]


class _Program:
    """max t with, for every user, an LMI that says g W g^H >= t on the whole ball of errors."""

    def __init__(self, g: ComplexArray, error: FloatArray, root_power: FloatArray) -> None:
        import cvxpy as cp

        num_users, num_nodes, num_antennas = g.shape
        size = num_nodes * num_antennas
        flat = g.reshape(num_users, size)
        root = np.repeat(root_power, num_antennas)
        # Each user over its own strength, as in `solve_relaxation`.
        self.strength = np.maximum((np.abs(flat) ** 2).sum(axis=1), 1e-300)
        flat = flat / np.sqrt(self.strength)[:, None]
        error = error / np.sqrt(self.strength).reshape(-1, *(1,) * (error.ndim - 1))
        self.w, self.t = cp.Variable((size, size), hermitian=True), cp.Variable()
        self.g, self.radius, self.root = flat, error.reshape(num_users, -1), root
        self.safe, self.power = [], []
        spread = cp.multiply(np.outer(root, root), self.w)
        for user in range(num_users):
            radius = np.atleast_1d(error[user])
            multiplier = cp.Variable(len(radius), nonneg=True)
            repeat = np.kron(np.eye(len(radius)), np.ones((size // len(radius), 1)))
            column = cp.reshape(cp.multiply(root, self.w @ flat[user].conj()), (size, 1), order="C")
            corner = (
                cp.real(flat[user] @ self.w @ flat[user].conj())
                - self.t / self.strength[user]
                - multiplier @ radius**2
            )
            corner = cp.reshape(corner, (1, 1), order="C")
            block = cp.bmat([[spread + cp.diag(repeat @ multiplier), column], [column.H, corner]])
            self.safe.append(block >> 0)
        for node in range(num_nodes):
            part = slice(node * num_antennas, (node + 1) * num_antennas)
            self.power.append(cp.real(cp.trace(self.w[part, part])) <= 1)
        self.limits = [self.w >> 0, *self.safe, *self.power]

    def solve(self, objective: Any, solver: str, options: dict[str, Any]) -> Relaxation:  # noqa: ANN401
        """Maximise an expression of w and t."""
        import cvxpy as cp

        program = cp.Problem(cp.Maximize(objective), self.limits)
        run(program, solver, options)
        weights, prices = self._weights(), multipliers(self.power)
        return Relaxation(
            value=float(self.t.value),
            covariance=to_psd(self.w.value),
            status=str(program.status),
            weights=weights,
            prices=prices,
            proven=self._proven(prices),
        )

    def _weights(self) -> FloatArray:
        """Corner of each user's dual matrix."""
        corners = [np.nan if safe.dual_value is None else safe.dual_value[-1, -1].real for safe in self.safe]
        return np.asarray(np.array(corners, dtype=np.float64) / self.strength)

    def _proven(self, prices: FloatArray) -> float:
        """Bound of the solver's dual matrices once they are repaired; infinite where it has none.

        For Z_k >= 0 with blocks E of trace at most radius^2 z, z its corner, no W and no multiplier make
        t z / s_k exceed <B^H Z_k B, W>, B = [R; g_k], s_k the user's strength that all of its row is divided
        by. So t <= sum(p) lmax(D^-1/2 sum_k B^H Z_k B D^-1/2) / sum z / s with D = diag(p): the matrices are
        made semidefinite and shrunk to hold this, not believed.
        """
        found = [safe.dual_value for safe in self.safe]
        if any(z is None or not np.isfinite(z).all() for z in found):
            return np.inf
        prices = clean_multipliers(
            np.ones((1, 1, len(prices), 1), np.complex128), np.ones((1, 1)), prices[None]
        )[1][0]
        root = 1.0 / np.sqrt(np.repeat(prices, len(self.root) // len(prices)))
        bounds = []
        for duals in (found, [z.conj() for z in found]):  # whichever of the two the modeller means
            total, weight = np.zeros((len(root), len(root)), dtype=np.complex128), 0.0
            for g, radius, z, strength in zip(self.g, self.radius, duals, self.strength, strict=True):
                z = _repaired(z, radius)
                seen = np.vstack([np.diag(self.root), g])
                total += seen.conj().T @ z @ seen
                weight += z[-1, -1].real / strength
            largest = largest_eigenvalue((total * np.outer(root, root))[None])[0]
            bounds.append(prices.sum() * largest / weight * (1.0 + 1e-12) if weight > 0 else np.inf)
        return float(min(bounds))


def _repaired(z: ComplexArray, radius: FloatArray) -> ComplexArray:
    """Nearest semidefinite matrix, its blocks shrunk to traces of at most radius^2 times the corner."""
    z = to_psd(z)
    blocks = z.diagonal()[:-1].real.reshape(len(radius), -1).sum(axis=1)
    most = radius**2 * z[-1, -1].real
    share = np.where(blocks > most, np.sqrt(most / np.where(blocks > 0, blocks, 1.0)), 1.0)
    share = np.append(np.repeat(share, (len(z) - 1) // len(radius)), 1.0)
    return np.asarray(z * np.outer(share, share))


def solve_robust_relaxation(
    g: ComplexArray,
    error: FloatArray,
    root_power: FloatArray,
    solver: str = "CLARABEL",
    **options: Any,  # noqa: ANN401
) -> Relaxation:
    """Upper bound on the guaranteed power, and the covariance that attains it.

    (g + e R) W (g + e R)^H >= t for ||e|| <= error is [[R W R + m I, R W g^H], [g W R, g W g^H - t - m
    error^2]] >= 0 for some m >= 0 (S-procedure; Zheng, Wong, Ng, "Robust linear MIMO in the downlink",
    EURASIP JASP 2008). One multiplier a node for per-link balls is exact too, as W >= 0 makes the worst case
    a convex problem.

    Args:
        g: Scaled CSI, (users, nodes, antennas).
        error: Scaled radius, (users,) joint or (users, nodes) per link.
        root_power: sqrt of the nodes' power, (nodes,).
        solver: A solver that cvxpy knows.
        **options: Passed to it.

    Returns:
        Value and covariance.
    """
    program = _Program(g, error, root_power)
    return program.solve(program.t, solver, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class DcResult:
    """A rank-one beam from the robust relaxation."""

    v: ComplexArray
    """(nodes, antennas, 1)."""
    guaranteed: float
    """Its least worst-case power over users, recomputed from v."""
    relaxation: Relaxation


def difference_of_convex(
    g: ComplexArray,
    error: FloatArray,
    root_power: FloatArray,
    num_rounds: int = 8,
    weight: float = 0.5,
    solver: str = "CLARABEL",
) -> DcResult:
    """Rank one by penalising tr W - ||W||_2, whose second part is linearised at the last W.

    The iteration of the origin paper's kind; every round is a semidefinite program. Returns the best beam
    over all rounds, each the principal eigenvector scaled to the power limits.

    Args:
        g: Scaled CSI, (users, nodes, antennas).
        error: Scaled radius, (users,) or (users, nodes).
        root_power: sqrt of the nodes' power, (nodes,).
        num_rounds: Semidefinite programs after the relaxation.
        weight: Penalty weight.
        solver: A solver that cvxpy knows.

    Returns:
        Beam, guaranteed power and relaxation.
    """
    import cvxpy as cp

    program = _Program(g, error, root_power)
    relaxation = program.solve(program.t, solver, {})
    covariance = relaxation.covariance
    best: ComplexArray = np.zeros((*g.shape[1:], 1), np.complex128)
    guaranteed = -1.0
    for _ in range(num_rounds + 1):
        v, value = _principal(g, covariance, error, root_power)
        if value > guaranteed:
            best, guaranteed = v, value
        values, vectors = np.linalg.eigh(covariance)
        if values[-1] > (1.0 - 1e-4) * values.sum():
            break
        top = vectors[:, -1]
        rest = cp.real(cp.trace(program.w)) - cp.real(cp.trace(np.outer(top, top.conj()) @ program.w))
        try:
            covariance = program.solve(program.t - weight * rest, solver, {}).covariance
        except SolverFailedError:
            break
    return DcResult(v=best, guaranteed=guaranteed, relaxation=relaxation)


def _principal(
    g: ComplexArray, covariance: ComplexArray, error: FloatArray, root_power: FloatArray
) -> tuple[ComplexArray, float]:
    """Principal eigenvector within the power limits, and its guaranteed power."""
    v = factor(covariance, 1).reshape(*g.shape[1:], 1)
    v = v / max(float(np.linalg.norm(v, axis=(1, 2)).max()), 1e-12)
    worst = worst_case(g[None], v[None], error[None], root_power[None])
    return v, float(worst.amplitude.min()) ** 2
