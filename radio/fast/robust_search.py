"""From starts to a certified beam under CSI error."""

from dataclasses import replace

import numpy as np

from radio.bounds.beam import beam_bound, one_user_bound
from radio.bounds.eigen import multiplier_bound, relaxation_columns
from radio.bounds.interior import exact_bound
from radio.fast.robust import RobustPoint, robust_fixed_point
from radio.fast.search import Certify, search
from radio.fast.weights import fixed_point, random_start
from radio.fast.worst_case import worst_case
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["EXTRA_COLUMNS", "prove_robust", "search_robust"]

_STAGES = ((0.0, 4, 100, 0.0), (5e-3, 12, 200, 1.0), (2e-2, 24, 300, 1.0))
"""For one column: tolerance above which a row takes part, starts, iterations, damping."""
_WIDE_STAGES = ((0.0, 4, 100, 0.0), (1e-2, 8, 200, 0.0))
"""For more: nearly all starts end at the same value, and what is left of the gap is the rank's."""
_PROVEN = 2e-3
"""Gap below which a row of one column needs no better bound."""
_LOOSE = 3e-3
"""Difference of a relaxation and its bound above which the bound is made again with more effort."""
_MARKUPS = ((1.0,), (0.0, 0.7, 1.5))
"""Relaxations of one column: at the power that is best, then at more and at less for rows still loose."""
_FLOORS = (0.0, 1e-3, 1e-2)
"""Least price of a node's power tried, as a share of the mean: a node that the error wipes out has none."""
EXTRA_COLUMNS = 2
"""Columns beyond those of the nominal relaxation with which loose rows are solved again."""
_FAR = 0.15
"""Gap above which the nominal search is asked as well."""
_NOTHING = 1e-14
"""Bound below which nothing can be guaranteed."""
_FIRST, _RELAXED, _MARKED, _LONG, _AIMED = 0, 10, 20, 30, 40
"""Numbers of calls, for their starts."""
_LARGEST_EXACT = 64
"""Nodes times antennas up to which loose bounds are mended by the interior point, beyond by longer runs."""


class _Rows:
    """A batch of problems, and the best beam and bound of each so far."""

    def __init__(
        self,
        g: ComplexArray,
        users: BoolArray,
        error: FloatArray,
        root_power: FloatArray,
        columns: int,
        seed: int,
    ) -> None:
        self.seed = seed
        self.g, self.users, self.error, self.root_power = g, users, error, root_power
        self.flat = g.reshape(*g.shape[:2], -1).astype(np.complex64)
        self.size = g.shape[2] * g.shape[3]
        self.wide = min(relaxation_columns(*g.shape[1:3]), self.size)
        self.v = np.zeros((len(g), *g.shape[2:], columns), dtype=np.complex128)
        self.least = np.full(len(g), -1.0)
        alone = np.where(users, one_user_bound(g, error, root_power), np.inf)
        self.bound = np.minimum(1.0, alone.min(axis=1)) ** 2
        self.weakest = alone.argmin(axis=1)

    def run(
        self,
        rows: np.ndarray,
        columns: int,
        starts: int,
        steps: int,
        call: int,
        markup: float | None = None,
        damping: float = 0.0,
    ) -> RobustPoint:
        """Best of a few starts, blocks of norm at most one; with a markup, the relaxation of one column.

        Every row has the same starts, which go by the number of the call, so that none depends on another.
        """
        again = np.repeat(rows, starts)
        rng = np.random.default_rng([self.seed, call])
        start = random_start((starts, *self.g.shape[2:], columns), rng)
        end = robust_fixed_point(
            self.flat[again],
            np.tile(start, (len(rows), 1, 1, 1)),
            self.users[again],
            self.error[again],
            self.root_power[again],
            steps,
            markup,
            damping,
        )
        best = end.least.reshape(len(rows), starts).argmax(axis=1) + np.arange(len(rows)) * starts
        v = end.v[best].astype(np.complex128)
        v /= np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), 1.0)
        return RobustPoint(v=v, least=end.least[best], weights=end.weights[best], prices=end.prices[best])

    def guaranteed(self, rows: np.ndarray, v: ComplexArray) -> tuple[FloatArray, ComplexArray]:
        """Least guaranteed amplitude, (rows,), and the channels that attain it."""
        worst = worst_case(self.g[rows], v, self.error[rows], self.root_power[rows])
        users = self.users[rows]
        channel = np.where(users[:, :, None, None], worst.channel, 0.0)
        return np.where(users, worst.amplitude, np.inf).min(axis=1), channel

    def offer_matched(self) -> None:
        """Keep beams matched to the weakest user alone: with one user, often near outage too, the best.

        Per link, a node of which the error outweighs the channel keeps silent; joint, beams go by what is
        heard over the power that the error costs.
        """
        rows = np.arange(len(self.g))
        g, root = self.g[rows, self.weakest], self.root_power
        size = np.linalg.norm(g, axis=2)
        full = np.where(size > 0, 1.0, 0.0)
        if self.error.ndim == 3:
            share = np.where(size > self.error[rows, self.weakest] * root, full, 0.0)
            shares = [share]
        else:
            apart = np.where(root > 0, size / np.where(root > 0, root, 1.0) ** 2, 0.0)
            apart = apart / np.maximum(apart.max(axis=1, keepdims=True), 1e-300)
            shares = [*(np.minimum(level * apart, 1.0) for level in (1.0, 2.0, 5.0)), full]
        for share in shares:
            v = np.conj(g) * (share / np.where(size > 0, size, 1.0))[:, :, None]
            self.offer(rows, v[..., None], self.guaranteed(rows, v[..., None])[0])

    def offer(self, rows: np.ndarray, v: ComplexArray, least: FloatArray) -> None:
        """Keep these beams where they are better."""
        better = least > self.least[rows]
        self.v[rows[better]] = 0.0
        self.v[rows[better], :, :, : v.shape[3]] = v[better]
        self.least[rows[better]] = least[better]

    def offer_bound(self, rows: np.ndarray, bound: FloatArray) -> None:
        """Keep these bounds where they are tighter."""
        self.bound[rows] = np.minimum(self.bound[rows], bound)

    def hopeful(self) -> BoolArray:
        """Rows not proven to be in outage, (batch,)."""
        return np.asarray(self.bound > _NOTHING)

    def gap(self) -> FloatArray:
        """1 - achieved / bound, (batch,); 1 in outage."""
        return np.asarray(1.0 - np.maximum(self.least, 0.0) ** 2 / np.maximum(self.bound, _NOTHING))


def search_robust(
    g: ComplexArray,
    users: BoolArray,
    columns: int,
    error: FloatArray,
    root_power: FloatArray,
    rng: np.random.Generator,
    certify: Certify = "eig",
    known: tuple[ComplexArray, FloatArray] | None = None,
) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """Beams, guaranteed powers and bounds of a batch of scaled problems with CSI error.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        users: Users that count, (batch, users).
        columns: Columns of the beam.
        error: Scaled radius, (batch, users) or (batch, users, nodes).
        root_power: sqrt of the nodes' power, (batch, nodes).
        rng: Source of the starts.
        certify: "eig" (as "exact", see `prove_robust`) or "none" (every user alone; no re-runs).
        known: Beams (batch, nodes, antennas, columns) and bounds (batch,) to start from, as of fewer columns.

    Returns:
        Beams (batch, nodes, antennas, columns), guaranteed min_k power (batch,) and bounds on it (batch,).
    """
    seed, everyone = int(rng.integers(1 << 63)), np.arange(len(g))
    rows = _Rows(g, users, error, root_power, columns, seed)
    rows.offer_matched()
    if known is not None:
        rows.offer_bound(everyone, known[1])
        rows.offer(everyone, known[0], rows.guaranteed(everyone, known[0])[0])
    if certify != "none" and columns > 1:
        _relax(rows, everyone, _LOOSE)
    stages = _STAGES if columns == 1 else _WIDE_STAGES
    for number, (tolerance, starts, steps, damping) in enumerate(stages if certify != "none" else stages[:1]):
        again = everyone[(rows.gap() > tolerance) & ((number == 0) | rows.hopeful())]
        if not len(again):
            break
        end = rows.run(again, columns, starts, steps, number, damping=damping)
        rows.offer(again, end.v, rows.guaranteed(again, end.v)[0])
        if number == 0 and certify != "none" and columns == 1:
            _bound_one_column(rows, again, end, "eig")
    if certify != "none":
        for call in (_AIMED, _AIMED + 1):
            _aim(rows, np.flatnonzero((rows.gap() > _FAR) & rows.hopeful()), call)
    return rows.v, np.maximum(rows.least, 0.0) ** 2, rows.bound


def prove_robust(
    g: ComplexArray,
    users: BoolArray,
    error: FloatArray,
    root_power: FloatArray,
    known: tuple[ComplexArray, FloatArray],
) -> tuple[ComplexArray, FloatArray]:
    """Tighten bounds as far as the relaxation goes; beams and bounds never get worse.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas).
        users: Users that count, (batch, users).
        error: Scaled radius, (batch, users) or (batch, users, nodes).
        root_power: sqrt of the nodes' power, (batch, nodes).
        known: Beams (batch, nodes, antennas, columns) and bounds (batch,).

    Returns:
        Beams and bounds.
    """
    columns, everyone = known[0].shape[3], np.arange(len(g))
    rows = _Rows(g, users, error, root_power, columns, 0)
    rows.offer_bound(everyone, known[1])
    rows.offer(everyone, known[0], rows.guaranteed(everyone, known[0])[0])
    if columns > 1:
        _relax(rows, everyone, 0.0)
    else:
        _bound_one_column(rows, everyone, rows.run(everyone, 1, 4, 100, _FIRST), "exact")
    return rows.v, rows.bound


def _aim(rows: _Rows, again: np.ndarray, call: int) -> None:
    """Nominal beams for the amplitudes that users need under the error, and on from there.

    With the nodes' powers fixed, guaranteeing t is reaching t + penalty_k: a nominal problem in g_k / (t +
    penalty_k), for which there is a search that finds good beams where users are many.
    """
    if not len(again):
        return
    g, users, error = rows.g[again], rows.users[again], rows.error[again]
    sent = rows.root_power[again] * np.linalg.norm(rows.v[again], axis=(2, 3))
    if error.ndim == 2:
        penalty = error * np.linalg.norm(sent, axis=1)[:, None]
    else:
        penalty = (error * sent[:, None, :]).sum(axis=2)
    target = np.maximum(rows.least[again], 0.0)[:, None] + penalty
    target = np.maximum(target, 1e-3 * np.where(users, target, 0.0).max(axis=1, keepdims=True))
    aimed = g / target[..., None, None]
    weakest = np.where(users, np.linalg.norm(aimed, axis=3).sum(axis=2), np.inf).min(axis=1)
    rng = np.random.default_rng([rows.seed, call])
    columns = rows.v.shape[3]
    found = search(aimed / weakest[:, None, None, None], users, columns, rng, fixed_point).v
    rows.offer(again, found, rows.guaranteed(again, found)[0])
    start = found.astype(np.complex64)
    fixed = rows.flat[again], start, users, error, rows.root_power[again]
    v = robust_fixed_point(*fixed, 100, damping=1.0).v.astype(np.complex128)
    v /= np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), 1.0)
    rows.offer(again, v, rows.guaranteed(again, v)[0])


def _bound_one_column(rows: _Rows, again: np.ndarray, end: RobustPoint, certify: Certify) -> None:
    """Bound what one column can do by the multipliers of the beams; where that is loose, of the relaxation.

    The relaxation has more columns but pays as one: the same iteration with a markup. With larger and smaller
    markups it has less and more power than is best; together the multipliers bound beams of any power.
    """
    proven = _PROVEN if certify == "eig" else -np.inf
    found = [end]
    rows.offer_bound(again, _beams(rows, again, found))
    for number, markups in enumerate(_MARKUPS):
        keep = (rows.gap() > proven)[again] & rows.hopeful()[again]
        again, found = again[keep], [point.take(keep) for point in found]
        if not len(again):
            return
        found += [rows.run(again, rows.wide, 1, 100, _MARKED + number, markup) for markup in markups]
        rows.offer_bound(again, _beams(rows, again, found))
    loose = found[1].least ** 2 < (1.0 - _LOOSE) * rows.bound[again]
    loose = rows.hopeful()[again] & ((loose & (rows.gap() > proven)[again]) | (certify == "exact"))
    again, found = again[loose], [point.take(loose) for point in found]
    if len(again) and rows.size <= _LARGEST_EXACT:
        found.append(_exact(rows, again, found[1]))
    elif len(again):
        found.append(rows.run(again, rows.wide, 1, 400, _LONG, 1.0))
    if len(again):
        rows.offer_bound(again, _beams(rows, again, found))


def _beams(rows: _Rows, again: np.ndarray, found: list[RobustPoint]) -> FloatArray:
    """Bounds on the guaranteed power of one column from the multipliers found, (rows,)."""
    weights = np.stack([point.weights for point in found], axis=1)
    prices = np.stack([point.prices for point in found], axis=1)
    return beam_bound(rows.g[again], rows.error[again], rows.root_power[again], weights, prices) ** 2


def _exact(rows: _Rows, again: np.ndarray, point: RobustPoint) -> RobustPoint:
    """Exact multipliers at the power of a relaxation: with powers and targets fixed it is a nominal one."""
    x = np.linalg.norm(point.v, axis=(2, 3))
    sent = rows.root_power[again] * x
    error = rows.error[again]
    if error.ndim == 2:
        penalty = error * np.linalg.norm(sent, axis=1)[:, None]
    else:
        penalty = (error * sent[:, None, :]).sum(axis=2)
    target = np.maximum(point.least, 0.0)[:, None] + penalty
    target = np.maximum(target, 1e-6 * target.max(axis=1, keepdims=True))
    x = np.maximum(x, 0.03)
    end = exact_bound(rows.g[again] * x[:, None, :, None] / target[..., None, None], rows.users[again])
    return replace(point, weights=end.weights / target**2, prices=end.prices / x**2)


def _relax(rows: _Rows, again: np.ndarray, tolerance: float) -> None:
    """Bound what any number of columns can do, by solving the relaxation; longer where the two differ.

    No covariance does better in its worst case than on any one channel of the ball, and on the worst channel
    of the robust optimum (a saddle point, since the worst case is convex in the error) it does no better at
    all. So the relaxation is solved by the same fixed point with enough columns, and the nominal bound is
    taken on its worst channels, with its multipliers or exactly: no linear matrix inequality is needed.
    """
    again = again[rows.hopeful()[again] & (rows.gap()[again] > tolerance)]
    channel = rows.g[again]
    for steps, extra in ((100, 0), (300, EXTRA_COLUMNS)):
        if not len(again):
            return
        end = rows.run(again, min(rows.wide + extra, rows.size), 1, steps, _RELAXED + extra)
        least, channel = rows.guaranteed(again, end.v)
        if rows.v.shape[3] >= end.v.shape[3]:
            rows.offer(again, end.v, least)
        mean = end.prices.mean(axis=1, keepdims=True)
        for floor in _FLOORS:
            prices = np.maximum(end.prices, floor * mean)
            rows.offer_bound(again, multiplier_bound(channel, end.weights, prices))
        loose = (least**2 < (1.0 - tolerance) * rows.bound[again]) & rows.hopeful()[again]
        again, channel = again[loose], channel[loose]
    if len(again) and rows.size <= _LARGEST_EXACT:
        rows.offer_bound(again, exact_bound(channel, rows.users[again]).upper)
