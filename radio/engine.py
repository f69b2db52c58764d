"""Every row of a problem, rank by rank: what a solver gives is checked, and a lower rank's answer is kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from radio.bounds.eigen import relaxation_columns
from radio.bounds.interior import exact_bound
from radio.fast.effort import SINGLE_EFFORT, TOUCH_EFFORT, WARM_EFFORT, Effort, Stage
from radio.fast.found import Searched
from radio.fast.robust_search import EXTRA_COLUMNS, prove_robust, search_robust
from radio.fast.search import Certify, Kernel, search
from radio.fast.weights import fixed_point
from radio.fast.worst_case import worst_case
from radio.problem import Problem
from radio.snr import broadcast_snr
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Answer", "Settings", "solve_problem"]

_CHUNK_NUMBERS = 1 << 18
"""Complex numbers of CSI solved together: keeps the working set in the cache."""
_CLOSE = 3e-4
"""Gap below which a higher rank is not tried."""
_POOR = 2.0
"""Gain of a polish in SNR that shows that its start was no good beam."""
_TRACES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
"""Amplitudes that users too strong for the search are offered."""
_LARGEST_RADIUS = 1e9
"""Radius in the search, over the amplitude of the weakest user; what is guaranteed counts all of it."""

_PLAIN = Effort(stages=(Stage(tolerance=0.0, starts=4, steps=100),), finish=0)
"""For a row on which factorisations fail: the fixed point alone has none."""


class Settings(NamedTuple):
    """How to solve."""

    solver: Literal["fast", "sdp", "global"]
    certify: Certify
    effort: Effort | None
    device: str | None


@dataclass(slots=True)
class Answer:
    """Beams and bounds so far, in scaled units; batch first."""

    v: ComplexArray
    """(batch, nodes, antennas, columns), ||v_n|| <= 1, zero where not solved."""
    worst: FloatArray
    """Guaranteed power of the weakest user, recomputed from v, (batch,)."""
    bound: FloatArray
    """(batch,)."""
    failed: BoolArray
    """No solver gave an answer, (batch,)."""
    residual: FloatArray
    """KKT residual of v, (batch,); inf where it is not known."""

    def offer(self, rows: np.ndarray, v: ComplexArray, worst: FloatArray, residual: FloatArray) -> None:
        """Keep these beams where they guarantee as much or more."""
        better = worst >= self.worst[rows]
        self.v[rows[better]] = 0.0
        self.v[rows[better], :, :, : v.shape[3]] = v[better]
        self.worst[rows[better]], self.residual[rows[better]] = worst[better], residual[better]


class _Rows(NamedTuple):
    """Some rows as the search takes them: without the users that any trace of power serves."""

    rows: np.ndarray
    g: ComplexArray
    users: BoolArray
    error: FloatArray | None
    root_power: FloatArray


def solve_problem(
    problem: Problem,
    rank: int | str,
    settings: Settings,
    rng: np.random.Generator,
    start: ComplexArray | None = None,
) -> Answer:
    """Solve all rows that want it.

    Ranks are solved in turn, 1, 2, 3, 4, 6, 8, 12, ... and the columns of the relaxation; each starts where
    the one below left off and keeps that answer unless it finds a better one. So no rank is worse than a
    lower one with the same arguments, and no certificate of a higher rank is made twice.

    Args:
        problem: The batch.
        rank: Columns of the beams or "full".
        settings: Solver and effort.
        rng: Source of the random starts.
        start: Scaled beams to start from, (batch, nodes, antennas, columns), or None.

    Returns:
        Beams and bounds; none is worse than its start.
    """
    num_users, num_nodes, num_antennas = problem.g.shape[1:]
    full = relaxation_columns(num_users, num_nodes) + (0 if problem.error is None else EXTRA_COLUMNS)
    full = max(1, min(full, num_nodes * num_antennas))
    columns = full if isinstance(rank, str) else rank
    batch = len(problem.scale)
    answer = Answer(
        v=np.zeros((batch, num_nodes, num_antennas, columns), dtype=np.complex128),
        worst=np.zeros(batch),
        bound=np.ones(batch),
        failed=np.zeros(batch, dtype=bool),
        residual=np.full(batch, np.inf),
    )
    seed = int(rng.integers(1 << 63))
    open_rows = np.flatnonzero(problem.solvable)
    if start is not None:
        answer.offer(open_rows, *_feasible(problem, open_rows, start[open_rows, :, :, :columns]))
    if settings.solver != "fast":
        for rows in _chunks(open_rows, problem, settings):
            _solve_reference(problem, rows, answer, settings, np.random.default_rng(seed))
        return answer
    if start is not None and problem.error is None:
        open_rows = _solve_warm(problem, open_rows, answer, settings, seed)
    if batch == columns == 1 and settings.effort is None and settings.device is None:
        settings = settings._replace(effort=SINGLE_EFFORT)
    _climb_ranks(problem, open_rows, answer, _ladder(columns, full), settings, seed)
    if settings.certify == "exact":
        for rows in _chunks(np.flatnonzero(problem.solvable), problem, settings):
            _prove(problem, rows, answer)
    return answer


def _climb_ranks(
    problem: Problem, open_rows: np.ndarray, answer: Answer, ranks: list[int], settings: Settings, seed: int
) -> None:
    """The fast search of one rank after the other, for rows still open."""
    kernel = _kernel(settings.device)
    for step in ranks:
        for rows in _chunks(open_rows, problem, settings):
            _solve_fast(problem, rows, answer, step, settings, kernel, seed)
        if problem.error is None or step > 1:
            gap = 1.0 - answer.worst / answer.bound
            open_rows = open_rows[gap[open_rows] > (_CLOSE if settings.certify != "none" else 0.0)]
        elif len(ranks) > 1:  # a bound on beams of one column is none on more
            answer.bound[:] = 1.0


def _solve_warm(
    problem: Problem, rows: np.ndarray, answer: Answer, settings: Settings, seed: int
) -> np.ndarray:
    """Polish what is known; returns the rows that want a search all the same, as what they had was poor."""
    before = answer.worst[rows]
    warm = settings._replace(effort=TOUCH_EFFORT if settings.certify == "none" else WARM_EFFORT)
    for part in _chunks(rows, problem, settings):
        _solve_fast(problem, part, answer, answer.v.shape[3], warm, fixed_point, seed)
    return np.asarray(rows[answer.worst[rows] > _POOR * before])


def _feasible(
    problem: Problem, rows: np.ndarray, v: ComplexArray
) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """Beams within the power limits of the holders, what they guarantee, and no residual."""
    v = np.asarray(v * problem.holders[rows][:, :, None, None] / _node_norms(v, 1.0))
    return v, _guaranteed(problem, rows, v), np.full(len(rows), np.inf)


def _prove(problem: Problem, rows: np.ndarray, answer: Answer) -> None:
    """Exact bounds on top of what the search left, and beams of the exact covariance where better."""
    some = _reduced(problem, rows)
    if some.error is not None:
        known = answer.v[rows], answer.bound[rows]
        v, bound = prove_robust(some.g, some.users, some.error, some.root_power, known)
        _keep(problem, some, answer, Searched(v, bound, answer.residual[rows]))
        return
    exact = exact_bound(some.g, some.users)
    values, vectors = np.linalg.eigh(exact.covariance)
    v = (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])[:, :, ::-1]
    v = v.reshape(len(rows), *problem.g.shape[2:], -1)
    for width in _ladder(answer.v.shape[3], v.shape[3]):  # as of every lower rank, which offers its own
        beams = v[..., :width]
        beams = beams / _node_norms(beams, 1e-300)
        _keep(problem, some, answer, Searched(beams, exact.upper, np.full(len(rows), np.inf)))


def _node_norms(v: ComplexArray, least: float) -> FloatArray:
    """Norm of each node's beams, (rows, nodes, 1, 1), or the least."""
    return np.asarray(np.maximum(np.linalg.norm(v, axis=(2, 3), keepdims=True), least))


def _ladder(columns: int, full: int) -> list[int]:
    """Ranks to solve in turn: the same whatever the last one, as far as it goes."""
    ranks, step = [1, 2, 3], 1
    while ranks[-1] < full:
        ranks += [4 * step, 6 * step]
        step *= 2
    ranks = [rank for rank in ranks if rank < full]
    return [*ranks, full] if columns >= full else [rank for rank in ranks if rank <= columns]


def _chunks(rows: np.ndarray, problem: Problem, settings: Settings) -> Iterator[np.ndarray]:
    size = 1 if settings.device is None else 32
    size = max(16, size * _CHUNK_NUMBERS // max(problem.g[:1].size, 1))
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _reduced(problem: Problem, rows: np.ndarray) -> _Rows:
    """Powers relative to the largest, radii bounded, users without the strong ones."""
    users = problem.users[rows] & ~problem.strong[rows]
    root = np.sqrt(problem.power_w[rows]) * problem.holders[rows]
    most = root.max(axis=1)
    error = None
    if problem.error is not None:
        error = problem.error[rows]
        error = error * most.reshape(-1, *(1,) * (error.ndim - 1))
        seen = users if error.ndim == 2 else users[:, :, None]
        error = np.where(seen, np.minimum(error, _LARGEST_RADIUS), 0.0)
    g = np.where(users[:, :, None, None], problem.g[rows], 0.0)
    return _Rows(rows, g, users, error, root / most[:, None])


def _solve_fast(
    problem: Problem,
    rows: np.ndarray,
    answer: Answer,
    columns: int,
    settings: Settings,
    kernel: Kernel,
    seed: int,
) -> None:
    """The fast search on some rows; where a factorisation fails, by halves, so that a row fails alone."""
    some = _reduced(problem, rows)
    known = None
    if columns > 1 or settings.effort in (TOUCH_EFFORT, WARM_EFFORT):
        known = answer.v[rows, :, :, :columns], answer.bound[rows]
    try:
        found = _search(some, columns, settings, kernel, seed, known)
    except np.linalg.LinAlgError:
        if len(rows) > 1:
            for half in np.array_split(rows, 2):
                _solve_fast(problem, half, answer, columns, settings, kernel, seed)
        elif settings.effort is not _PLAIN:
            plain = settings._replace(effort=_PLAIN, certify="none")
            _solve_fast(problem, rows, answer, columns, plain, kernel, seed)
        return
    _keep(problem, some, answer, found)


def _search(
    some: _Rows,
    columns: int,
    settings: Settings,
    kernel: Kernel,
    seed: int,
    known: tuple[ComplexArray, FloatArray] | None,
) -> Searched:
    """Nominal or robust; a row gets the same starts wherever it stands."""
    certify: Certify = "none" if settings.certify == "none" else "eig"
    rng = np.random.default_rng(seed)
    if some.error is None:
        return search(some.g, some.users, columns, rng, kernel, certify, settings.effort, known)
    given = some.g, some.users, columns, some.error, some.root_power
    v, _, bound = search_robust(*given, rng, certify, known)
    return Searched(v, bound, np.full(len(v), np.inf))


def _solve_reference(
    problem: Problem, rows: np.ndarray, answer: Answer, settings: Settings, rng: np.random.Generator
) -> None:
    """cvxpy, or branch and bound."""
    from radio.reference.rows import solve_rows, solve_rows_globally

    some = _reduced(problem, rows)
    holders = problem.holders[rows]
    if settings.solver == "sdp":
        found = solve_rows(some.g, some.users, holders, some.error, some.root_power, answer.v.shape[3], rng)
    else:
        found = solve_rows_globally(some.g, some.users, holders)
    answer.failed[rows] = found.failed
    _keep(problem, some, answer, Searched(found.v, found.bound, np.full(len(rows), np.inf)))


def _keep(problem: Problem, some: _Rows, answer: Answer, found: Searched) -> None:
    """Offer what a solver found, made finite and feasible, and recompute what it guarantees."""
    rows = some.rows
    finite = np.isfinite(found.v).all(axis=(1, 2, 3), keepdims=True)
    v: ComplexArray = np.where(finite & problem.holders[rows][:, :, None, None], found.v, 0.0)
    v = np.asarray(v / _node_norms(v, 1.0))
    bound = np.where(np.isfinite(found.bound), np.maximum(found.bound, 0.0), 1.0)
    answer.bound[rows] = np.minimum(answer.bound[rows], bound)
    if not problem.strong[rows].any():
        answer.offer(rows, v, _guaranteed(problem, rows, v), found.residual)
        return
    side = _towards_strong(problem, rows)
    for trace in _TRACES:
        tried: ComplexArray = v.copy()
        tried[..., :1] += np.asarray(trace * side[..., None], dtype=np.complex128)
        tried = np.asarray(tried / _node_norms(tried, 1.0))
        answer.offer(rows, tried, _guaranteed(problem, rows, tried), np.full(len(rows), np.inf))


def _towards_strong(problem: Problem, rows: np.ndarray) -> ComplexArray:
    """A beam that all strong users hear, (rows, nodes, antennas), of unit blocks or less."""
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random(problem.strong.shape[1]))
    g = problem.g[rows] * (problem.strong[rows] * phases)[:, :, None, None]
    size = np.linalg.norm(g, axis=(2, 3), keepdims=True)
    side = np.conj(g / np.where(size > 0, size, 1.0)).sum(axis=1)
    return np.asarray(side / np.maximum(np.linalg.norm(side, axis=2, keepdims=True), 1.0))


def _guaranteed(problem: Problem, rows: np.ndarray, v: ComplexArray) -> FloatArray:
    """Power that the weakest user has for sure, (rows,)."""
    g, users = problem.g[rows], problem.users[rows]
    if problem.error is None:
        power = broadcast_snr(g, v, np.ones(1))
    else:
        root = np.sqrt(problem.power_w[rows]) * problem.holders[rows]
        power = worst_case(g, v, problem.error[rows], root).amplitude ** 2
    power = np.where(np.isnan(power), 0.0, power)
    return np.asarray(np.where(users, power, np.inf).min(axis=1))


def _kernel(device: str | None) -> Kernel:
    """The fixed point for a device; torch is imported only where it is asked for."""
    if device is None:
        return fixed_point
    from radio.fast.torch_weights import TorchKernel

    return TorchKernel(device)
