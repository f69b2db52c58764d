"""Nodes that are not quite in step: what phase and timing errors between them take from a CoMP broadcast."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf

from radio.errors import BadInputError
from radio.types import ComplexArray, FloatArray

__all__ = ["draw_phases", "expected_snr", "node_coherence"]


def node_coherence(
    phase_std_rad: ArrayLike, timing_std_s: ArrayLike = 0.0, bandwidth_hz: float = 0.0
) -> FloatArray:
    """Mean of exp(i (error of one node - error of another)), over errors and over the band.

    Independent normal errors of phase leave exp(-std^2): each node has the variance std^2, a pair twice that.
    A timing error t turns the frequency f from the middle of the band by 2 pi f t, which leaves
    exp(-(2 pi f std)^2) there and sqrt(pi) erf(x) / (2 x), x = pi B std, in the mean over a band of width B.

    Args:
        phase_std_rad: Standard deviation of each node's phase, any shape, rad.
        timing_std_s: Of each node's clock, s, a shape that broadcasts.
        bandwidth_hz: Width of the band, Hz.

    Returns:
        Coherence in [0, 1].
    """
    phase, timing = np.asarray(phase_std_rad, np.float64), np.asarray(timing_std_s, np.float64)
    if not ((phase >= 0).all() and (timing >= 0).all() and bandwidth_hz >= 0):
        raise BadInputError("phase_std_rad, timing_std_s, bandwidth_hz", "numbers >= 0", "something else")
    x = np.pi * bandwidth_hz * timing
    safe = np.where(x > 1e-6, x, 1.0)
    over_band = np.where(x > 1e-6, np.sqrt(np.pi) * erf(safe) / (2.0 * safe), 1.0)
    return np.asarray(np.exp(-(phase**2)) * over_band)


def expected_snr(h: ComplexArray, w: ComplexArray, noise_w: ArrayLike, coherence: ArrayLike) -> FloatArray:
    """Mean SNR of each user over the nodes' errors: between coherent and power-wise addition.

    E |sum_n exp(i e_n) a_n|^2 = c |sum_n a_n|^2 + (1 - c) sum_n |a_n|^2 with a_n = sum_m h[k, n, m] w[n, m]
    and c of `node_coherence`; exact for independent errors of one distribution.

    Args:
        h: CSI as the nodes know it, (..., users, nodes, antennas).
        w: Beamformer, (..., nodes, antennas, rank), sqrt(W).
        noise_w: (..., users) or one for all, W.
        coherence: In [0, 1], (...) or one for all.

    Returns:
        SNR, (..., users), linear.
    """
    share = np.asarray(coherence, np.float64)[..., None]
    received = np.einsum("...kna,...nar->...knr", h, w)
    together = (np.abs(received.sum(axis=-2)) ** 2).sum(axis=-1)
    apart = (np.abs(received) ** 2).sum(axis=(-2, -1))
    return np.asarray((share * together + (1.0 - share) * apart) / np.asarray(noise_w, np.float64))


def draw_phases(phase_std_rad: float, shape: tuple[int, ...], rng: np.random.Generator) -> ComplexArray:
    """Phase errors exp(i e) of nodes, of that shape: multiply h by them along its axis of nodes."""
    return np.asarray(np.exp(1j * phase_std_rad * rng.standard_normal(shape)))
