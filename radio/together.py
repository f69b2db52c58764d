"""Many sets of broadcasts, each set on the air at once: fast beams for a scheduler that tries many sets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radio.errors import BadInputError
from radio.inputs import as_complex, as_mask, as_real
from radio.snr import rate_bit_s_hz
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Together", "solve_together"]

_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Sets of concurrent broadcasts; users of no broadcast of a set have an SINR of 0 in it."""

    w: ComplexArray
    """Beams, (sets, groups, nodes, antennas), sqrt(W); a node's power limit is over a set's groups."""
    sinr: FloatArray
    """SINR of each user for its group's block on the given CSI, (sets, users), linear."""
    worst_sinr: FloatArray
    """At least so much for every channel in the CSI error ball, (sets, users); `sinr` without error."""


@np.errstate(all="ignore")  # as in `solve_broadcast`
def solve_together(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike,
    users: ArrayLike,
    targets: ArrayLike,
    csi_error: ArrayLike | None = None,
    num_iterations: int = 20,
) -> Together:
    """Maximise min_g rate_g / target_g of each set over concurrent beams, treating interference as noise.

    Weighted minimum mean square error (Christensen et al., IEEE TWC 7(12), 2008) as in `superpose`, with
    holders of each group and many sets at a time. Beams lie in the span of the channels of the set's users,
    so each step solves systems of as many unknowns as the set has users, not antennas. Not convex: a good
    point, not a proven one; no group is faster than `solve_broadcast`'s bound for it alone. What a set gets
    does not depend on the others, bit for bit. SINRs are computed from w. With CSI error, beams are those of
    the estimate, and `worst_sinr` is guaranteed: the user's own beam at its weakest, all others at their
    strongest, which need not occur together.

    Args:
        h: CSI, (all users, nodes, antennas).
        power_w: (nodes) or one for all, W.
        noise_w: (all users) or one for all, W.
        holders: Nodes that send each group's block, bool (sets, groups, nodes).
        users: Users of each group, bool (sets, groups, all users), each in one group of a set at most. A
            group without users is none.
        targets: Rates are wanted in this proportion, (sets, groups), > 0.
        csi_error: Radius of the ball of each link, (all users, nodes), in units of h; None: exact.
        num_iterations: Rounds.

    Returns:
        Beams and SINRs of each set.
    """
    csi = as_complex("h", h, "users, nodes, antennas")
    if csi.ndim != 3:
        raise BadInputError("h", "(users, nodes, antennas)", str(csi.shape))
    count, nodes, _ = csi.shape
    hold, hear = as_mask("holders", holders, nodes), as_mask("users", users, count)
    target = as_real("targets", targets)
    if hold.ndim != 3 or hear.shape[:2] != hold.shape[:2] or target.shape != hold.shape[:2]:
        shapes = f"{hold.shape}, {hear.shape}, {target.shape}"
        raise BadInputError("holders", "(sets, groups, nodes) beside users and targets", shapes)
    if (hear.sum(axis=1) > 1).any():
        raise BadInputError("users", "each user in one group of a set at most", "one in two groups")
    if not ((target > 0) & np.isfinite(target)).all():
        raise BadInputError("targets", "finite numbers > 0", str(targets))
    power = np.broadcast_to(as_real("power_w", power_w), (nodes,))
    noise = np.broadcast_to(as_real("noise_w", noise_w), (count,))
    if not ((power >= 0) & np.isfinite(power)).all() or not ((noise > 0) & np.isfinite(noise)).all():
        raise BadInputError("power_w and noise_w", "finite watts >= 0 and > 0", "something else")
    radius = None if csi_error is None else np.broadcast_to(as_real("csi_error", csi_error), (count, nodes))
    if radius is not None and not (radius >= 0).all():
        raise BadInputError("csi_error", "numbers >= 0", "something else")
    g = csi * np.sqrt(power)[:, None] / np.sqrt(noise)[:, None, None]
    can: BoolArray = np.asarray(hold & (power > 0))
    w = np.zeros((*hold.shape, csi.shape[2]), dtype=np.complex128)
    sinr, worst = np.zeros((len(hold), count)), np.zeros((len(hold), count))
    for rows, groups in _alike(hear):
        some = rows[:, None], groups
        v = _beams(g, can[some], hear[some], target[some], num_iterations)
        w[some] = v * np.sqrt(power)[:, None]
        sinr[rows], worst[rows] = _sinr(csi, w[some], hear[some], noise, radius)
    return Together(w=w, sinr=sinr, worst_sinr=worst)


def _alike(hear: BoolArray) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Sets with equal numbers of users and of groups that have any: rows, and these groups, (rows, groups).

    Nothing is padded, so that the last bits of a set's answer do not depend on the sets beside it.
    """
    live: BoolArray = np.asarray(hear.any(axis=2))
    sizes = np.stack([hear.sum(axis=(1, 2)), live.sum(axis=1)], axis=1)
    for size in np.unique(sizes[sizes[:, 1] > 0], axis=0):
        rows = np.flatnonzero((sizes == size).all(axis=1))
        yield rows, np.argsort(~live[rows], axis=1, kind="stable")[:, : size[1]]


def _sinr(
    h: ComplexArray, w: ComplexArray, hear: BoolArray, noise: FloatArray, radius: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """SINR of each user on the CSI and guaranteed in the ball, (sets, users) each."""
    sets, groups = w.shape[:2]
    amplitude = np.abs(w.reshape(sets, groups, -1) @ h.reshape(len(h), -1).T)
    reach = np.zeros_like(amplitude)
    if radius is not None:
        reach = np.asarray(np.linalg.norm(w, axis=3) @ radius.T)
    own = np.where(hear, amplitude, 0.0).sum(axis=1)
    signal = np.where(hear, np.maximum(amplitude - reach, 0.0), 0.0).sum(axis=1)
    others = np.where(hear, 0.0, amplitude**2).sum(axis=1)
    most = np.where(hear, 0.0, (amplitude + reach) ** 2).sum(axis=1)
    some = hear.any(axis=1)
    exact = np.where(some, own**2 / (noise + others), 0.0)
    return exact, np.where(some, signal**2 / (noise + most), 0.0)


class _Sets(NamedTuple):
    """Sets with the users that each serves, as many in each; masks as numbers."""

    gram: ComplexArray
    """Products of the users' channels over each node, (sets, nodes, users, users)."""
    hold: FloatArray
    """(sets, groups, nodes)."""
    mine: FloatArray
    """Whether a user is of a group, (sets, users, groups)."""
    target: FloatArray
    """Of each user, (sets, users)."""


def _beams(
    g: ComplexArray, hold: BoolArray, hear: BoolArray, target: FloatArray, num_iterations: int
) -> ComplexArray:
    """Best beams seen, (sets, groups, nodes, antennas), within unit power at every node; see `_alike`."""
    which = np.nonzero(hear.any(axis=1))[1].reshape(len(hear), -1)
    near = g[which]  # (sets, users, nodes, antennas)
    per_node = np.swapaxes(near, 1, 2)
    mine = np.take_along_axis(hear, which[:, None, :], axis=2).swapaxes(1, 2).astype(np.float64)
    batch = _Sets(
        gram=per_node @ per_node.conj().swapaxes(2, 3),
        hold=hold.astype(np.float64),
        mine=mine,
        target=(mine * target[:, None, :]).sum(axis=2),
    )
    x, price = _climb_apart(batch, num_iterations)
    v = np.einsum("skna,sgk->sgna", near.conj(), x) / price[:, None, :, None]
    return np.where(np.isfinite(v), v, 0.0) * hold[..., None]


def _climb_apart(batch: _Sets, num_iterations: int) -> tuple[ComplexArray, FloatArray]:
    """As `_climb`; where an equation has no solution by halves, so that such a set stops no other."""
    try:
        return _climb(batch, num_iterations)
    except np.linalg.LinAlgError:
        middle = len(batch.hold) // 2
        halves = slice(middle), slice(middle, None)
        ends = [_climb_apart(_Sets._make(part[rows] for part in batch), num_iterations) for rows in halves]
        return np.concatenate([x for x, _ in ends]), np.concatenate([price for _, price in ends])


def _climb(batch: _Sets, num_iterations: int) -> tuple[ComplexArray, FloatArray]:
    """Coefficients of the channels in the best beams, (sets, groups, users), and prices of node power.

    The beam of a group at a node is the sum of its users' conjugated channels times x, over the price.

    Raises:
        LinAlgError: If an equation of one of several sets has no solution.
    """
    sets, _, nodes = batch.hold.shape
    own = np.einsum("sgn,snkk->sgk", batch.hold, batch.gram).real
    wanted = batch.mine.swapaxes(1, 2)
    x = (wanted / np.sqrt(np.maximum(own, _TINY))).astype(np.complex128)
    price = np.ones((sets, nodes))
    weights = np.full(batch.target.shape, 1.0 / batch.target.shape[1])
    best, top = (np.zeros_like(x), price), np.full(sets, 0.0)
    for step in range(num_iterations + 1):
        heard, used = _heard(batch, x, price)
        scale = 1.0 / np.sqrt(np.maximum(used.max(axis=1), _TINY))
        x, heard, used = x * scale[:, None, None], heard * scale[:, None, None], used * scale[:, None] ** 2
        power = np.abs(heard) ** 2
        total, signal = 1.0 + power.sum(axis=2), (power * batch.mine).sum(axis=2)
        rate = rate_bit_s_hz(signal / (total - signal)) / batch.target
        least = rate.min(axis=1)
        better = least > top
        best = (np.where(better[:, None, None], x, best[0]), np.where(better[:, None], price, best[1]))
        top = np.where(better, least, top)
        if step == num_iterations:
            break
        weights = weights * (least[:, None] / np.maximum(rate, _TINY)) ** 0.5
        weights = np.maximum(weights / weights.sum(axis=1, keepdims=True), 1e-7)
        amplitude = (heard * batch.mine).sum(axis=2)
        gain, receiver = weights * total / (total - signal), amplitude.conj() / total
        load = gain * np.abs(receiver) ** 2
        price = price * np.maximum(used, 1e-3) ** 0.5
        price = price / price.sum(axis=1, keepdims=True) * load.sum(axis=1, keepdims=True)
        try:
            x = _solved(batch, load, price, np.sqrt(gain) * np.exp(-1j * np.angle(receiver)))
        except np.linalg.LinAlgError:  # ranges beyond double precision: the best so far stands
            if sets > 1:
                raise
            break
    return best


def _heard(batch: _Sets, x: ComplexArray, price: FloatArray) -> tuple[ComplexArray, FloatArray]:
    """What users hear of each group, (sets, users, groups), and power of each node, (sets, nodes)."""
    over = batch.hold / price[:, None, :]
    each = (batch.gram @ x.swapaxes(1, 2)[:, None]).swapaxes(2, 3)  # (sets, nodes, groups, users)
    each = each * over.swapaxes(1, 2)[..., None]
    power = (x.conj()[:, None] * each).sum(axis=3).real / price[..., None]
    return each.sum(axis=1).swapaxes(1, 2), power.sum(axis=2)


def _solved(batch: _Sets, load: FloatArray, price: FloatArray, aims: ComplexArray) -> ComplexArray:
    """Minimisers of the weighted error at given prices, (sets, groups, users).

    By the matrix inversion lemma: r (I + r G r)^-1 a with r = sqrt(load) and G the Gram matrix over a group's
    priced nodes.
    """
    sets, groups, nodes = batch.hold.shape
    users = load.shape[1]
    over = batch.hold / price[:, None, :]
    gram = (over @ batch.gram.reshape(sets, nodes, -1)).reshape(sets, groups, users, users)
    root = np.sqrt(load)[:, None, :]
    matrix = np.eye(users) + root[..., None] * gram * root[..., None, :]
    right = batch.mine.swapaxes(1, 2) * aims[:, None, :]
    return np.asarray(root * np.linalg.solve(matrix, right[..., None])[..., 0])
