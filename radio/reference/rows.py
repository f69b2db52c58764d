"""`solver="sdp"` and "global": reference solvers row by row, each reduced to its users and holders."""

import numpy as np

from radio.fast.worst_case import worst_case
from radio.problem import Problem
from radio.reference.global_beam import global_beam
from radio.reference.randomise import gaussian_randomisation, min_power
from radio.reference.robust import solve_robust_relaxation
from radio.reference.sdr import solve_relaxation
from radio.types import ComplexArray, FloatArray

__all__ = ["solve_rows", "solve_rows_globally"]

_NUM_SAMPLES = 200


def solve_rows(
    problem: Problem, rows: np.ndarray, columns: int, rng: np.random.Generator
) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """Relaxation in cvxpy and Gaussian randomisation.

    Args:
        problem: The batch.
        rows: Rows to solve.
        columns: Columns of the beam.
        rng: Source of the samples.

    Returns:
        Beams (rows, nodes, antennas, columns), guaranteed power (rows,) and bound (rows,), scaled.
    """
    v = np.zeros((len(rows), *problem.g.shape[2:], columns), dtype=np.complex128)
    worst, bound = np.zeros(len(rows)), np.ones(len(rows))
    for index, row in enumerate(rows):
        users, holders = problem.users[row], problem.holders[row]
        g = problem.g[row][users][:, holders]
        if problem.error is None:
            relaxed = solve_relaxation(g)
            beam = gaussian_randomisation(g, relaxed.covariance, columns, _NUM_SAMPLES, rng)
            worst[index] = min_power(g.reshape(len(g), -1), beam.reshape(-1, columns))
        else:
            error = problem.error[row][users]
            error = error[:, holders] if error.ndim == 2 else error
            root = np.sqrt(problem.power_w[row][holders])
            relaxed = solve_robust_relaxation(g, error, root)
            beam = gaussian_randomisation(g, relaxed.covariance, columns, _NUM_SAMPLES, rng)
            worst[index] = worst_case(g[None], beam[None], error[None], root[None]).amplitude.min() ** 2
        v[index, holders] = beam
        bound[index] = relaxed.value
    return v, worst, bound


def solve_rows_globally(problem: Problem, rows: np.ndarray) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """The best single beam of each row and the proof; arguments and result as in `solve_rows`."""
    v = np.zeros((len(rows), *problem.g.shape[2:], 1), dtype=np.complex128)
    worst, bound = np.zeros(len(rows)), np.ones(len(rows))
    for index, row in enumerate(rows):
        holders = problem.holders[row]
        found = global_beam(problem.g[row][problem.users[row]][:, holders])
        v[index, holders, :, 0] = found.beam
        worst[index], bound[index] = found.value, found.upper
    return v, worst, bound
