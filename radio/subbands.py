"""One block over several subbands that fade differently: beams and power shared out jointly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from radio.bounds.eigen import clean_multipliers, largest_eigenvalue
from radio.errors import BadInputError
from radio.fast.weights import random_start
from radio.inputs import as_complex, as_generator, as_mask, as_real
from radio.problem import DEAD_USER, NO_HOLDER, OnDeadUser, normalise
from radio.snr import rate_bit_s_hz
from radio.solve import solve_broadcast
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["SubbandResult", "solve_subbands"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubbandResult:
    """Beams of all subbands for one block coded over the whole band."""

    w: ComplexArray
    """(subbands, nodes, antennas), sqrt(W); a node's power limit is over all subbands."""
    snr: FloatArray
    """SNR of each user in each subband, (subbands, users), linear."""
    rate_bit_s_hz: float
    """min over users of the mean over subbands of log2(1 + SNR)."""
    upper_bound: float
    """No beams, of any rank and any sharing of power, have a higher rate."""
    separate_rate_bit_s_hz: float
    """Rate when each subband is solved on its own with its share of the power."""
    status: str
    """ok, no holder, no user or dead user (one hears no holder in any subband)."""
    dropped: BoolArray
    """Users that wait but hear no holder in any subband, (users,): w serves the others only."""


@np.errstate(all="ignore")  # as in `solve_broadcast`
def solve_subbands(
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
    rng: np.random.Generator | int | None = None,
    num_starts: int = 8,
    num_iterations: int = 200,
    *,
    on_dead_user: OnDeadUser = "report",
) -> SubbandResult:
    """Maximise min_k mean_s log2(1 + SNR_sk) with a power limit per node over the whole band.

    The fixed point of the flat problem, with weights of rates: u_n <- unit(sum_k l_k g_sk^H y_sk / (1 +
        |y_sk|^2))_n over all subbands together, l_k <- l_k (min_j rate_j / rate_k)^eta; so nodes share out
        their power among subbands by themselves. A user who hears nothing in one subband gets the block in
        the others. The bound is that of the mean SNR (Jensen).

    Args:
        h: CSI, (subbands, users, nodes, antennas).
        power_w: (nodes) or one for all, W, over the whole band.
        noise_w: (users) or one for all, W, over the whole band.
        holders: Nodes that may send, bool (nodes), or None.
        users: Users that wait, bool (users), or None.
        rng: Source of the starts, or a seed; None is 0.
        num_starts: Starts, beside one from the subbands on their own.
        num_iterations: Length of the run.
        on_dead_user: A waiting user who hears no holder in any subband, as in `radio.solve_broadcast`.

    Returns:
        Beams, SNR and rate recomputed from them.

    Raises:
        BadInputError: If an argument has a wrong shape or value.
    """
    csi, generator = as_complex("h", h, "subbands, users, nodes, antennas"), as_generator(rng)
    if csi.ndim != 4 or not len(csi):
        raise BadInputError("h", "(subbands, users, nodes, antennas)", str(csi.shape))
    bands, num_users, num_nodes, num_antennas = csi.shape
    power, noise = as_real("power_w", power_w), as_real("noise_w", noise_w) / bands
    masks = as_mask("holders", holders, num_nodes), as_mask("users", users, num_users)
    for name, array in zip(("power_w", "noise_w", "holders", "users"), (power, noise, *masks), strict=True):
        if array.ndim > 1:
            raise BadInputError(name, "one axis: all subbands share it", str(array.shape))
    # All antennas of all subbands side by side: a user is dead there who hears none of them.
    side = csi.transpose(1, 2, 0, 3).reshape(num_users, num_nodes, bands * num_antennas)
    problem = normalise(side, power, noise, *masks, on_dead_user=on_dead_user)
    waiting, status = problem.users[0], str(problem.status[0])
    alone = solve_broadcast(csi, power / bands, noise, masks[0], waiting, rng=generator, on_dead_user="drop")
    w, snr = alone.w[..., 0], alone.snr
    separate = _rate(snr, waiting)
    bound = rate = separate
    if problem.solvable[0]:
        g = (problem.g[0] * np.sqrt(problem.scale[0])).reshape(num_users, num_nodes, bands, num_antennas)
        g = g.transpose(2, 0, 1, 3)[:, waiting]
        root = np.sqrt(problem.power_w[0])[None, :, None]
        start = random_start((num_starts, bands, num_nodes, num_antennas), generator).astype(np.complex128)
        own = np.where(root > 0, w / np.where(root > 0, root, 1.0), 0.0)
        u, weights = _climb(g, np.concatenate([own[None], start]), num_iterations)
        found = np.zeros((bands, num_users))
        found[:, waiting] = np.abs(np.einsum("skna,sna->sk", g, u)) ** 2
        if _rate(found, waiting) > rate:
            w, snr, rate = u * problem.holders[0][:, None] * root, found, _rate(found, waiting)
        bound = _bound(g, u, weights)
    if status in (DEAD_USER, NO_HOLDER):
        rate = bound = separate = 0.0
    return SubbandResult(
        w=w,
        snr=snr,
        rate_bit_s_hz=rate,
        upper_bound=bound,
        separate_rate_bit_s_hz=separate,
        status=status,
        dropped=problem.dropped[0],
    )


def _rate(snr: FloatArray, waiting: np.ndarray) -> float:
    return float(np.where(waiting, rate_bit_s_hz(snr).mean(axis=0), np.inf).min())


def _climb(g: ComplexArray, u: ComplexArray, num_iterations: int) -> tuple[ComplexArray, FloatArray]:
    """Best beams over all starts, (subbands, nodes, antennas), and the weights that led there."""
    weights = np.ones((len(u), g.shape[1]))
    best, top, best_weights = u[0], -np.inf, weights[0]
    u = _unit(u)
    for step in range(num_iterations + 1):
        y = np.einsum("skna,xsna->xsk", g, u)
        power = np.abs(y) ** 2
        rate = np.log1p(power).mean(axis=1)
        least = rate.min(axis=1)
        if least.max() > top:
            index = int(least.argmax())
            best, top, best_weights = u[index].copy(), float(least[index]), weights[index].copy()
        if step == num_iterations:
            break
        eta = (0.5, 1.0, 1.5)[3 * step // num_iterations]
        weights = weights * (least[:, None] / np.maximum(rate, 1e-300)) ** eta
        weights = np.maximum(weights / weights.max(axis=1, keepdims=True), 1e-6)
        push = weights[:, None, :] * y / (1.0 + power)
        u = _unit(np.einsum("skna,xsk->xsna", g.conj(), push))
    return best, best_weights


def _unit(u: ComplexArray) -> ComplexArray:
    """Norm one for each node over all subbands and antennas."""
    norm = np.sqrt((np.abs(u) ** 2).sum(axis=(1, 3), keepdims=True))
    return np.asarray(u / np.where(norm > 0, norm, 1.0))


def _bound(g: ComplexArray, u: ComplexArray, weights: FloatArray) -> float:
    """log2(1 + bound on the mean SNR): the multiplier bound, with the subband of the largest eigenvalue."""
    y = np.einsum("skna,sna->sk", g, u)
    strength = (np.abs(y) ** 2).mean(axis=0)
    heard = (np.abs(g) ** 2).sum(axis=(0, 2, 3))
    # A user's own scale is taken out: multipliers of the scaled problem prove the same, without its range.
    candidates = [weights / np.maximum(strength, 1e-300), 1.0 / heard]
    values = []
    for candidate in candidates:
        sent = np.einsum("skna,sk->sna", g.conj(), candidate * y)
        prices = np.sqrt((np.abs(sent) ** 2).sum(axis=(0, 2)))
        values.append(_mean_snr(g, candidate, prices))
    matched = (np.linalg.norm(g, axis=3).max(axis=0).sum(axis=1) ** 2).min() / len(g)
    return float(rate_bit_s_hz(min(*values, matched * (1.0 + 1e-12))))


def _mean_snr(g: ComplexArray, weights: FloatArray, prices: FloatArray) -> float:
    """Bound on min_k mean_s SNR_sk: sum(m) max_s lmax(D^-1/2 sum_k l_k g_sk^H g_sk D^-1/2) / (S sum(l)).

    Weights are of users, heard in a subband or not, so the largest eigenvalue over subbands counts.
    """
    bands, num_users, num_nodes, _ = g.shape
    scale = np.abs(g).max()
    side = g.transpose(1, 2, 0, 3).reshape(1, num_users, num_nodes, -1)
    clean = clean_multipliers(side, weights[None], prices[None])
    weights, prices = clean[0][0], clean[1][0]
    scaled = np.sqrt(weights)[:, None, None] * (g / scale) / np.sqrt(prices)[:, None]
    flat = scaled.reshape(bands, num_users, -1)
    other = flat.conj().swapaxes(1, 2)
    gram = flat @ other if flat.shape[1] < flat.shape[2] else other @ flat
    largest = largest_eigenvalue(gram).max() * (1.0 + 1e-12)
    return float(prices.sum() * largest / weights.sum() / bands * scale**2)
