"""From a good beam to a certified local optimum: interior-point steps on the linearised problem, in batch."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Polished", "kkt_residual", "polish"]

_ROOM = 1e-2
"""Share of the weakest amplitude given up first, so that no limit is touched."""
_SHORT = 0.95
"""Share of the way to the nearest limit that a step goes."""
_CENTRE = (0.1, 0.4)
"""Of the mean complementarity, aimed at after a long step and after a short one."""
_LONG = 0.9
"""Share of the whole step from which on it is long."""
_LEAST = 1e-10
"""Complementarity over the amplitude below which double precision has nothing left to gain."""
_NOTHING = 1e-300
_FLOOR = 1e-9
"""Least price of a node's power over the sum of all: keeps the systems regular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polished:
    """What the steps reached."""

    v: ComplexArray
    """Beams, (batch, nodes, antennas, columns), blocks of norm at most one."""
    least: FloatArray
    """Amplitude of the weakest user under them, (batch,); never below that of the start."""
    residual: FloatArray
    """KKT residual of v, (batch,), see `kkt_residual`."""
    weights: FloatArray
    """Multipliers of the users' powers, (batch, users), for `multiplier_bound`; 0 where masked."""
    prices: FloatArray
    """Multipliers of the nodes' powers, (batch, nodes)."""


def polish(
    g: ComplexArray,
    v: ComplexArray,
    users: BoolArray,
    steps: int,
    tolerance: float = 0.0,
    room: float = _ROOM,
) -> Polished:
    """Climb from v to a local optimum of min_k ||g_k v|| with ||v_n|| <= 1.

    ||g_k v|| is convex, so at least its linearisation: the convex problem with all users linearised at v has
    no beam that is not as good in truth, and an optimum that is no worse. Primal-dual interior-point steps
    are made on it, and it is linearised again after each.

    Args:
        g: Scaled CSI, complex128 (batch, users, nodes, antennas); zero where masked.
        v: Start, (batch, nodes, antennas, columns).
        users: Users that count, (batch, users).
        steps: At most this many.
        tolerance: A row is done once its residual is at most this.
        room: Share of the amplitude given up at first: about how far v may be from the optimum.

    Returns:
        The best beams seen, what they achieve and how stationary they are.
    """
    best = np.array(v / np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), 1.0), dtype=np.complex128)
    least = _least(g, best, users)
    weights, prices = users * 1.0, np.ones((len(g), g.shape[2]))
    rows = np.flatnonzero(least > 0.0)
    at = _Iterate(g[rows], best[rows], users[rows], room)
    while steps and len(rows):
        at.step()
        beams, reached = at.beams()
        better = reached > least[rows]
        best[rows[better]], least[rows[better]] = beams[better], reached[better]
        weights[rows], prices[rows] = at.weights, at.prices
        left = at.residual(reached) > tolerance
        rows, at, steps = rows[left], at if left.all() else at.take(left), steps - 1
    residual, weights = kkt_residual(g, best, users, weights)
    return Polished(v=best, least=least, residual=residual, weights=weights, prices=prices)


def kkt_residual(
    g: ComplexArray, v: ComplexArray, users: BoolArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """How far beams are from first-order optimality, in SNR, by given weights of the users' amplitudes.

    With z_k = (g_k v)^* / ||g_k v||, no beam within the power limits lifts the least of the linearised
    amplitudes Re(g_k x z_k) above D = sum_n ||sum_k l_k g_kn^H z_k^*|| / sum l, whatever the weights l. So
    (D / min_k ||g_k v||)^2 - 1 >= 0 bounds what a first-order step could gain. It is zero for some l at a KKT
    point, and only there.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        v: Beams, (batch, nodes, antennas, columns).
        users: Users that count, (batch, users).
        weights: (batch, users), >= 0.

    Returns:
        Residuals (batch,), inf where a user receives nothing; weights of the users' powers (batch, users).
    """
    y, amplitude = _receive(g, v)
    safe = np.where(amplitude > 0.0, amplitude, 1.0)
    least = np.where(users, amplitude, np.inf).min(axis=1)
    value = _linear_value(g, y / safe[:, :, None], weights)
    heard = least > 0.0
    gain = np.maximum((value / np.where(heard, least, 1.0)) ** 2 - 1.0, 0.0)
    return np.where(heard, gain, np.inf), weights / safe


def _receive(g: ComplexArray, v: ComplexArray) -> tuple[ComplexArray, FloatArray]:
    """What users receive, (batch, users, columns), and its norm."""
    flat = g.reshape(*g.shape[:2], g.shape[2] * g.shape[3])
    y = flat @ v.reshape(len(v), flat.shape[2], v.shape[3])
    return y, _norm(y)


def _norm(y: ComplexArray) -> FloatArray:
    """Over the columns of what users receive."""
    if y.shape[2] == 1:
        return np.abs(y[:, :, 0])
    return np.asarray(np.sqrt((np.square(y.real) + np.square(y.imag)).sum(axis=2)))


def _least(g: ComplexArray, v: ComplexArray, users: BoolArray) -> FloatArray:
    return np.asarray(np.where(users, _receive(g, v)[1], np.inf).min(axis=1))


def _linear_value(g: ComplexArray, z: ComplexArray, weights: FloatArray) -> FloatArray:
    """D of `kkt_residual`: weighted by l, the most that the linearised amplitudes can be."""
    batch, users, nodes, _ = g.shape
    pull = g.reshape(batch, users, -1).conj().swapaxes(1, 2) @ (weights[:, :, None] * z)
    most = np.linalg.norm(pull.reshape(batch, nodes, -1), axis=2).sum(axis=1)
    return np.asarray(most / weights.sum(axis=1))


class _Direction(NamedTuple):
    """A step of beams, of the amplitude aimed at, and the pull on the users along it."""

    x: FloatArray
    aim: FloatArray
    pull: FloatArray
    """Change of the users' linearised amplitudes less that of the aim, (batch, users)."""


class _Iterate:
    """Beams x strictly within all limits, an amplitude `aim` that all users exceed, and multipliers."""

    def __init__(self, g: ComplexArray, v: ComplexArray, users: BoolArray, room: float) -> None:
        self.shape = v.shape
        self.users = users
        self.absent = None if users.all() else np.where(users, 0.0, np.inf)
        self.flat = g.reshape(*users.shape, v.shape[1] * v.shape[2])
        self.conjugate = self.flat.conj()
        self.count = users.sum(axis=1) + v.shape[1]
        self.x = _pairs(v * (1.0 - room / 4.0)).reshape(len(v), 2 * math.prod(v.shape[1:]))
        self.measure()
        self.aim = self.least * (1.0 - room)
        self.find_slack()
        self.weights = users / self.slack
        scale = self.weights.sum(axis=1, keepdims=True)
        self.weights /= scale
        self.prices = 1.0 / (scale * self.spare)
        self.long = np.ones(len(v))

    def measure(self) -> None:
        """What the beams bring and what power they leave; the slopes of the amplitudes, one row a user."""
        y = self.flat @ self.x.view(np.complex128).reshape(len(self.x), self.flat.shape[2], self.shape[3])
        self.amplitude = _norm(y)
        z = y / np.maximum(self.amplitude, _NOTHING)[:, :, None]
        wide = self.conjugate * z if self.shape[3] == 1 else self.conjugate[..., None] * z[:, :, None]
        self.rows = _pairs(wide).reshape(*self.users.shape, self.x.shape[1])
        heard = self.amplitude if self.absent is None else self.amplitude + self.absent
        self.least = heard.min(axis=1)
        self.blocks = _by_node(self.x, self.shape)
        self.size = np.square(self.blocks).sum(axis=2)
        self.spare = (1.0 - self.size) / 2.0

    def find_slack(self) -> None:
        """By how much users exceed the aim; one where masked."""
        slack = self.amplitude - self.aim[:, None]
        self.slack = slack if self.absent is None else np.where(self.users, slack, 1.0)

    def take(self, rows: BoolArray) -> "_Iterate":
        """Some rows."""
        part = object.__new__(_Iterate)
        for name, value in vars(self).items():
            setattr(part, name, value[rows] if isinstance(value, np.ndarray) else value)
        part.shape = (len(part.x), *self.shape[1:])
        return part

    def beams(self) -> tuple[ComplexArray, FloatArray]:
        """The beams at the power limit of the busiest node, and the weakest amplitude."""
        busiest = np.sqrt(self.size.max(axis=1))
        v = (self.x / busiest[:, None]).view(np.complex128).reshape(self.shape)
        return v, self.least / busiest

    def residual(self, least: FloatArray) -> FloatArray:
        """KKT residual of those beams by these weights, as of `kkt_residual`."""
        pull = _by_node((self.weights[:, None] @ self.rows)[:, 0], self.shape)
        value = np.sqrt(np.square(pull).sum(axis=2)).sum(axis=1) / self.weights.sum(axis=1)
        return np.asarray(np.square(value / least) - 1.0)

    def step(self) -> None:
        """One primal-dual step towards the centre of a smaller complementarity."""
        mean = ((self.weights * self.slack).sum(axis=1) + (self.prices * self.spare).sum(axis=1)) / self.count
        goal = mean * np.where(self.long > _LONG, *_CENTRE)
        goal = np.maximum(goal, _LEAST * self.aim / self.count)[:, None]
        rise = goal * self.users / self.slack
        to = self._direction(rise, goal / self.spare)
        moved = _by_node(to.x, self.shape)
        out = (self.blocks * moved).sum(axis=2)
        weights = rise - self.weights - self.weights * to.pull / self.slack
        prices = (goal + self.prices * out) / self.spare - self.prices
        primal = np.minimum(_room_left(self.slack, to.pull), self._power_left(moved, out))
        dual = np.minimum(_room_left(self.weights, weights), _room_left(self.prices, prices))
        primal, dual = np.minimum(1.0, _SHORT * primal), np.minimum(1.0, _SHORT * dual)
        self.long = np.minimum(primal, dual)
        self.x = self.x + primal[:, None] * to.x
        self.aim = self.aim + primal * to.aim
        self.weights = self.weights + dual[:, None] * weights
        self.prices = self.prices + dual[:, None] * prices
        self.measure()
        self.find_slack()

    def _power_left(self, moved: FloatArray, out: FloatArray) -> FloatArray:
        """How far the beams can move before a node is at its limit, (batch,)."""
        size = np.square(moved).sum(axis=2)
        root = np.sqrt(np.square(out) + 2.0 * size * self.spare)
        inward = (root - out) / np.maximum(size, _NOTHING)
        outward = 2.0 * self.spare / np.maximum(out + root, _NOTHING)
        return np.asarray(np.where(out < 0.0, inward, outward).min(axis=1))

    def _direction(self, rise: FloatArray, push: FloatArray) -> _Direction:
        """Solve the Newton system, reduced to the beams or to the users, whichever are fewer."""
        pull = (rise[:, None] @ self.rows)[:, 0] - (self.blocks * push[:, :, None]).reshape(self.x.shape)
        missing = rise.sum(axis=1) - 1.0
        solve = self._by_beams if self.x.shape[1] <= self.users.shape[1] else self._by_users
        move, aim = solve(pull, missing)
        return _Direction(move, aim, (self.rows @ move[:, :, None])[:, :, 0] - aim[:, None])

    def _curvature(self) -> tuple[FloatArray, FloatArray]:
        """Of a node's block: this times the identity, plus that times the block's outer product."""
        prices = np.maximum(self.prices, _FLOOR * self.prices.sum(axis=1, keepdims=True))
        return prices, prices / self.spare

    def _by_beams(self, pull: FloatArray, missing: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The system of the beams: as many unknowns as real numbers in them."""
        rate = self.weights / self.slack
        mean, total = (rate[:, None] @ self.rows)[:, 0], rate.sum(axis=1)
        matrix = (self.rows * rate[:, :, None]).swapaxes(1, 2) @ self.rows
        matrix -= mean[:, :, None] * (mean / total[:, None])[:, None, :]
        prices, bend = self._curvature()
        wide = self.blocks.shape[2]
        diagonal = np.arange(matrix.shape[1])
        matrix[:, diagonal, diagonal] += np.repeat(prices, wide, axis=1)
        for node in range(self.shape[1]):
            part = slice(node * wide, (node + 1) * wide)
            block = self.blocks[:, node]
            matrix[:, part, part] += (bend[:, node, None] * block)[:, :, None] * block[:, None, :]
        move = _solve(matrix, (pull - mean * (missing / total)[:, None])[:, :, None])[:, :, 0]
        return move, ((mean * move).sum(axis=1) - missing) / total

    def _by_users(self, pull: FloatArray, missing: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The system of the users' forces u, with move = P (pull - rows^T u), P the inverse curvature."""
        turned, drift = self._uncurve(self.rows), self._uncurve(pull[:, None])
        rows, rate, present = self.rows, self.weights, 1.0 * self.users
        if self.absent is not None:
            rows, rate = rows * present[:, :, None], np.where(self.users, rate, 1.0)
        matrix = turned @ rows.swapaxes(1, 2)
        diagonal = np.arange(matrix.shape[1])
        matrix[:, diagonal, diagonal] += self.slack / rate
        found = _solve(matrix, np.stack([(rows @ drift[:, 0, :, None])[:, :, 0], present], axis=2))
        aim = (found[:, :, 0].sum(axis=1) - missing) / found[:, :, 1].sum(axis=1)
        force = found[:, :, 0] - aim[:, None] * found[:, :, 1]
        return drift[:, 0] - (force[:, None] @ turned)[:, 0], aim

    def _uncurve(self, rows: FloatArray) -> FloatArray:
        """P times each row, (batch, any, numbers)."""
        prices, bend = self._curvature()
        split = rows.reshape(*rows.shape[:2], *self.blocks.shape[1:])
        along = np.einsum("bknd,bnd->bkn", split, self.blocks)
        along *= (bend / (prices * (prices + bend * self.size)))[:, None]
        left = split / prices[:, None, :, None]
        left -= along[..., None] * self.blocks[:, None]
        return np.asarray(left.reshape(rows.shape))


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solve a batch of positive definite systems, with a ridge if one of them is singular in its digits."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        diagonal = np.arange(matrix.shape[1])
        matrix[:, diagonal, diagonal] *= 1.0 + 1e-9
        matrix[:, diagonal, diagonal] += _NOTHING
        return np.linalg.solve(matrix, right)


def _pairs(values: ComplexArray) -> FloatArray:
    """Complex numbers as pairs of real ones along the last axis."""
    return np.ascontiguousarray(values).view(np.float64)


def _by_node(x: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.asarray(x.reshape(shape[0], shape[1], 2 * shape[2] * shape[3]))


def _room_left(value: FloatArray, change: FloatArray) -> FloatArray:
    """How often the change can be added before a positive value is zero, (batch,)."""
    falling = change < 0.0
    return np.asarray(np.where(falling, value / np.where(falling, -change, 1.0), np.inf).min(axis=1))
