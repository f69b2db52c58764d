"""From CSI and beamformer to SNR and rate, in double precision on the physical channel."""

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_array, as_complex, as_real
from radio.types import FloatArray

__all__ = ["broadcast_snr", "rate_bit_s_hz", "single_user_snr"]


def broadcast_snr(h: ArrayLike, w: ArrayLike, noise_w: ArrayLike) -> FloatArray:
    """Receive SNR of each user under one CoMP broadcast, linear (not dB).

    SNR_k = sum_r |sum_na h[k, n, a] w[n, a, r]|^2 / noise_k. With two columns this is beamformed Alamouti,
    with more a Gaussian code of covariance w w^H.

    Args:
        h: CSI, (..., users, nodes, antennas), already conjugated: user k receives sum(h[k] * w).
        w: Beamformer, (..., nodes, antennas, rank), sqrt(W).
        noise_w: Noise power at each user, (..., users) or one for all, W, > 0.

    Returns:
        SNR, (..., users).

    Raises:
        BadInputError: If h and w disagree on (nodes, antennas), or noise_w is not > 0.
    """
    h, w, noise = as_array("h", h), as_array("w", w), as_real("noise_w", noise_w)
    if h.ndim < 3 or h.dtype.kind not in "cfiu":
        raise BadInputError("h", "numbers (..., users, nodes, antennas)", f"{h.dtype} {h.shape}")
    if w.ndim < 3 or w.dtype.kind not in "cfiu" or h.shape[-2:] != w.shape[-3:-1]:
        raise BadInputError("w", f"(..., {h.shape[-2]}, {h.shape[-1]}, rank) as in h", str(w.shape))
    if not (noise > 0).all():
        raise BadInputError("noise_w", "watts > 0", "something else")
    size = h.shape[-2] * h.shape[-1]
    flat_h = h.reshape(*h.shape[:-2], size).astype(np.complex128)
    received = flat_h @ w.reshape(*w.shape[:-3], size, w.shape[-1]).astype(np.complex128)
    return np.asarray((received.real**2 + received.imag**2).sum(axis=-1) / noise)


def rate_bit_s_hz(snr: FloatArray | float) -> FloatArray:
    """Spectral efficiency log2(1 + SNR), bit/s/Hz."""
    return np.asarray(np.log1p(snr) / np.log(2.0))


def single_user_snr(h: ArrayLike, power_w: ArrayLike, noise_w: ArrayLike) -> FloatArray:
    """Best SNR of each user if all beams served it alone: (sum_n sqrt(P_n) ||h_n||)^2 / noise.

    Args:
        h: CSI, (..., users, nodes, antennas).
        power_w: (..., nodes) or one for all, W.
        noise_w: (..., users) or one for all, W.

    Returns:
        SNR, (..., users); also the matched-filter bound on any broadcast that includes the user.
    """
    h, power, noise = as_complex("h", h), as_real("power_w", power_w), as_real("noise_w", noise_w)
    if not ((power >= 0).all() and (noise > 0).all()):
        raise BadInputError("power_w and noise_w", "watts >= 0 and > 0", "something else")
    amplitude = np.sqrt(power)[..., None, :] if power.ndim else np.sqrt(power)
    return np.asarray((np.linalg.norm(h, axis=-1) * amplitude).sum(axis=-1) ** 2 / noise)
