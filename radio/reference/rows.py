"""`solver="sdp"` and "global": reference solvers row by row, each reduced to its users and holders."""

from dataclasses import dataclass

import numpy as np

from radio.bounds.interior import exact_bound
from radio.errors import SolverFailedError
from radio.fast.worst_case import worst_case
from radio.reference.global_beam import global_beam
from radio.reference.randomise import factor, gaussian_randomisation
from radio.reference.robust import solve_robust_relaxation
from radio.reference.sdr import solve_relaxation
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Rows", "solve_rows", "solve_rows_globally"]

_NUM_SAMPLES = 200
_LOOSE = 1e-5
"""Difference of the repaired dual to the solver's word above which a second proof is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a reference solver found, scaled."""

    v: ComplexArray
    """Beams, (rows, nodes, antennas, columns)."""
    bound: FloatArray
    """Proven upper bound on the guaranteed power, (rows,); 1 where the solver failed."""
    failed: BoolArray
    """Rows on which the solver gave no answer, (rows,)."""


def solve_rows(
    g: ComplexArray,
    users: BoolArray,
    holders: BoolArray,
    error: FloatArray | None,
    root_power: FloatArray,
    columns: int,
    rng: np.random.Generator,
) -> Rows:
    """Relaxation in cvxpy and Gaussian randomisation, of 1, 2, 3, ... columns: more are never worse.

    Args:
        g: Scaled CSI, (rows, users, nodes, antennas).
        users: Users that count, (rows, users).
        holders: Nodes that send, (rows, nodes).
        error: Scaled radius, (rows, users) or (rows, users, nodes), or None.
        root_power: sqrt of the nodes' power, (rows, nodes).
        columns: Columns of the beam.
        rng: Source of the samples.

    Returns:
        Beams and bounds.
    """
    seeds = rng.integers(2**62, size=len(g))
    v = np.zeros((*g.shape[:1], *g.shape[2:], columns), dtype=np.complex128)
    bound, failed = np.ones(len(g)), np.zeros(len(g), dtype=bool)
    for row in range(len(g)):
        keep, some = users[row], holders[row]
        one = g[row][keep][:, some]
        radius = None if error is None else error[row][keep]
        radius = radius[:, some] if radius is not None and radius.ndim == 2 else radius
        root = root_power[row][some]
        try:
            covariance, bound[row] = _relaxed(one, radius, root)
        except SolverFailedError:
            failed[row] = True
            continue
        v[row, some] = _randomised(one, radius, root, covariance, columns, int(seeds[row]))
    return Rows(v=v, bound=bound, failed=failed)


def _relaxed(g: ComplexArray, error: FloatArray | None, root: FloatArray) -> tuple[ComplexArray, float]:
    """Covariance, and a bound that the solver's multipliers prove, or ours where they are rough."""
    everyone = np.ones((1, len(g)), dtype=bool)
    if error is None:
        relaxed = solve_relaxation(g)
        channel = g[None]
    else:
        relaxed = solve_robust_relaxation(g, error, root)
        v = factor(relaxed.covariance, len(relaxed.covariance)).reshape(1, *g.shape[1:], -1)
        channel = worst_case(g[None], v, error[None], root[None]).channel
    bound = relaxed.proven
    if not bound <= relaxed.value * (1.0 + _LOOSE):
        # No covariance is better in its worst case than on one channel of the ball.
        bound = float(np.fmin(bound, exact_bound(channel, everyone).upper[0]))
    return relaxed.covariance, bound


def _randomised(
    g: ComplexArray,
    error: FloatArray | None,
    root: FloatArray,
    covariance: ComplexArray,
    columns: int,
    seed: int,
) -> ComplexArray:
    """Best of the beams of up to so many columns, (nodes, antennas, columns)."""
    best, least = np.zeros((*g.shape[1:], columns), dtype=np.complex128), -1.0
    radius = np.zeros(len(g)) if error is None else error
    for width in range(1, min(columns, len(covariance)) + 1):
        rng = np.random.default_rng([seed, width])
        beam = gaussian_randomisation(g, covariance, width, _NUM_SAMPLES, rng)
        value = worst_case(g[None], beam[None], radius[None], root[None]).amplitude.min()
        if value > least:
            best[...], least = 0.0, value
            best[..., :width] = beam
    return best


def solve_rows_globally(g: ComplexArray, users: BoolArray, holders: BoolArray) -> Rows:
    """The best single beam of each row and the proof; arguments and result as in `solve_rows`."""
    v = np.zeros((*g.shape[:1], *g.shape[2:], 1), dtype=np.complex128)
    bound = np.ones(len(g))
    for row in range(len(g)):
        found = global_beam(g[row][users[row]][:, holders[row]])
        v[row, holders[row], :, 0] = found.beam
        bound[row] = found.upper
    return Rows(v=v, bound=bound, failed=np.zeros(len(g), dtype=bool))
