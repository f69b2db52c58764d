"""Users with several antennas: receive combining on top of `solve_broadcast`, and a bound that holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from radio.bounds.eigen import multiplier_bound
from radio.errors import BadInputError
from radio.fast.weights import random_start
from radio.inputs import as_complex, as_generator
from radio.problem import OnDeadUser, Problem, normalise
from radio.result import BroadcastResult, make_result
from radio.solve import solve_broadcast
from radio.types import ComplexArray, FloatArray

__all__ = ["ReceiveResult", "combined_channel", "solve_receive"]

_COLUMNS = 4
"""Columns of the run that makes the multipliers of the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveResult:
    """A beam for users with several antennas."""

    broadcast: BroadcastResult
    """As of `radio.solve_broadcast`: SNR behind the combiners, and a bound on any beam and any combiner."""
    combiner: ComplexArray
    """Weights of each user's antennas, (..., users, receive), of norm one: it forms sum(conj(c) * y)."""


def combined_channel(h: ComplexArray, combiner: ComplexArray) -> ComplexArray:
    """One antenna a user: what is heard behind combiners.

    Args:
        h: (..., users, receive, nodes, antennas).
        combiner: (..., users, receive), of norm one, so that the noise stays what it was.

    Returns:
        (..., users, nodes, antennas).
    """
    return np.asarray(np.einsum("...kr,...krna->...kna", combiner.conj(), h))


@np.errstate(all="ignore")  # as in `solve_broadcast`
def solve_receive(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    rng: np.random.Generator | int | None = None,
    num_rounds: int = 3,
    *,
    on_dead_user: OnDeadUser = "report",
) -> ReceiveResult:
    """Maximise the SNR of the weakest user behind maximum-ratio combining, with one beam.

    max_w min_k sum_r |h[k, r] w|^2 / noise_k. A fixed point over the whole problem makes a start; then, in
    turn, combiners match the beam and `solve_broadcast` finds the best beam behind them. A round is kept
    where it is better, so more rounds are never worse. For multipliers l of users and m of nodes every beam
    has SNR <= (sum m) lmax(D^-1/2 sum_k l_k sum_r h_kr^H h_kr D^-1/2) / sum l: the bound for one antenna with
    each antenna a user of the same weight.

    Args:
        h: CSI, complex (..., users, receive, nodes, antennas): antenna r of user k receives sum(h[k, r] * w).
        power_w: (..., nodes) or one for all, W.
        noise_w: Of each antenna of a user, (..., users) or one for all, W.
        holders: Nodes that may send, bool (..., nodes); None is all.
        users: Users that wait, bool (..., users); None is all.
        rng: Source of the starts, or a seed; None is 0.
        num_rounds: Rounds of combining and solving, >= 0.
        on_dead_user: As in `radio.solve_broadcast`.

    Returns:
        Beam, combiners, SNR and bound.

    Raises:
        BadInputError: If an argument has a wrong shape or value.
    """
    csi, generator = as_complex("h", h, "..., users, receive, nodes, antennas"), as_generator(rng)
    if csi.ndim < 4 or 0 in csi.shape[-4:]:
        raise BadInputError("h", "(..., users, receive, nodes, antennas)", str(csi.shape))
    receive, nodes, antennas = csi.shape[-3:]
    # All antennas side by side: a user is dead who hears nothing with any of them.
    side = np.moveaxis(csi, -3, -2).reshape(*csi.shape[:-3], nodes, receive * antennas)
    problem = normalise(side, power_w, noise_w, holders, users, on_dead_user=on_dead_user)
    g = np.moveaxis(problem.g.reshape(len(problem.g), -1, nodes, receive, antennas), 2, 3)
    v, bound = np.zeros((len(g), nodes, antennas), complex), np.ones(len(g))
    for row in np.flatnonzero(problem.solvable):
        own = g[row][problem.users[row]]
        v[row], bound[row] = _solve_row(own, problem.holders[row], generator, num_rounds)
    received = np.einsum("bkrna,bna->bkr", g, v)
    snr = (np.abs(received) ** 2).sum(axis=-1)
    worst = np.where(problem.users, snr, np.inf).min(axis=-1, initial=np.inf)
    return _result(problem, v, received, snr, worst, bound)


def _solve_row(
    g: ComplexArray, holders: np.ndarray, rng: np.random.Generator, num_rounds: int
) -> tuple[ComplexArray, float]:
    """Beam (nodes, antennas) and bound of one problem, g (users, receive, nodes, antennas)."""
    users, receive, nodes, antennas = g.shape
    starts = random_start((8, nodes, antennas, 1), rng).astype(np.complex128)
    v = _climb(g, starts * holders[:, None, None], 100)[0][..., 0]
    for _ in range(num_rounds):
        y = np.einsum("krna,na->kr", g, v)
        better = solve_broadcast(combined_channel(g, _unit(y)), 1.0, 1.0, holders, rng=rng).w[..., 0]
        if _least(g, better) > _least(g, v):
            v = better
    start = random_start((1, nodes, antennas, _COLUMNS), rng) * 0.1
    start[..., :1] += v[None, ..., None]
    _, weights, prices = _climb(g, start.astype(np.complex128) * holders[:, None, None], 150)
    flat = g.reshape(1, users * receive, nodes, antennas)
    bound = receive * multiplier_bound(flat, np.repeat(weights, receive)[None], prices[None])[0]
    alone = np.linalg.norm(np.moveaxis(g, 1, 2), ord=2, axis=(-2, -1)).sum(axis=1).min() ** 2
    return v, float(min(bound, alone * (1.0 + 1e-12)))


def _least(g: ComplexArray, v: ComplexArray) -> float:
    return float((np.abs(np.einsum("krna,na->kr", g, v)) ** 2).sum(axis=1).min())


def _climb(g: ComplexArray, u: ComplexArray, steps: int) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """The fixed point of `radio.fast` with all antennas of a user adding up.

    u_n <- unit(sum_k l_k sum_r g_kr^H y_kr / a_k)_n, l_k <- l_k / a_k^eta, a_k^2 = sum_r |y_kr|^2.

    Returns:
        Best beams on the way, (nodes, antennas, columns), and multipliers of users and nodes at the end of
        the best start.
    """
    weights = np.ones((len(u), len(g)))
    u, best, top, start = _power_limited(u), u[0], -1.0, 0
    for step in range(steps):
        y = np.einsum("krna,snac->skrc", g, u)
        amplitude = np.sqrt((np.abs(y) ** 2).sum(axis=(2, 3)))
        least = amplitude.min(axis=1)
        if least.max() > top:
            start, top = int(least.argmax()), float(least.max())
            best = u[start]
        eta = (0.5, 1.0, 1.5)[3 * step // steps]
        safe = np.maximum(amplitude, 1e-150)
        weights = weights * (least[:, None] / safe) ** eta if top > 0 else weights
        weights = np.maximum(weights / weights.max(axis=1, keepdims=True), 1e-6)
        share = weights / safe
        push = np.einsum("krna,skrc->snac", g.conj(), share[..., None, None] * y)
        u = _power_limited(push)
    prices = np.sqrt((np.abs(push[start]) ** 2).sum(axis=(1, 2)))
    return best, share[start], prices


def _power_limited(u: ComplexArray) -> ComplexArray:
    """Norm one at each node, (starts, nodes, antennas, columns)."""
    norm = np.sqrt((np.abs(u) ** 2).sum(axis=(2, 3), keepdims=True))
    return np.asarray(u / np.where(norm > 0, norm, 1.0))


def _unit(y: ComplexArray) -> ComplexArray:
    """Norm one over the last axis; the first antenna alone where nothing is heard."""
    norm = np.linalg.norm(y, axis=-1, keepdims=True)
    first = np.zeros(y.shape[-1])
    first[0] = 1.0
    return np.asarray(np.where(norm > 0, y / np.where(norm > 0, norm, 1.0), first))


def _result(
    problem: Problem,
    v: ComplexArray,
    received: ComplexArray,
    snr: FloatArray,
    worst: FloatArray,
    bound: FloatArray,
) -> ReceiveResult:
    scale, failed = problem.scale, np.zeros(len(bound), dtype=bool)
    broadcast = make_result(problem, v[..., None], snr * scale[:, None], worst * scale, bound * scale, failed)
    combiner = _unit(received).reshape(*problem.batch_shape, *received.shape[1:])
    return ReceiveResult(broadcast=broadcast, combiner=combiner)
