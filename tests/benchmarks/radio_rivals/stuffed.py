"""The dual of the relaxation, stuffed into SCS without a modelling language, and randomisation."""

from collections.abc import Iterator

import numpy as np
import scs
from scipy import sparse

from radio.reference.randomise import gaussian_randomisation

__all__ = ["solve_stuffed", "stuffed_relaxation"]


def stuffed_relaxation(g: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Each instance once, then its best of 200 Gaussian beams.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        rng: Source of the Gaussian beams.

    Yields:
        Beams, (batch, 1, nodes, antennas), zero but for the instance just solved.
    """
    for index, row in enumerate(g):
        covariance = solve_stuffed(row)[1]
        offer = np.zeros((len(g), 1, *g.shape[2:]), dtype=np.complex128)
        offer[index, 0] = gaussian_randomisation(row, covariance, 1, 200, rng)[..., 0]
        yield offer


def solve_stuffed(g: np.ndarray, tolerance: float = 1e-5) -> tuple[float, np.ndarray]:
    """min sum m with Diag(m) - sum_k l_k g_k^H g_k >= 0, sum l = 1: its value and the covariance.

    Hermitian matrices are embedded as real symmetric ones of twice the size.
    """
    users, nodes, antennas = g.shape
    flat = g.reshape(users, -1)
    size = flat.shape[1]
    outer = flat.conj()[:, :, None] * flat[:, None]
    blocks = np.concatenate([outer, -np.repeat(np.eye(nodes), antennas, axis=1)[:, :, None] * np.eye(size)])
    real = np.block([[blocks.real, -blocks.imag], [blocks.imag, blocks.real]])
    low = np.tril_indices(2 * size)
    order = np.lexsort((low[0], low[1]))
    rows, columns = low[0][order], low[1][order]
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    count = users + nodes
    matrix = sparse.vstack(
        [
            sparse.csc_matrix(np.r_[np.ones(users), np.zeros(nodes)][None]),
            -sparse.identity(count, format="csc"),
            sparse.csc_matrix((real[:, rows, columns] * weight).T),
        ],
        format="csc",
    )
    data = {
        "A": matrix,
        "b": np.r_[1.0, np.zeros(count + len(rows))],
        "c": np.r_[np.zeros(users), np.ones(nodes)],
    }
    cone = {"z": 1, "l": count, "s": [2 * size]}
    solver = scs.SCS(data, cone, verbose=False, eps_abs=tolerance, eps_rel=tolerance, max_iters=20000)
    found = solver.solve()
    dual = np.zeros((2 * size, 2 * size))
    dual[rows, columns] = found["y"][1 + count :] / weight
    dual = dual + np.tril(dual, -1).T
    covariance = dual[:size, :size] + dual[size:, size:] + 1j * (dual[size:, :size] - dual[:size, size:])
    return float(found["info"]["pobj"]), covariance
