"""The semidefinite relaxation of max-min broadcast beamforming with a power limit per node."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from radio.bounds.eigen import multiplier_bound
from radio.errors import SolverFailedError
from radio.types import ComplexArray, FloatArray

__all__ = ["Relaxation", "solve_relaxation"]

_USABLE = ("optimal", "optimal_inaccurate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Solution of one relaxed, scaled problem."""

    value: float
    """Optimal value as the solver reports it."""
    covariance: ComplexArray
    """W, (nodes * antennas, nodes * antennas), projected on the positive semidefinite matrices."""
    status: str
    """The solver's own word; `optimal_inaccurate` is a flag, not a fault: recompute from W."""
    weights: FloatArray
    """Dual weight of each user as the solver reports it, (users,)."""
    prices: FloatArray
    """Dual price of each node's power as the solver reports it, (nodes,)."""
    proven: float
    """Upper bound that these prove once repaired: a dual point that is feasible in double precision."""


def solve_relaxation(g: ComplexArray, solver: str = "CLARABEL", **options: Any) -> Relaxation:  # noqa: ANN401
    """Max t with g_k W g_k^H >= t, tr W_nn <= 1, W >= 0.

    Sidiropoulos, Davidson, Luo, "Transmit beamforming for physical-layer multicasting", IEEE TSP 54(6),
    2006, with a power limit per node.

    Args:
        g: Scaled CSI of the users and nodes that count, (users, nodes, antennas), user k receives g_k v.
        solver: A solver that cvxpy knows: CLARABEL or SCS.
        **options: Passed to it.

    Returns:
        Value and covariance.

    Raises:
        SolverFailedError: If the solver returns no matrix.
    """
    import cvxpy as cp

    num_users, num_nodes, num_antennas = g.shape
    size = num_nodes * num_antennas
    flat = g.reshape(num_users, size)
    w, t = cp.Variable((size, size), hermitian=True), cp.Variable()
    # With h already conjugated the received power of user k is flat_k W flat_k^H.
    # Each user over its own strength: what differs by orders of magnitude is then one number a row.
    strength = np.maximum((np.abs(flat) ** 2).sum(axis=1), 1e-300)
    units = flat / np.sqrt(strength)[:, None]
    served = [cp.real(row @ w @ row.conj()) >= t / s for row, s in zip(units, strength, strict=True)]
    blocks = [slice(node * num_antennas, (node + 1) * num_antennas) for node in range(num_nodes)]
    limits = [cp.real(cp.trace(w[block, block])) <= 1 for block in blocks]
    program = cp.Problem(cp.Maximize(t), [w >> 0, *served, *limits])
    run(program, solver, options)
    weights, prices = multipliers(served) / strength, multipliers(limits)
    return Relaxation(
        value=float(t.value),
        covariance=to_psd(w.value),
        status=str(program.status),
        weights=weights,
        prices=prices,
        proven=float(multiplier_bound(g[None], weights[None], prices[None])[0]),
    )


def multipliers(limits: list[Any]) -> FloatArray:
    """Dual values of scalar constraints, (constraints,); NaN where the solver has none."""
    return np.array([np.nan if limit.dual_value is None else float(limit.dual_value) for limit in limits])


def run(program: Any, solver: str, options: dict[str, Any]) -> None:  # noqa: ANN401
    """Solve a cvxpy program quietly; raise unless it has a usable status."""
    import warnings

    import cvxpy as cp

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # "may be inaccurate": the caller recomputes everything from the matrix
        try:
            program.solve(solver=solver, **options)
        except cp.SolverError as error:
            raise SolverFailedError(solver, str(error)) from None
    if program.status not in _USABLE:
        raise SolverFailedError(solver, str(program.status))


def to_psd(matrix: ComplexArray) -> ComplexArray:
    """Nearest positive semidefinite matrix: solvers leave eigenvalues near -1e-8."""
    values, vectors = np.linalg.eigh((matrix + matrix.conj().T) / 2)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.conj().T)
