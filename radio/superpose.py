"""Several blocks on the air at once, each to its own group of users, the others' beams being interference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_complex, as_real
from radio.problem import normalise
from radio.snr import rate_bit_s_hz
from radio.solve import solve_broadcast
from radio.types import ComplexArray, FloatArray

__all__ = ["Superposition", "superpose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Superposition:
    """Concurrent broadcasts, beside the same broadcasts one after another."""

    w: ComplexArray
    """(groups, nodes, antennas), sqrt(W); a node's power limit is over all groups."""
    sinr: FloatArray
    """SINR of each user for its group's block, (users,), linear; 0 for users of no group."""
    rates_bit_s_hz: FloatArray
    """Rate of each group, (groups,), all at once."""
    time_s_hz: float
    """Time until every group has its block, all at once: max of size / rate."""
    in_turn_s_hz: float
    """Time when the groups are served one after another: sum of size / rate."""


@np.errstate(all="ignore")  # as in `solve_broadcast`
def superpose(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    groups: Sequence[Sequence[int]],
    sizes: ArrayLike | None = None,
    holders: ArrayLike | None = None,
    num_iterations: int = 150,
) -> Superposition:
    """Maximise min_g rate_g / size_g over concurrent beams, treating interference as noise.

    Weighted minimum mean square error (Christensen et al., "Weighted sum-rate maximization using weighted
    MMSE for MIMO-BC beamforming design", IEEE TWC 7(12), 2008) with weights of users and prices
    of node power. Not convex: this is a good point, not a proven one. The SINR is recomputed from w.

    Args:
        h: CSI, (users, nodes, antennas).
        power_w: (nodes) or one for all, W.
        noise_w: (users) or one for all, W.
        groups: Users of each block; no user in two groups.
        sizes: Size of each group's block in any unit; None is equal.
        holders: Nodes that may send, bool (nodes), or None; all groups share them.
        num_iterations: Rounds.

    Returns:
        Beams, SINR, and the times of both ways; take the better.
    """
    h = as_complex("h", h, "users, nodes, antennas")
    if h.ndim != 3:
        raise BadInputError("h", "(users, nodes, antennas)", str(h.shape))
    label = _labels(groups, h.shape[0])
    size = np.ones(len(groups)) if sizes is None else as_real("sizes", sizes)
    if size.shape != (len(groups),) or not ((size > 0) & np.isfinite(size)).all():
        raise BadInputError("sizes", f"{len(groups)} finite numbers > 0", str(sizes))
    members = label >= 0
    masks = np.stack([label == group for group in range(len(groups))])
    alone = solve_broadcast(h, power_w, noise_w, holders, masks)
    in_turn = float((size / alone.rate_bit_s_hz).sum())
    problem = normalise(h, power_w, noise_w, holders, members)
    if not problem.live[0]:
        return Superposition(
            w=np.zeros((len(groups), *h.shape[1:]), dtype=np.complex128),
            sinr=np.zeros(h.shape[0]),
            rates_bit_s_hz=np.zeros(len(groups)),
            time_s_hz=np.inf,
            in_turn_s_hz=in_turn,
        )
    g = problem.g[0][members] * np.sqrt(problem.scale[0])
    start = alone.w[..., 0] / np.sqrt(np.where(problem.power_w[0] > 0, problem.power_w[0], 1.0))[:, None]
    v = _climb(g, start / np.sqrt(len(groups)), label[members], size[label[members]], num_iterations)
    sinr = np.zeros(h.shape[0])
    sinr[members] = _sinr(g, v, label[members])
    rates = np.array([rate_bit_s_hz(sinr[mask]).min() for mask in masks])
    time = float((size / rates).max())
    w = v * np.sqrt(problem.power_w[0])[:, None]
    return Superposition(w=w, sinr=sinr, rates_bit_s_hz=rates, time_s_hz=time, in_turn_s_hz=in_turn)


def _labels(groups: Sequence[Sequence[int]], num_users: int) -> np.ndarray:
    """Group of each user, -1 for none."""
    label = np.full(num_users, -1)
    for index, group in enumerate(groups):
        for user in group:
            if not _is_index(user, num_users) or label[user] >= 0:
                raise BadInputError("groups", f"users 0..{num_users - 1}, each once", f"user {user!r}")
            label[user] = index
        if not len(group):
            raise BadInputError("groups", "at least one user a group", f"none in group {index}")
    if not groups:
        raise BadInputError("groups", "at least one group", "none")
    return label


def _is_index(user: object, count: int) -> bool:
    whole = isinstance(user, int | np.integer) and not isinstance(user, bool)
    return whole and 0 <= int(user) < count  # type: ignore[call-overload]


def _sinr(g: ComplexArray, v: ComplexArray, label: np.ndarray) -> FloatArray:
    power = np.abs(np.einsum("kna,gna->kg", g, v)) ** 2
    signal = power[np.arange(len(g)), label]
    return np.asarray(signal / (1.0 + power.sum(axis=1) - signal))


def _climb(
    g: ComplexArray, v: ComplexArray, label: np.ndarray, size: FloatArray, num_iterations: int
) -> ComplexArray:
    """Best beams seen, (groups, nodes, antennas), within the power limits."""
    users, nodes, antennas = g.shape
    flat, mine = g.reshape(users, -1), label[:, None] == np.arange(len(v))
    weights, prices = np.ones(users), np.full(nodes, 1.0)
    best, top = v, -1.0
    for step in range(num_iterations + 1):
        used = (np.abs(v) ** 2).sum(axis=(0, 2))
        v = v / np.sqrt(max(float(used.max()), 1e-300))
        rate = rate_bit_s_hz(_sinr(g, v, label)) / size
        if rate.min() > top:
            best, top = v, float(rate.min())
        if step == num_iterations:
            break
        weights = weights * (rate.min() / np.maximum(rate, 1e-300)) ** 0.5
        weights = np.maximum(weights / weights.sum(), 1e-6 / users)
        y = flat @ v.reshape(len(v), -1).T
        total = 1.0 + (np.abs(y) ** 2).sum(axis=1)
        signal = y[mine]
        gain = weights * total / (total - np.abs(signal) ** 2)
        receiver = signal.conj() / total
        load = (flat.conj().T * (gain * np.abs(receiver) ** 2)) @ flat
        prices = prices * np.maximum((np.abs(v) ** 2).sum(axis=(0, 2)), 1e-3) ** 0.5
        level = (gain * np.abs(receiver) ** 2).sum()  # noise of the receivers, as power at the nodes
        matrix = load + np.diag(np.repeat(level * prices / prices.sum(), antennas))
        aims = flat.conj().T @ (mine * (gain * receiver.conj())[:, None])
        try:
            v = np.linalg.solve(matrix, aims).T.reshape(v.shape)
        except np.linalg.LinAlgError:  # ranges beyond double precision: the best so far stands
            break
        if not np.isfinite(v).all():
            break
    return best
