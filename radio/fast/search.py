"""From starts to a certified beam: cheap runs for all rows, dearer ones where the proven gap is large."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from radio.bounds.eigen import multiplier_bound, multiplier_estimate, relaxation_columns
from radio.bounds.interior import exact_bound
from radio.fast.weights import FixedPoint, random_start
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["DEFAULT_EFFORT", "QUICK_EFFORT", "WIDE_EFFORT", "Certify", "Effort", "Kernel", "Stage", "search"]

Certify = Literal["eig", "exact", "none"]


class Kernel(Protocol):
    """The fixed point, in numpy or in torch."""

    def __call__(
        self,
        g: ComplexArray,
        u: ComplexArray,
        users: BoolArray,
        num_nodes: int,
        num_iterations: int,
        length: float = 0.0,
        weights: FloatArray | None = None,
    ) -> FixedPoint:
        """See `radio.fast.weights.fixed_point`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Runs for the rows whose gap is above a tolerance."""

    tolerance: float
    """A row is done once 1 - achieved / bound is at most this."""
    starts: int
    """Random starts."""
    steps: int
    """Iterations of each."""
    near: bool = False
    """Start in the span of the relaxation's beam and from its weights."""
    polish: int = 0
    """Iterations that the best of the starts go on alone, from their weights: cheaper than more for all."""
    polish_length: float = 0.2
    """Of their steps; 0 goes all the way, which is faster at first but keeps all nodes at full power."""
    keep: int = 1
    """How many of the starts are polished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try."""

    stages: tuple[Stage, ...]
    """In turn; the first is for every row."""
    bound_steps: int = 60
    """Iterations of the relaxation for rows that the first stage does not prove."""
    bound_tolerance: float = 3e-3
    """Rows whose relaxation is worse than this after them get more, then the interior-point bound."""


DEFAULT_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=4, steps=40, polish=60, polish_length=0.0),
        Stage(tolerance=1.5e-3, starts=4, steps=60, near=True, polish=100, polish_length=0.4),
        Stage(tolerance=1.5e-2, starts=8, steps=60, near=True, polish=100, keep=4),
        Stage(tolerance=4e-2, starts=64, steps=30, polish=80, keep=16),
        Stage(tolerance=1.2e-1, starts=256, steps=30, polish=100, keep=32),
    )
)
"""For one column. Measured in `radio/README.md`."""
WIDE_EFFORT = Effort(
    stages=(
        Stage(tolerance=0.0, starts=2, steps=30, polish=60, polish_length=0.0),
        Stage(tolerance=3e-4, starts=4, steps=60, near=True, polish=80),
        Stage(tolerance=1.5e-2, starts=8, steps=80, near=True, polish=100, keep=2),
        Stage(tolerance=4e-2, starts=16, steps=40, polish=120, keep=16),
    )
)
"""For more columns, which can come closer to the bound."""
QUICK_EFFORT = Effort(stages=(Stage(tolerance=0.0, starts=4, steps=60),))
"""For inner loops, with certify="none": about a tenth of a millisecond a row, no proof."""
_RELAXED_COLUMNS = 4
"""Columns of the relaxation: its optima have rank one to three, and four cost little more than two."""
_LARGEST_EXACT = 32
"""Nodes times antennas up to which loose bounds are mended by the interior point, beyond by longer runs."""


class _Found:
    """Best beam and bound of each row so far, and where to look on.

    `wide` (batch, size, width) spans good beams, first those of the first runs, then the relaxation's;
    `weights` (batch, users), at most one, are those of the users' amplitudes.
    """

    def __init__(self, g: ComplexArray, users: BoolArray, columns: int) -> None:
        batch, num_users, num_nodes, num_antennas = g.shape
        self.g, self.users, self.columns, self.num_nodes = g, users, columns, num_nodes
        self.flat = g.reshape(batch, num_users, -1).astype(np.complex64)
        size = num_nodes * num_antennas
        self.u = np.zeros((batch, size, columns), dtype=np.complex64)
        self.least = np.zeros(batch)
        self.bound = np.ones(batch)
        width = min(max(columns, _RELAXED_COLUMNS), relaxation_columns(num_users, num_nodes), size)
        self.wide = np.zeros((batch, size, width), dtype=np.complex64)
        self.weights = np.ones((batch, num_users), dtype=np.float32)

    def gap(self) -> FloatArray:
        """1 - achieved / bound, (batch,)."""
        return np.asarray(1.0 - self.least**2 / self.bound)

    def offer(self, rows: np.ndarray, u: ComplexArray, least: FloatArray) -> None:
        """Keep these beams where they are better; u (rows, size, columns), least (rows,)."""
        better = least > self.least[rows]
        self.u[rows[better]] = u[better]
        self.least[rows[better]] = least[better]

    def offer_best(self, rows: np.ndarray, end: FixedPoint) -> None:
        """The best start of each row of a run."""
        best, index = end.least.argmax(axis=1), np.arange(len(rows))
        self.offer(rows, end.u[index, :, :, best], end.least[index, best])

    def remember(self, rows: np.ndarray, wide: ComplexArray, weights: FloatArray) -> None:
        """Look on from wide (rows, size, any) and these weights, (rows, users)."""
        width = min(wide.shape[2], self.wide.shape[2])
        self.wide[rows, :, :width] = wide[:, :, :width]
        self.weights[rows] = weights

    def offer_bound(self, rows: np.ndarray, bound: FloatArray) -> None:
        """Keep these bounds where they are tighter."""
        self.bound[rows] = np.minimum(self.bound[rows], bound)


def search(
    g: ComplexArray,
    users: BoolArray,
    columns: int,
    rng: np.random.Generator,
    kernel: Kernel,
    certify: Certify = "eig",
    effort: Effort | None = None,
) -> tuple[ComplexArray, FloatArray]:
    """Beams and bounds of a batch of scaled problems.

    The multipliers of the first runs prove most rows at once: where the relaxation is tight a good beam has
        its multipliers. Only the others pay for the relaxation, and only those still far from its bound for
        more starts.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        users: Users that count, (batch, users).
        columns: Columns of the beam.
        rng: Source of the starts.
        kernel: The fixed point to run.
        certify: Bound: "eig", "exact" (interior point for every row) or "none" (matched filter; no re-runs).
        effort: Stages and tolerances; None is DEFAULT_EFFORT for one column and WIDE_EFFORT for more.

    Returns:
        Beams with blocks of norm at most one, (batch, nodes, antennas, columns), and bounds on min_k |g_k
        v|^2, (batch,).
    """
    if effort is None:
        effort = DEFAULT_EFFORT if columns == 1 else WIDE_EFFORT
    found = _Found(g, users, columns)
    everyone = np.arange(len(g))
    if certify == "exact":
        found.offer_bound(everyone, exact_bound(g, users).upper)
    relaxed = certify != "eig"
    for number, stage in enumerate(effort.stages):
        rows = everyone if number == 0 else np.flatnonzero(found.gap() > stage.tolerance)
        if number == 1 and not relaxed and len(rows):
            _relax(found, rows, rng, kernel, effort)
            rows = rows[found.gap()[rows] > stage.tolerance]
        if not len(rows) or (number and certify == "none"):
            break
        prove = _worth_proving(effort) if certify == "eig" and number == 0 else None
        _run(found, rows, stage, rng, kernel, prove)
    u = found.u.astype(np.complex128).reshape(*g.shape[:1], *g.shape[2:], columns)
    norm = np.linalg.norm(u, axis=(2, 3), keepdims=True)
    return u / np.maximum(norm, 1.0), found.bound


def _worth_proving(effort: Effort) -> float:
    """Gap above which the relaxation comes anyway, so that the bound of the first runs is of no use."""
    return effort.stages[1].tolerance if len(effort.stages) > 1 else 1.0


def _run(
    found: _Found,
    rows: np.ndarray,
    stage: Stage,
    rng: np.random.Generator,
    kernel: Kernel,
    prove: float | None = None,
) -> None:
    """One stage on some rows; with the bound where it may leave no more than a gap of `prove`."""
    flat, users, nodes = found.flat[rows], found.users[rows], found.num_nodes
    start, weights = _starts(found, rows, stage, rng)
    end = kernel(flat, start, users, nodes, stage.steps, weights=weights)
    wide = end.u.reshape(*found.u[rows].shape[:2], -1)
    found.offer_best(rows, end)
    if stage.polish:
        kept, warm = _best_starts(flat, end, stage.keep)
        end = kernel(flat, kept, users, nodes, stage.polish, stage.polish_length, np.maximum(warm, 1e-3))
        found.offer_best(rows, end)
    if not stage.near:
        found.remember(rows, wide, _best_starts(flat, end, 1)[1][:, :, 0])
    if prove is not None:
        best, index = end.least.argmax(axis=1), np.arange(len(rows))
        multipliers = end.weights[index, :, best], end.prices[index, :, best]
        near = multiplier_estimate(flat, *multipliers) * (1.0 - prove) <= found.least[rows] ** 2
        bound = multiplier_bound(found.g[rows[near]], *(part[near] for part in multipliers))
        found.offer_bound(rows[near], bound)


def _starts(
    found: _Found, rows: np.ndarray, stage: Stage, rng: np.random.Generator
) -> tuple[ComplexArray, FloatArray | None]:
    """Beams to start from and weights of the users to start with, if any."""
    size, width = found.wide.shape[1:]
    if not stage.near:
        return random_start((len(rows), size, found.columns, stage.starts), rng), None
    mix = random_start((len(rows), width, found.columns, stage.starts), rng)
    start = found.wide[rows] @ mix.reshape(len(rows), width, -1)
    weights = np.maximum(found.weights[rows], 1e-3)[:, :, None]
    return start.reshape(len(rows), size, *mix.shape[2:]), np.repeat(weights, stage.starts, axis=2)


def _best_starts(flat: ComplexArray, end: FixedPoint, count: int) -> tuple[ComplexArray, FloatArray]:
    """Beams (rows, size, columns, count) of the best starts, weights of the amplitudes (rows, users, count).

    The weights are at most one.
    """
    best = np.argsort(-end.least, axis=1)[:, None, :count]
    u = np.take_along_axis(end.u, best[:, None], axis=3)
    received = (flat @ u.reshape(*u.shape[:2], -1)).reshape(*flat.shape[:2], *u.shape[2:])
    weights = np.take_along_axis(end.weights, best, axis=2) * np.linalg.norm(received, axis=2)
    return u, np.asarray(weights / weights.max(axis=1, keepdims=True))


def _relax(
    found: _Found,
    rows: np.ndarray,
    rng: np.random.Generator,
    kernel: Kernel,
    effort: Effort,
    attempt: int = 0,
) -> None:
    """Bound by the fixed point on the relaxation; where it stalls, by more, then by the interior point."""
    size, width = found.wide.shape[1:]
    start = found.wide[rows, :, :, None]
    if attempt == 0:  # the first beams may all be one: add new directions
        start = random_start((len(rows), size, width, 1), rng) + np.float32(2.0) * start
    steps = effort.bound_steps * 2**attempt
    weights = np.maximum(found.weights[rows], 1e-2)[:, :, None]
    end = kernel(found.flat[rows], start, found.users[rows], found.num_nodes, steps, weights=weights)
    found.offer_bound(rows, multiplier_bound(found.g[rows], end.weights[:, :, 0], end.prices[:, :, 0]))
    found.remember(rows, end.u[..., 0], _best_starts(found.flat[rows], end, 1)[1][:, :, 0])
    if found.columns >= width:
        wide = np.zeros((*end.u.shape[:2], found.columns), dtype=np.complex64)
        wide[:, :, :width] = end.u[..., 0]
        found.offer(rows, wide, end.least[:, 0])
    loose = rows[end.least[:, 0] ** 2 < (1.0 - effort.bound_tolerance) * found.bound[rows]]
    loose = loose[found.gap()[loose] > effort.bound_tolerance]
    if not len(loose):
        return
    if attempt < (1 if size <= _LARGEST_EXACT else 2):
        _relax(found, loose, rng, kernel, effort, attempt + 1)
    elif size <= _LARGEST_EXACT:
        exact = exact_bound(found.g[loose], found.users[loose])
        found.offer_bound(loose, exact.upper)
        if found.columns >= width:
            _offer_covariance(found, loose, exact.covariance)


def _offer_covariance(found: _Found, rows: np.ndarray, covariance: ComplexArray) -> None:
    """Columns of the interior point's covariance, for beams of full rank."""
    values, vectors = np.linalg.eigh(covariance)
    u = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])[:, :, ::-1][:, :, : found.columns]
    norm = np.linalg.norm(u.reshape(len(rows), found.num_nodes, -1), axis=2)
    u = u / np.repeat(np.maximum(norm, 1e-12), u.shape[1] // found.num_nodes, axis=1)[:, :, None]
    power = (np.abs(found.flat[rows] @ u) ** 2).sum(axis=2)
    least = np.sqrt(np.where(found.users[rows], power, np.inf).min(axis=1))
    found.offer(rows, u.astype(np.complex64), least)
