"""From starts to a certified beam: cheap runs for all rows, dearer ones where the proven gap is large."""

from typing import Literal, Protocol

import numpy as np

from radio.bounds.eigen import multiplier_bound, multiplier_estimate
from radio.bounds.interior import exact_bound
from radio.fast.effort import DEFAULT_EFFORT, WIDE_EFFORT, Effort, SoftStage, Stage
from radio.fast.found import Found, Searched
from radio.fast.polish import polish
from radio.fast.soft_min import sharpen, soft_ascent, with_silent_antenna
from radio.fast.weights import FixedPoint, random_start
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Certify", "Kernel", "search"]

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


_SILENT = 0.3
"""Amplitude of the silent antenna at the start of an ascent."""
_MIDDLE, _SHARP = 16.0, 200.0
"""Sharpness of the soft minimum where the best of the ascents are chosen, and at the end."""
_SMALL = 32
"""Complex numbers of a beam up to which the kept ascents are polished one by one instead of sharpened."""
_POLISH_STEPS, _ENOUGH, _WIDE_ROOM = 8, 3e-3, 0.1
"""Of that polish: steps, residual, and the room that a beam of moderate sharpness needs."""
_TURN = 0.02
"""Amplitude of the silent antenna when an ascent starts from a good beam."""
_STUCK = 1e-3
"""KKT residual that shows, after all steps, that linear ones crawl."""
_AROUND = (np.array([200.0]), 2000.0, 60)
"""Sharpness at the start and at the end, and steps, of an ascent past a saddle."""
_MOVED = 1.5e-3
"""Relative gain of the amplitude by a soft stage that makes the next one worth its while."""
_CACHED = 1 << 15
"""Powers of users under starts that are worked on together: keeps the working set in the cache."""
_NEAR_PROOF = 2e-2
"""Gap up to which the multipliers of a local optimum may prove more than is known."""
_LARGEST_EXACT = 32
"""Nodes times antennas up to which loose bounds are mended by the interior point, beyond by longer runs."""


def search(
    g: ComplexArray,
    users: BoolArray,
    columns: int,
    rng: np.random.Generator,
    kernel: Kernel,
    certify: Certify = "eig",
    effort: Effort | None = None,
    known: tuple[ComplexArray, FloatArray] | None = None,
) -> Searched:
    """Beams and bounds of a batch of scaled problems.

    The multipliers of the first runs prove most rows at once: where the relaxation is tight a good beam has
        its multipliers. Only the others pay for the relaxation, and only those still far from its bound for
        more starts and for a polish to a local optimum. What a row gets does not depend on the other rows.

    Args:
        g: Scaled CSI, (batch, users, nodes, antennas); zero where masked.
        users: Users that count, (batch, users).
        columns: Columns of the beam.
        rng: Source of the starts, the same for every row.
        kernel: The fixed point to run.
        certify: Bound: "eig" (as "exact", which `radio.engine` adds at the end) or "none" (matched filter; no
            re-runs).
        effort: Stages and tolerances; None is DEFAULT_EFFORT for one column and WIDE_EFFORT for more.
        known: Beams (batch, nodes, antennas, columns) and bounds (batch,) to start from, as of fewer columns.

    Returns:
        Beams, bounds and KKT residuals.
    """
    if effort is None:
        effort = DEFAULT_EFFORT if columns == 1 else WIDE_EFFORT
    found, everyone = Found(g, users, columns), np.arange(len(g))
    seeds = rng.integers(1 << 63, size=len(effort.stages) + 1)
    if known is not None:
        found.start_from(*known)
    if isinstance(effort.stages[0], Stage):
        prove = None if certify == "none" else effort.prove_tolerance
        _run(found, everyone, effort.stages[0], np.random.default_rng(seeds[1]), kernel, prove)
    if effort.first:
        rows = np.flatnonzero(found.gap() > effort.finish_tolerance)
        _settle(found, rows, effort.first, effort.finish_residual, near=1.0)
    if certify != "none":
        _prove_and_improve(found, effort, seeds, kernel)
    u = found.u.reshape(*g.shape[:1], *g.shape[2:], columns)
    norm = np.linalg.norm(u, axis=(2, 3), keepdims=True)
    return Searched(u / np.maximum(norm, 1.0), found.bound, found.residual)


def _prove_and_improve(found: Found, effort: Effort, seeds: np.ndarray, kernel: Kernel) -> None:
    """The relaxation's bound and the later stages, each for the rows that still want it."""
    rows = np.flatnonzero(found.gap() > effort.prove_tolerance)
    if len(rows):
        _relax(found, rows, np.random.default_rng(seeds[0]), kernel, effort)
    for stage, seed in zip(effort.stages[1:], seeds[2:], strict=True):
        gap = found.gap()
        rows = np.flatnonzero((gap > stage.tolerance) & (gap <= stage.most_gap))
        if not len(rows):
            continue
        if isinstance(stage, SoftStage):
            _ascend(found, rows, stage, np.random.default_rng(seed))
        else:
            _run(found, rows, stage, np.random.default_rng(seed), kernel)
    if effort.finish:
        _finish(found, np.flatnonzero(found.gap() > effort.finish_tolerance), effort)


def _run(
    found: Found,
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
    if stage.settle:
        kept, _ = _best_starts(flat, end, stage.keep)
        v = _polish_each(found, rows, kept, stage.settle)
        found.offer_beams(rows, v.reshape(len(rows), -1, *found.u.shape[1:]))
    if not stage.near:
        found.remember(rows, wide, _best_starts(flat, end, 1)[1][:, :, 0])
    if prove is not None:
        best, index = end.least.argmax(axis=1), np.arange(len(rows))
        multipliers = end.weights[index, :, best], end.prices[index, :, best]
        near = multiplier_estimate(flat, *multipliers) * (1.0 - prove) <= found.least[rows] ** 2
        bound = multiplier_bound(found.g[rows[near]], *(part[near] for part in multipliers))
        found.offer_bound(rows[near], bound)


def _ascend(found: Found, rows: np.ndarray, stage: SoftStage, rng: np.random.Generator) -> None:
    """Ascents on the soft minimum where they promise something; the best go on to the sharp end."""
    gap = found.gap()[rows]
    rows = rows[(gap > stage.sure) | found.moved[rows]]
    num_users, size = found.flat.shape[1:]
    start = random_start((1, size, found.columns, stage.num_starts(num_users, size)), rng)
    start = with_silent_antenna(start, found.num_nodes, _SILENT)
    before = found.least[rows]
    chunk = max(1, _CACHED // (start.shape[1] * num_users))
    for part in (rows[i : i + chunk] for i in range(0, len(rows), chunk)):
        v = _sharp(found, part, stage, np.repeat(start, len(part), axis=0))
        found.offer_beams(part, v.reshape(len(part), -1, size, found.columns))
    found.moved[rows] = found.least[rows] > before * (1.0 + _MOVED)


def _sharp(found: Found, rows: np.ndarray, stage: SoftStage, start: ComplexArray) -> ComplexArray:
    """The best beams that ascents from start end in, (rows * any, nodes, antennas, columns)."""
    g, users = found.g[rows], found.users[rows]
    size = found.flat.shape[2]
    first = stage.first_sharpness(g.shape[1], size)
    end = soft_ascent(g, start, users, sharpen(first, _MIDDLE, stage.steps(g.shape[1], size)))
    end = end.best(stage.keep)
    if size * found.columns > _SMALL:
        middle = np.full(end.least.shape[1], _MIDDLE)
        end = soft_ascent(g, end.x, users, sharpen(middle, _SHARP, stage.polish)).best(1)
        return np.moveaxis(end.beams(), 3, 1)
    return _polish_each(found, rows, end.beams(), _POLISH_STEPS)


def _polish_each(found: Found, rows: np.ndarray, u: ComplexArray, steps: int) -> ComplexArray:
    """Interior-point steps from every one of some beams, (rows, size, columns, any); one after another."""
    g, users, count = found.g[rows], found.users[rows], u.shape[3]
    v = np.moveaxis(u, 3, 1).reshape(len(rows) * count, *g.shape[2:], found.columns)
    many = np.repeat(g, count, axis=0), v, np.repeat(users, count, axis=0)
    return polish(*many, steps=steps, tolerance=_ENOUGH, room=_WIDE_ROOM).v


def _finish(found: Found, rows: np.ndarray, effort: Effort) -> None:
    """To a local optimum; linear steps crawl past a saddle, where the soft minimum bends the right way."""
    rows = rows[found.residual[rows] > effort.finish_residual]
    _settle(found, rows, effort.finish, effort.finish_residual)
    rows = rows[found.residual[rows] > _STUCK]
    if len(rows) and effort.past_saddles:
        u = found.u[rows].astype(np.complex64)
        start = with_silent_antenna(u[..., None], found.num_nodes, _TURN)
        end = soft_ascent(found.g[rows], start, found.users[rows], sharpen(*_AROUND)).beams()
        _settle(found, rows, 3 * effort.finish, effort.finish_residual, end[..., 0])


def _settle(
    found: Found,
    rows: np.ndarray,
    steps: int,
    residual: float,
    u: ComplexArray | None = None,
    near: float = _NEAR_PROOF,
) -> None:
    """Interior-point steps from u, (rows, size, columns), or the best beams; their bound if nearly proven."""
    if not len(rows):
        return
    g = found.g[rows]
    v = (found.u[rows] if u is None else u).reshape(len(rows), *g.shape[2:], found.columns)
    end = polish(g, v, found.users[rows], steps, residual)
    better = (end.least >= found.least[rows]) | (u is None)
    found.offer(rows[better], end.v[better].reshape(-1, found.u.shape[1], found.columns), end.least[better])
    found.residual[rows[better]] = end.residual[better]
    close = np.flatnonzero(better & (found.gap()[rows] <= near))
    if len(close):
        bound = multiplier_bound(g[close], end.weights[close], end.prices[close])
        found.offer_bound(rows[close], bound)


def _starts(
    found: Found, rows: np.ndarray, stage: Stage, rng: np.random.Generator
) -> tuple[ComplexArray, FloatArray | None]:
    """Beams to start from and weights of the users to start with, if any."""
    size, width = found.wide.shape[1:]
    if not stage.near:
        start = random_start((1, size, found.columns, stage.starts), rng)
        return np.repeat(start, len(rows), axis=0), None
    mix = random_start((1, width, found.columns, stage.starts), rng)
    start = found.wide[rows] @ mix.reshape(1, width, -1)
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
    found: Found,
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
        start = random_start((1, size, width, 1), rng) + np.float32(2.0) * start
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
    if attempt + 1 < effort.bound_attempts + (size > _LARGEST_EXACT):
        _relax(found, loose, rng, kernel, effort, attempt + 1)
    elif size <= _LARGEST_EXACT:
        exact = exact_bound(found.g[loose], found.users[loose])
        found.offer_bound(loose, exact.upper)
        if found.columns >= width:
            _offer_covariance(found, loose, exact.covariance)


def _offer_covariance(found: Found, rows: np.ndarray, covariance: ComplexArray) -> None:
    """Columns of the interior point's covariance, for beams of full rank."""
    values, vectors = np.linalg.eigh(covariance)
    u = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])[:, :, ::-1][:, :, : found.columns]
    norm = np.linalg.norm(u.reshape(len(rows), found.num_nodes, -1), axis=2)
    u = u / np.repeat(np.maximum(norm, 1e-12), u.shape[1] // found.num_nodes, axis=1)[:, :, None]
    power = (np.abs(found.flat[rows] @ u) ** 2).sum(axis=2)
    least = np.sqrt(np.where(found.users[rows], power, np.inf).min(axis=1))
    found.offer(rows, u.astype(np.complex64), least)
