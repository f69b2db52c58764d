"""The exact value of the semidefinite relaxation, by a primal-dual interior-point method."""

from dataclasses import dataclass

import numpy as np

from radio.bounds.eigen import largest_eigenvalue, multiplier_bound
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["ExactBound", "exact_bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactBound:
    """Both sides of the relaxation; they agree to the tolerance asked for, or say by how much they do not."""

    upper: FloatArray
    """Certified upper bound on min_k g_k W g_k^H over all covariances, (batch,)."""
    lower: FloatArray
    """Value of `covariance`, (batch,)."""
    covariance: ComplexArray
    """Feasible W, (batch, nodes * antennas, nodes * antennas)."""
    weights: FloatArray
    """Dual weight of each user, (batch, users), sum 1."""
    prices: FloatArray
    """Dual price of each node's power, (batch, nodes)."""
    num_steps: int
    """Steps of the slowest row."""


@dataclass(slots=True)
class _Point:
    """A strictly feasible point of both sides; every array has the batch first."""

    w: ComplexArray
    """Covariance, positive definite."""
    slack: FloatArray
    """g_k W g_k^H - t, (batch, users), > 0; 1 for users that do not count."""
    room: FloatArray
    """1 - tr W_nn, (batch, nodes), > 0."""
    weights: FloatArray
    """(batch, users), > 0, sum 1 over the users that count."""
    prices: FloatArray
    """(batch, nodes), > 0."""

    def take(self, rows: np.ndarray | slice) -> "_Point":
        return _Point(self.w[rows], self.slack[rows], self.room[rows], self.weights[rows], self.prices[rows])

    def put(self, rows: np.ndarray, part: "_Point") -> None:
        self.w[rows], self.slack[rows], self.room[rows] = part.w, part.slack, part.room
        self.weights[rows], self.prices[rows] = part.weights, part.prices


def exact_bound(
    g: ComplexArray, users: BoolArray, tolerance: float = 1e-6, max_steps: int = 60
) -> ExactBound:
    """Solve max t, g_k W g_k^H >= t, tr W_nn <= 1, W >= 0 and its dual min sum(m), S >= 0 side by side.

    S = diag(m_n I) - sum_k l_k g_k^H g_k with sum(l) = 1, l >= 0. The HKM direction (Helmberg, Rendl,
    Vanderbei, Wolkowicz, SIAM J. Optim. 6(2), 1996) needs, by the rank-one structure, one linear system in l
    and m only, of entries Re (g_k W g_j^H)(g_j S^-1 g_k^H), Re (g_k W)_n (S^-1 g_k^H)_n and Re tr W_nm
    S^-1_mn. Every point is feasible on both sides, so both values are bounds at any time.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        users: Users that count, (batch, users), at least one a row.
        tolerance: Relative difference of the two sides at which a row is done.
        max_steps: Steps at most.

    Returns:
        Bracket, covariance and multipliers.
    """
    point = _start(g, users)
    active, step = np.arange(len(g)), 0
    while len(active) and step < max_steps:
        step += 1
        part, dead = _advance(g[active], users[active], point.take(active))
        point.put(active, part)
        upper, lower = _values(part, g[active], users[active])
        active = active[(upper - lower > tolerance * upper) & ~dead]
    weights = np.where(users, point.weights, 0.0)
    _, lower = _values(point, g, users)
    return ExactBound(
        upper=multiplier_bound(g, weights, point.prices),
        lower=lower,
        covariance=point.w,
        weights=weights,
        prices=point.prices,
        num_steps=step,
    )


def _advance(g: ComplexArray, users: BoolArray, at: _Point) -> tuple[_Point, BoolArray]:
    """A step of every row that can make one; the others stay and are said to go no further.

    At the edge of double precision a factorisation fails, for the whole batch: then by halves.
    """
    try:
        moved, dead = _step(g, users, at)
    except np.linalg.LinAlgError:
        if len(g) == 1:
            return at, np.ones(1, dtype=bool)
        halves = [slice(None, len(g) // 2), slice(len(g) // 2, None)]
        done = [_advance(g[half], users[half], at.take(half)) for half in halves]
        parts = zip(*(_arrays(part) for part, _ in done), strict=True)
        return _Point(*map(np.concatenate, parts)), np.concatenate([dead for _, dead in done])
    good = np.ones(len(g), dtype=bool)
    for array in _arrays(moved):
        good &= np.isfinite(array).reshape(len(g), -1).all(axis=1)
    if not good.all():
        moved.put(~good, at.take(~good))
    return moved, dead | ~good


def _arrays(point: _Point) -> tuple[np.ndarray, ...]:
    return point.w, point.slack, point.room, point.weights, point.prices


def _values(point: _Point, g: ComplexArray, users: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Dual and primal value, each recomputed from the point itself."""
    flat = g.reshape(*g.shape[:2], -1)
    received = np.einsum("bki,bki->bk", flat @ point.w, flat.conj()).real
    most = (1.0 - point.room).max(axis=1)
    lower = np.where(users, received, np.inf).min(axis=1) / most
    return point.prices.sum(axis=1), lower


def _start(g: ComplexArray, users: BoolArray) -> _Point:
    """White beams at 0.9 of the power; weights that level the users; prices that make S positive definite."""
    batch, _, num_nodes, num_antennas = g.shape
    size = num_nodes * num_antennas
    strength = (g * g.conj()).real.sum(axis=3)
    total = np.where(users, strength.sum(axis=2), 1.0)
    weights = users / total
    weights /= weights.sum(axis=1, keepdims=True)
    prices = np.einsum("bk,bkn->bn", weights, strength)
    prices += 0.05 * prices.mean(axis=1, keepdims=True)
    scaled = np.sqrt(weights)[:, :, None, None] * g / np.sqrt(prices)[:, None, :, None]
    flat = scaled.reshape(*g.shape[:2], size)
    gram = flat @ flat.conj().swapaxes(1, 2) if g.shape[1] < size else flat.conj().swapaxes(1, 2) @ flat
    prices *= 1.5 * largest_eigenvalue(gram)[:, None]
    received = 0.9 / num_antennas * strength.sum(axis=2)
    value = 0.5 * np.where(users, received, np.inf).min(axis=1, keepdims=True)
    return _Point(
        w=np.broadcast_to(0.9 / num_antennas * np.eye(size, dtype=np.complex128), (batch, size, size)).copy(),
        slack=np.where(users, received - value, 1.0),
        room=np.full((batch, num_nodes), 0.1),
        weights=np.where(users, weights, 1.0),
        prices=prices,
    )


def _step(g: ComplexArray, users: BoolArray, at: _Point) -> tuple[_Point, BoolArray]:
    """One predictor-corrector step (Mehrotra's rule); also says which rows can go no further."""
    batch, num_users, num_nodes, num_antennas = g.shape
    size = num_nodes * num_antennas
    system = _System(g.reshape(batch, num_users, size), users, at)
    gap = np.einsum("bij,bji->b", at.w, system.s).real
    gap += (np.where(users, at.weights * at.slack, 0.0)).sum(axis=1) + (at.prices * at.room).sum(axis=1)
    gap /= size + users.sum(axis=1) + num_nodes
    guess = system.move(np.zeros(batch), None)
    primal, dual = system.lengths(guess, 1.0)
    target = gap * np.clip((1.0 - np.minimum(primal, dual)) ** 2, 1e-4, 0.5)
    change = system.move(target, guess)
    primal, dual = system.lengths(change, 0.97)
    moved = _Point(
        w=at.w + primal[:, None, None] * change.w,
        slack=at.slack + primal[:, None] * change.slack,
        room=at.room + primal[:, None] * change.room,
        weights=at.weights + dual[:, None] * change.weights,
        prices=at.prices + dual[:, None] * change.prices,
    )
    return moved, np.maximum(primal, dual) < 1e-4


class _System:
    """The linear system of one point, used for the predictor and the corrector."""

    def __init__(self, flat: ComplexArray, users: BoolArray, at: _Point) -> None:
        self.flat, self.users, self.at = flat, users, at
        self.adjoint = flat.conj().swapaxes(1, 2)
        self.s = _slack_matrix(flat, self.adjoint, np.where(users, at.weights, 0.0), at.prices)
        self.inverse = hermitian(np.linalg.inv(self.s))
        self.w_lower, self.s_lower = lower_inverse(at.w), lower_inverse(self.s)
        batch, k = users.shape
        n = at.prices.shape[1]
        rows, columns = flat @ at.w, self.inverse @ self.adjoint
        seen, cross = rows @ self.adjoint, flat @ columns
        shared = (rows * columns.swapaxes(1, 2)).real.reshape(batch, k, n, -1).sum(axis=3)
        blocks = (
            (at.w * self.inverse.conj()).real.reshape(batch, n, -1, n, flat.shape[2] // n).sum(axis=(2, 4))
        )
        matrix = np.zeros((batch, k + n + 1, k + n + 1))
        matrix[:, :k, :k] = (seen * cross.conj()).real
        matrix[:, :k, k:-1] = -shared
        matrix[:, k:-1, :k] = -shared.swapaxes(1, 2)
        matrix[:, k:-1, k:-1] = blocks
        self.scale = np.concatenate([at.weights, at.prices, np.ones((batch, 1))], axis=1)
        diagonal = np.concatenate([at.slack / at.weights, at.room / at.prices, np.zeros((batch, 1))], axis=1)
        index = np.arange(k + n + 1)
        matrix[:, index, index] += diagonal
        matrix[:, :k, -1] = matrix[:, -1, :k] = -1.0 * users
        self.solver = np.linalg.inv(matrix * self.scale[:, :, None] * self.scale[:, None, :])

    def move(self, target: FloatArray, guess: "_Point | None") -> "_Point":
        """Change towards complementarity `target`, with the second-order term of a guess."""
        at, users = self.at, self.users
        k, n = users.shape[1], at.prices.shape[1]
        aim = target[:, None, None] * self.inverse - at.w
        aim_slack, aim_room = target[:, None] / at.weights - at.slack, target[:, None] / at.prices - at.room
        if guess is not None:
            d_s = _slack_matrix(self.flat, self.adjoint, guess.weights, guess.prices)
            aim = aim - hermitian(guess.w @ d_s @ self.inverse)
            aim_slack = aim_slack - guess.slack * guess.weights / at.weights
            aim_room = aim_room - guess.room * guess.prices / at.prices
        right = np.zeros((len(target), k + n + 1))
        right[:, :k] = np.where(users, aim_slack - self._received(aim), 0.0)
        right[:, k:-1] = aim_room + self._used(aim)
        solved = (self.solver @ (right * self.scale)[:, :, None])[..., 0] * self.scale
        weights, prices = np.where(users, solved[:, :k], 0.0), solved[:, k:-1]
        d_s = _slack_matrix(self.flat, self.adjoint, weights, prices)
        d_w = aim - hermitian(at.w @ d_s @ self.inverse)
        slack = np.where(users, self._received(d_w) - solved[:, -1:], 0.0)
        return _Point(d_w, slack, -self._used(d_w), weights, prices)

    def lengths(self, change: "_Point", share: float) -> tuple[FloatArray, FloatArray]:
        """Longest feasible steps, at most one, on the primal and the dual side."""
        at = self.at
        d_s = _slack_matrix(self.flat, self.adjoint, change.weights, change.prices)
        primal = np.minimum(to_edge(self.w_lower, change.w), shortest_ratio(at.slack, change.slack))
        primal = np.minimum(primal, shortest_ratio(at.room, change.room))
        dual = np.minimum(to_edge(self.s_lower, d_s), shortest_ratio(at.weights, change.weights))
        dual = np.minimum(dual, shortest_ratio(at.prices, change.prices))
        return np.minimum(1.0, share * primal), np.minimum(1.0, share * dual)

    def _received(self, w: ComplexArray) -> FloatArray:
        return np.asarray(((self.flat @ w) * self.flat.conj()).real.sum(axis=2))

    def _used(self, w: ComplexArray) -> FloatArray:
        diagonal = np.einsum("bii->bi", w).real
        return np.asarray(diagonal.reshape(len(w), self.at.prices.shape[1], -1).sum(axis=2))


def _slack_matrix(
    flat: ComplexArray, adjoint: ComplexArray, weights: FloatArray, prices: FloatArray
) -> ComplexArray:
    """diag(m_n I) - sum_k l_k g_k^H g_k."""
    s = -(adjoint * weights[:, None, :]) @ flat
    index = np.arange(s.shape[1])
    s[:, index, index] += np.repeat(prices, s.shape[1] // prices.shape[1], axis=1)
    return np.asarray(s)


def hermitian(matrix: ComplexArray) -> ComplexArray:
    return np.asarray((matrix + matrix.conj().swapaxes(1, 2)) / 2.0)


def shortest_ratio(value: FloatArray, change: FloatArray) -> FloatArray:
    """Longest step that keeps value + step * change >= 0."""
    return np.asarray(1.0 / np.maximum((-change / value).max(axis=1), 1e-9))


def lower_inverse(matrix: ComplexArray) -> ComplexArray:
    """Inverse of the Cholesky factor."""
    size = matrix.shape[1]
    jitter = 1e-15 * np.einsum("bii->b", matrix).real[:, None, None] * np.eye(size)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(matrix + jitter)))


def to_edge(lower: ComplexArray, change: ComplexArray) -> FloatArray:
    """Longest step that keeps matrix + step * change positive semidefinite; takes the inverse factor."""
    scaled = lower @ change @ lower.conj().swapaxes(1, 2)
    return np.asarray(1.0 / np.maximum(-np.linalg.eigvalsh(scaled)[:, 0], 1e-9))
