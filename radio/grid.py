"""An OFDM grid: resource blocks in groups that share a beam, for one block of data over the whole band."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radio.errors import BadInputError
from radio.fast.weights import random_start
from radio.inputs import as_complex, as_generator, as_mask, as_real
from radio.problem import OK, OnDeadUser
from radio.snr import rate_bit_s_hz
from radio.solve import solve_broadcast
from radio.subbands import SubbandResult, solve_subbands
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["GridResult", "solve_grid"]


Groups = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridResult:
    """Beams of all groups for one block of data coded over the whole band."""

    w: ComplexArray
    """Beam that every resource block of a group sends, (groups, nodes, antennas), sqrt(W); the power limit of
    a node is on their sum over all resource blocks."""
    group: Groups
    """Group of each resource block, (blocks,)."""
    snr: FloatArray
    """SNR of each user in each resource block, (blocks, users), linear."""
    rate_bit_s_hz: float
    """min over users of the mean over resource blocks of log2(1 + SNR)."""
    upper_bound: float
    """No beams have a higher rate, not even one for each resource block."""
    status: str
    """As of `radio.solve_subbands`."""


def solve_grid(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    blocks_per_group: int,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    rng: np.random.Generator | int | None = None,
    num_starts: int = 4,
    num_iterations: int = 150,
    *,
    on_dead_user: OnDeadUser = "report",
) -> GridResult:
    """Maximise min_k mean_b log2(1 + SNR_bk) over resource blocks b with one beam a group of neighbours.

    NR precodes groups of 2 or 4 resource blocks, or the whole band, alike (TS 38.214 section 5.1.2.3). The
    fixed point of `radio.solve_subbands` with the pushes of a group's resource blocks added up, started from
    its beams, from beams for the mean channels of the groups, and at random. A beam for each resource block
    is more freedom, so its bound holds.

    Args:
        h: CSI of each resource block, complex (blocks, users, nodes, antennas).
        power_w: (nodes) or one for all, W, over the whole band.
        noise_w: (users) or one for all, W, over the whole band.
        blocks_per_group: Neighbours that share a beam, >= 1; the last group may have fewer.
        holders: Nodes that may send, bool (nodes), or None.
        users: Users that wait, bool (users), or None.
        rng: Source of the starts, or a seed; None is 0.
        num_starts: Random starts.
        num_iterations: Length of the run.
        on_dead_user: As in `radio.solve_subbands`.

    Returns:
        Beams, SNR and rate recomputed from them, and the bound.

    Raises:
        BadInputError: If an argument has a wrong shape or value.
    """
    csi, generator = as_complex("h", h, "blocks, users, nodes, antennas"), as_generator(rng)
    if csi.ndim != 4 or not len(csi) or blocks_per_group < 1:
        expected = "(blocks, users, nodes, antennas) and a group of >= 1"
        raise BadInputError("h, blocks_per_group", expected, f"{csi.shape}, {blocks_per_group}")
    group = np.arange(len(csi)) // blocks_per_group
    each = solve_subbands(csi, power_w, noise_w, holders, users, generator, on_dead_user=on_dead_user)
    waiting = as_mask("users", users, csi.shape[1]) & ~each.dropped
    power = np.broadcast_to(as_real("power_w", power_w), csi.shape[2:3])
    noise = np.broadcast_to(as_real("noise_w", noise_w), csi.shape[1:2]) / len(csi)
    w = _mean_of_groups(each.w, group)
    if each.status == OK:
        held = as_mask("holders", holders, len(power)) & (power > 0)
        random = random_start((num_starts, *w.shape), generator).astype(np.complex128)
        mean, equal = _mean_of_groups(csi, group), power / len(csi)
        alone = solve_broadcast(mean, equal, noise, held, waiting, rng=generator, on_dead_user="drop")
        root = (np.sqrt(power) * held)[:, None]
        g = csi[:, waiting] * root / np.sqrt(noise[waiting])[:, None, None]
        known = np.stack([w, alone.w[..., 0]]) / np.where(root > 0, root, 1.0)
        w = root * _climb(g, np.concatenate([known, random]), group, num_iterations)
    return _result(csi, w, group, noise, waiting, each)


def _result(
    csi: ComplexArray,
    w: ComplexArray,
    group: Groups,
    noise: FloatArray,
    waiting: BoolArray,
    each: SubbandResult,
) -> GridResult:
    """The answer, recomputed from the beams; `each` has the bound, and the rate if nobody can be served."""
    received = np.einsum("bkna,bna->bk", csi, w[group])
    snr = np.where(waiting, np.abs(received) ** 2 / noise, 0.0)
    least = np.where(waiting, rate_bit_s_hz(snr).mean(axis=0), np.inf).min()
    return GridResult(
        w=w,
        group=group,
        snr=snr,
        rate_bit_s_hz=float(least) if each.status == OK else each.rate_bit_s_hz,
        upper_bound=each.upper_bound,
        status=each.status,
    )


def _mean_of_groups(values: ComplexArray, group: Groups) -> ComplexArray:
    """Mean over the resource blocks of each group, (groups, ...)."""
    total = np.zeros((int(group[-1]) + 1, *values.shape[1:]), dtype=np.complex128)
    np.add.at(total, group, values)
    return np.asarray(total / np.bincount(group).reshape(-1, *(1,) * (values.ndim - 1)))


def _climb(g: ComplexArray, u: ComplexArray, group: Groups, num_iterations: int) -> ComplexArray:
    """Best beams over all starts, (groups, nodes, antennas)."""
    size = np.bincount(group)[:, None, None].astype(np.float64)
    weights = np.ones((len(u), g.shape[1]))
    u = _limited(u, size)
    best, top = u[0], -np.inf
    edges = np.flatnonzero(np.diff(group, prepend=-1))
    for step in range(num_iterations + 1):
        y = np.einsum("bkna,xbna->xbk", g, u[:, group])
        power = np.abs(y) ** 2
        rate = np.log1p(power).mean(axis=1)
        least = rate.min(axis=1)
        if least.max() > top:
            best, top = u[int(least.argmax())].copy(), float(least.max())
        eta = (0.5, 1.0, 1.5, 1.5)[3 * step // num_iterations]
        weights = weights * (least[:, None] / np.maximum(rate, 1e-300)) ** eta
        weights = np.maximum(weights / weights.max(axis=1, keepdims=True), 1e-6)
        push = np.einsum("bkna,xbk->xbna", g.conj(), weights[:, None, :] * y / (1.0 + power))
        u = _limited(np.asarray(np.add.reduceat(push, edges, axis=1) / size, np.complex128), size)
    return np.asarray(best)


def _limited(u: ComplexArray, size: FloatArray) -> ComplexArray:
    """All of each node's power over the resource blocks of all groups, (starts, groups, nodes, antennas)."""
    norm = np.sqrt((size * np.abs(u) ** 2).sum(axis=(1, 3), keepdims=True))
    return np.asarray(u / np.where(norm > 0, norm, 1.0))
