"""Max-min of Hermitian forms under power limits: the semidefinite program of one branch, many at once."""

from dataclasses import dataclass

import numpy as np

from radio.bounds.eigen import largest_eigenvalue
from radio.bounds.interior import hermitian, lower_inverse, shortest_ratio, to_edge
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Forms", "Relaxed", "relax_forms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """Maximise s over W >= 0 with Re(a_k W b_k^H) >= least_k s and blocks of trace at most one.

    The last form is an equation, Re(a W b^H) = 0.
    """

    a: ComplexArray
    """(batch, forms, size)."""
    b: ComplexArray
    """(batch, forms, size)."""
    least: FloatArray
    """(batch, forms), >= 0; 0 for the last and for those that do not count."""
    counts: BoolArray
    """(batch, forms); the others have a = b = 0."""
    starts: np.ndarray
    """Index of the first coordinate of each block, (blocks,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """Where the method stopped: once the value is known to be below one, or not to be."""

    bound: FloatArray
    """Certified upper bound on s, (batch,), recomputed from the multipliers by an eigenvalue."""
    multipliers: FloatArray
    """Of each form, (batch, forms); sum(multipliers * least) = 1."""
    w: ComplexArray
    """Primal matrix, (batch, size, size), about feasible where the bound is not below one."""


@dataclass(slots=True)
class _Point:
    """Primal W, slack, room; dual y of forms and p of blocks. Batch first."""

    w: ComplexArray
    slack: FloatArray
    room: FloatArray
    y: FloatArray
    p: FloatArray

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.w, self.slack, self.room, self.y, self.p


def relax_forms(forms: Forms, max_steps: int = 40) -> Relaxed:
    """Decide whether s >= 1, by a primal-dual interior-point method.

    The dual is min sum(p), S = diag(p) - sum_k y_k A_k >= 0, sum_k y_k least_k = 1, y >= 0 (free for the
    equation), A_k = (a_k^H b_k + b_k^H a_k) / 2. It is feasible at every step, so a row ends as soon as
    sum(p) < 1, which proves s < 1. The direction is that of `radio.bounds.interior`, with entries of the
    system Re tr(A_i W A_j S^-1); the primal side may start outside.
    """
    point = _start(forms)
    batch = len(forms.a)
    outside, active = np.ones(batch), np.arange(batch)
    for _ in range(max_steps):
        part = _Point(*(array[active] for array in point.arrays()))
        try:
            length, gap = _step(_take(forms, active), part)
        except np.linalg.LinAlgError:  # at the edge of double precision: the bounds so far stand
            break
        for whole, new in zip(point.arrays(), part.arrays(), strict=True):
            whole[active] = new
        outside[active] *= 1.0 - length
        value = part.p.sum(axis=1)
        above = (outside[active] < 1e-6) & (value - gap > 1.0)
        active = active[(value >= 1.0) & ~above & (gap > 1e-8) & (length > 1e-6)]
        if not len(active):
            break
    share = (np.where(forms.counts, point.y, 0.0) * forms.least).sum(axis=1)
    bound = point.p.sum(axis=1) * _largest(forms, point.y, point.p) / share * (1.0 + 1e-12)
    return Relaxed(bound=bound, multipliers=point.y / share[:, None], w=point.w)


def _take(forms: Forms, rows: np.ndarray) -> Forms:
    return Forms(
        a=forms.a[rows],
        b=forms.b[rows],
        least=forms.least[rows],
        counts=forms.counts[rows],
        starts=forms.starts,
    )


def _start(forms: Forms) -> _Point:
    """White beams; multipliers that level the forms; prices that make S positive definite."""
    batch, _, size = forms.a.shape
    widths = np.diff(forms.starts, append=size)
    strength = (np.abs(forms.a) ** 2 + np.abs(forms.b) ** 2).sum(axis=2)
    wanted = forms.counts & (forms.least > 0)
    y = np.where(wanted, 1.0 / np.where(wanted, strength, 1.0), np.where(forms.counts, 1e-3, 1.0))
    y[:, -1] = 0.0
    y /= (y * forms.least).sum(axis=1, keepdims=True)
    y = np.where(forms.counts, y, 1.0)
    p = np.add.reduceat(
        (y[:, :, None] * (np.abs(forms.a) ** 2 + np.abs(forms.b) ** 2)).sum(axis=1), forms.starts, axis=1
    )
    p += 0.05 * p.mean(axis=1, keepdims=True)
    p *= 1.5 * _largest(forms, y, p)[:, None]
    white = np.repeat(0.9 / widths, widths)
    slack = np.where(wanted, np.abs(_seen(forms, np.broadcast_to(np.diag(white), (batch, size, size)))), 0.0)
    slack = np.maximum(slack, 0.1 * slack.max(axis=1, keepdims=True))
    return _Point(
        w=np.broadcast_to(np.diag(white).astype(np.complex128), (batch, size, size)).copy(),
        slack=np.where(forms.counts, slack, 1.0),
        room=np.full(p.shape, 0.1),
        y=y,
        p=p,
    )


def _step(forms: Forms, at: _Point) -> tuple[FloatArray, FloatArray]:
    """One predictor-corrector step in place; returns the primal length and the duality gap."""
    system = _System(forms, at)
    pairs = at.w.shape[1] + forms.counts[:, :-1].sum(axis=1) + at.p.shape[1]
    inequality = forms.counts[:, :-1]
    gap = np.einsum("bij,bji->b", at.w, system.s).real + (at.p * at.room).sum(axis=1)
    gap += (np.where(inequality, (at.y * at.slack)[:, :-1], 0.0)).sum(axis=1)
    guess = system.move(np.zeros(len(gap)), None)
    primal, dual = system.lengths(guess, 1.0)
    target = gap / pairs * np.clip((1.0 - np.minimum(primal, dual)) ** 2, 1e-4, 0.5)
    change = system.move(target, guess)
    primal, dual = system.lengths(change, 0.97)
    at.w += primal[:, None, None] * change.w
    at.slack += primal[:, None] * change.slack
    at.room += primal[:, None] * change.room
    at.y += dual[:, None] * change.y
    at.p += dual[:, None] * change.p
    return primal, gap


class _System:
    """The linear system of one point, used for the predictor and the corrector."""

    def __init__(self, forms: Forms, at: _Point) -> None:
        self.forms, self.at = forms, at
        self.s = _slack_matrix(forms, at.y, at.p)
        self.inverse = hermitian(np.linalg.inv(self.s))
        self.w_lower, self.s_lower = lower_inverse(at.w), lower_inverse(self.s)
        batch, m, _ = forms.a.shape
        blocks = at.p.shape[1]
        self.free = np.arange(m) == m - 1
        matrix = np.zeros((batch, m + blocks + 1, m + blocks + 1))
        matrix[:, :m, :m] = self._form_entries()
        shared = self._shared_entries()
        matrix[:, :m, m:-1], matrix[:, m:-1, :m] = -shared, -shared.swapaxes(1, 2)
        both = (at.w * self.inverse.conj()).real
        matrix[:, m:-1, m:-1] = np.add.reduceat(
            np.add.reduceat(both, forms.starts, axis=1), forms.starts, axis=2
        )
        matrix[:, :m, -1] = matrix[:, -1, :m] = -forms.least
        diagonal = np.concatenate(
            [np.where(self.free, 0.0, at.slack / np.where(self.free, 1.0, at.y)), at.room / at.p], axis=1
        )
        index = np.arange(m + blocks)
        matrix[:, index, index] += diagonal
        scale = np.concatenate([np.where(self.free, 1.0, at.y), at.p, np.ones((batch, 1))], axis=1)
        self.scale = scale
        self.solver = np.linalg.inv(matrix * scale[:, :, None] * scale[:, None, :])

    def _form_entries(self) -> FloatArray:
        """Re tr(A_i W A_j S^-1), (batch, forms, forms)."""
        a, b = self.forms.a, self.forms.b
        grams = []
        for matrix in (self.at.w, self.inverse):
            left, right = a.conj().swapaxes(1, 2), b.conj().swapaxes(1, 2)
            am, bm = a @ matrix, b @ matrix
            ab = am @ right
            grams.append((am @ left, ab, ab.conj().swapaxes(1, 2), bm @ right))
        (waa, wab, wba, wbb), (saa, sab, sba, sbb) = grams
        # (x_i W x_j^H) times the conjugate of (y_i S^-1 y_j^H), for the four pairings of a and b.
        total = wba * sab.conj() + wbb * saa.conj() + waa * sbb.conj() + wab * sba.conj()
        return np.asarray(0.25 * total.real)

    def _shared_entries(self) -> FloatArray:
        """Re tr(A_k W D_n S^-1), (batch, forms, blocks)."""
        a, b = self.forms.a, self.forms.b
        both = (b @ self.at.w) * (a @ self.inverse).conj() + (a @ self.at.w) * (b @ self.inverse).conj()
        return np.asarray(0.5 * np.add.reduceat(both.real, self.forms.starts, axis=2))

    def move(self, target: FloatArray, guess: "_Point | None") -> "_Point":
        """Change towards complementarity `target`, with the second-order term of a guess."""
        at, forms = self.at, self.forms
        m = forms.a.shape[1]
        aim = target[:, None, None] * self.inverse
        aim_slack, aim_room = target[:, None] / np.where(self.free, 1.0, at.y), target[:, None] / at.p
        if guess is not None:
            d_s = _slack_matrix(forms, guess.y, guess.p)
            aim = aim - hermitian(guess.w @ d_s @ self.inverse)
            aim_slack = aim_slack - guess.slack * guess.y / np.where(self.free, 1.0, at.y)
            aim_room = aim_room - guess.room * guess.p / at.p
        right = np.zeros((len(target), self.scale.shape[1]))
        right[:, :m] = np.where(forms.counts, np.where(self.free, 0.0, aim_slack) - _seen(forms, aim), 0.0)
        right[:, m:-1] = aim_room + _used(forms, aim) - 1.0
        solved = (self.solver @ (right * self.scale)[:, :, None])[..., 0] * self.scale
        y, p = np.where(forms.counts, solved[:, :m], 0.0), solved[:, m:-1]
        d_w = aim - at.w - hermitian(at.w @ _slack_matrix(forms, y, p) @ self.inverse)
        slack = aim_slack - at.slack - at.slack * y / np.where(self.free, 1.0, at.y)
        room = aim_room - at.room - at.room * p / at.p
        return _Point(d_w, np.where(forms.counts & ~self.free, slack, 0.0), room, y, p)

    def lengths(self, change: "_Point", share: float) -> tuple[FloatArray, FloatArray]:
        """Longest feasible steps, at most one, on the primal and the dual side."""
        at, cut = self.at, slice(None, -1)
        d_s = _slack_matrix(self.forms, change.y, change.p)
        primal = np.minimum(
            to_edge(self.w_lower, change.w), shortest_ratio(at.slack[:, cut], change.slack[:, cut])
        )
        primal = np.minimum(primal, shortest_ratio(at.room, change.room))
        dual = np.minimum(to_edge(self.s_lower, d_s), shortest_ratio(at.y[:, cut], change.y[:, cut]))
        dual = np.minimum(dual, shortest_ratio(at.p, change.p))
        return np.minimum(1.0, share * primal), np.minimum(1.0, share * dual)


def _weighted(forms: Forms, y: FloatArray) -> ComplexArray:
    """sum_k y_k A_k, (batch, size, size)."""
    return hermitian((forms.a.conj().swapaxes(1, 2) * y[:, None, :]) @ forms.b)


def _largest(forms: Forms, y: FloatArray, p: FloatArray) -> FloatArray:
    """Largest eigenvalue of D^-1/2 sum_k y_k A_k D^-1/2, D = diag(p); sum(p) times it is a bound on s."""
    root = 1.0 / np.sqrt(np.repeat(p, np.diff(forms.starts, append=forms.a.shape[2]), axis=1))
    return largest_eigenvalue(_weighted(forms, y) * root[:, :, None] * root[:, None, :])


def _slack_matrix(forms: Forms, y: FloatArray, p: FloatArray) -> ComplexArray:
    """diag(p) - sum_k y_k A_k."""
    s = -_weighted(forms, y)
    index = np.arange(s.shape[1])
    s[:, index, index] += np.repeat(p, np.diff(forms.starts, append=s.shape[1]), axis=1)
    return s


def _seen(forms: Forms, w: ComplexArray) -> FloatArray:
    """Re(a_k W b_k^H), (batch, forms)."""
    return np.asarray(((forms.a @ w) * forms.b.conj()).real.sum(axis=2))


def _used(forms: Forms, w: ComplexArray) -> FloatArray:
    """Trace of each block, (batch, blocks)."""
    return np.asarray(np.add.reduceat(np.einsum("bii->bi", w).real, forms.starts, axis=1))
