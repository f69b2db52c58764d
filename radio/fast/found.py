"""What a search has found so far, row by row."""

from typing import NamedTuple

import numpy as np

from radio.bounds.eigen import relaxation_columns
from radio.fast.weights import FixedPoint
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Found", "Searched"]

_RELAXED_COLUMNS = 4
"""Columns of the relaxation: its optima have rank one to three, and four cost little more than two."""


class Searched(NamedTuple):
    """What a search found, row by row."""

    v: ComplexArray
    """Beams with blocks of norm at most one, (batch, nodes, antennas, columns)."""
    bound: FloatArray
    """Bound on min_k |g_k v|^2, (batch,)."""
    residual: FloatArray
    """KKT residual of v, (batch,), see `radio.fast.polish.kkt_residual`; inf where it was not needed."""


class Found:
    """Best beam and bound of each row so far, and where to look on.

    `wide` (batch, size, width) spans good beams, first those of the first runs, then the relaxation's;
    `weights` (batch, users), at most one, are those of the users' amplitudes. `moved` (batch,) is whether the
    last soft stage brought something.
    """

    def __init__(self, g: ComplexArray, users: BoolArray, columns: int) -> None:
        batch, num_users, num_nodes, num_antennas = g.shape
        self.g, self.users, self.columns, self.num_nodes = g, users, columns, num_nodes
        self.flat = g.reshape(batch, num_users, -1).astype(np.complex64)
        size = num_nodes * num_antennas
        self.u = np.zeros((batch, size, columns), dtype=np.complex128)
        self.least = np.zeros(batch)
        self.bound = np.ones(batch)
        self.residual = np.full(batch, np.inf)
        self.moved = np.ones(batch, dtype=bool)
        width = min(max(columns, _RELAXED_COLUMNS), relaxation_columns(num_users, num_nodes), size)
        self.wide = np.zeros((batch, size, width), dtype=np.complex64)
        self.weights = np.ones((batch, num_users), dtype=np.float32)

    def start_from(self, v: ComplexArray, bound: FloatArray) -> None:
        """Beams (batch, nodes, antennas, columns) and bounds (batch,) that are known already."""
        self.u[:] = v.reshape(self.u.shape)
        power = (np.abs(self.flat @ self.u) ** 2).sum(axis=2)
        self.least = np.sqrt(np.where(self.users, power, np.inf).min(axis=1))
        self.offer_bound(np.arange(len(bound)), bound)

    def gap(self) -> FloatArray:
        """1 - achieved / bound, (batch,)."""
        return np.asarray(1.0 - self.least**2 / self.bound)

    def offer(self, rows: np.ndarray, u: ComplexArray, least: FloatArray) -> None:
        """Keep these beams where they are better; u (rows, size, columns), least (rows,)."""
        better = least > self.least[rows]
        self.residual[rows[better]] = np.inf
        self.u[rows[better]] = u[better]
        self.least[rows[better]] = least[better]

    def offer_best(self, rows: np.ndarray, end: FixedPoint) -> None:
        """The best start of each row of a run."""
        best, index = end.least.argmax(axis=1), np.arange(len(rows))
        self.offer(rows, end.u[index, :, :, best], end.least[index, best])

    def offer_beams(self, rows: np.ndarray, u: ComplexArray) -> None:
        """The best of some beams of each row, (rows, any, size, columns)."""
        received = self.flat[rows][:, None] @ u
        power = (np.square(received.real) + np.square(received.imag)).sum(axis=3)
        least = np.where(self.users[rows][:, None], power, np.inf).min(axis=2)
        best, index = least.argmax(axis=1), np.arange(len(rows))
        self.offer(rows, u[index, best], np.sqrt(least[index, best]))

    def remember(self, rows: np.ndarray, wide: ComplexArray, weights: FloatArray) -> None:
        """Look on from wide (rows, size, any) and these weights, (rows, users)."""
        width = min(wide.shape[2], self.wide.shape[2])
        self.wide[rows, :, :width] = wide[:, :, :width]
        self.weights[rows] = weights

    def offer_bound(self, rows: np.ndarray, bound: FloatArray) -> None:
        """Keep these bounds where they are tighter."""
        self.bound[rows] = np.minimum(self.bound[rows], bound)
