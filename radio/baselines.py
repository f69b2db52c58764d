"""What one would do without a broadcast optimiser, as the rate at which everybody gets the block."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_complex
from radio.problem import NO_USER, Problem, normalise
from radio.snr import rate_bit_s_hz
from radio.solve import solve_broadcast
from radio.types import ComplexArray, FloatArray

__all__ = ["BASELINES", "Baseline", "solve_baseline"]

BASELINES = ("isotropic", "mrt-weakest", "best-node", "unicast-tdma", "unicast-zf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A simple scheme on one broadcast."""

    rate_bit_s_hz: float
    """Size of the block over bandwidth and time until the last user has it; 0 where somebody never has it."""
    snr: FloatArray
    """SNR at which each user is served, (users,), linear; 0 for masked users."""


def solve_baseline(
    name: str,
    h: ArrayLike,
    power_w: ArrayLike,
    noise_w: ArrayLike,
    holders: ArrayLike | None = None,
    users: ArrayLike | None = None,
) -> Baseline:
    """Rate of a simple scheme; arguments as in `radio.solve_broadcast`, one broadcast at a time.

    `isotropic`: every node sends white noise-like codewords, SNR_k = sum_n P_n ||h_kn||^2 / (M noise_k).
    `mrt-weakest`: beams matched to the user with the least matched-filter SNR.
    `best-node`: max-min beams from the one node that does best alone.
    `unicast-tdma`: each user in turn, with beams of all holders matched to it.
    `unicast-zf`: users at the same time with zero-forcing beams of equal SNR, in groups where they outnumber
    the antennas.

    Args:
        name: One of BASELINES.
        h: CSI, (users, nodes, antennas).
        power_w: (nodes) or one for all, W.
        noise_w: (users) or one for all, W.
        holders: Nodes that may send, bool (nodes), or None.
        users: Users that wait, bool (users), or None.

    Returns:
        Rate and SNR.
    """
    if name not in BASELINES:
        raise BadInputError("name", " | ".join(BASELINES), str(name))
    h = as_complex("h", h, "users, nodes, antennas")
    if h.ndim != 3:
        raise BadInputError("h", "(users, nodes, antennas)", str(h.shape))
    problem = normalise(h, power_w, noise_w, holders, users)
    waiting, snr = problem.users[0], np.zeros(h.shape[0])
    if problem.status[0] == NO_USER:
        return Baseline(rate_bit_s_hz=np.inf, snr=snr)
    if not problem.live[0]:
        return Baseline(rate_bit_s_hz=0.0, snr=snr)
    if name == "best-node":
        return _best_node(h, power_w, noise_w, problem)
    g = problem.g[0][waiting] * np.sqrt(problem.scale[0])
    if name == "isotropic":
        served = (np.abs(g) ** 2).sum(axis=(1, 2)) / g.shape[2]
        rate = rate_bit_s_hz(served.min())
    elif name == "mrt-weakest":
        served = _matched_to_weakest(g)
        rate = rate_bit_s_hz(served.min())
    elif name == "unicast-tdma":
        served = np.linalg.norm(g, axis=2).sum(axis=1) ** 2
        rate = _in_turn(rate_bit_s_hz(served))
    else:
        served, rates = _zero_forcing(g)
        rate = _in_turn(rates)
    snr[waiting] = served
    return Baseline(rate_bit_s_hz=float(rate), snr=snr)


def _in_turn(rates: FloatArray) -> FloatArray:
    """Rate of sending the same block once at each of these rates."""
    return np.asarray(1.0 / (1.0 / rates).sum()) if (rates > 0).all() else np.zeros(())


def _best_node(h: ComplexArray, power_w: ArrayLike, noise_w: ArrayLike, problem: Problem) -> Baseline:
    alone = np.eye(h.shape[1], dtype=bool) & problem.holders[0]
    result = solve_broadcast(h, power_w, noise_w, holders=alone, users=problem.users[0])
    best = int(result.min_snr.argmax())
    return Baseline(rate_bit_s_hz=float(result.rate_bit_s_hz[best]), snr=result.snr[best])


def _matched_to_weakest(g: ComplexArray) -> FloatArray:
    norms = np.linalg.norm(g, axis=2, keepdims=True)
    target = int(norms.sum(axis=(1, 2)).argmin())
    v = np.conj(g[target]) / np.where(norms[target] > 0, norms[target], 1.0)
    return np.asarray(np.abs(np.einsum("kna,na->k", g, v)) ** 2)


def _zero_forcing(g: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """SNR of each user, and the rate of each group of users served at once."""
    antennas = int((np.linalg.norm(g, axis=(0, 2)) > 0).sum()) * g.shape[2]
    count = -(-len(g) // antennas)
    served, rates = np.zeros(len(g)), np.zeros(count)
    for index in range(count):
        group = np.arange(index, len(g), count)
        flat = g[group].reshape(len(group), -1)
        beams = np.linalg.pinv(flat).reshape(*g.shape[1:], len(group))
        used = (np.abs(beams) ** 2).sum(axis=(1, 2)).max()
        reached = np.abs(flat @ beams.reshape(flat.shape[1], -1)) ** 2 / used
        signal = np.diag(reached)
        served[group] = signal / (1.0 + reached.sum(axis=1) - signal)
        rates[index] = float(rate_bit_s_hz(served[group].min()))
    return served, rates
