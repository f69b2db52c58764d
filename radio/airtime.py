"""How long a block is on the air."""

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_real, reject
from radio.snr import rate_bit_s_hz
from radio.types import FloatArray

__all__ = ["airtime_s"]


def airtime_s(size_bytes: ArrayLike, bandwidth_hz: float, snr: ArrayLike) -> FloatArray:
    """Seconds to broadcast a block: 8 S / (B log2(1 + SNR)).

    Args:
        size_bytes: Size of the block, any shape.
        bandwidth_hz: Bandwidth, Hz, > 0.
        snr: SNR of the weakest user, linear, any shape that broadcasts; inf when there is no user.

    Returns:
        Airtime; inf where the SNR is 0 (no holder, outage), 0 where nobody waits or nothing is sent.
    """
    size, ratio = as_real("size_bytes", size_bytes), as_real("snr", snr)
    if not 0 < bandwidth_hz < np.inf:
        raise BadInputError("bandwidth_hz", "finite hertz > 0", str(bandwidth_hz))
    reject("size_bytes", ~((size >= 0) & (size < np.inf)), "finite bytes >= 0", "something else")
    reject("snr", ~(ratio >= 0), "ratios >= 0", "something else")
    bits, rate = np.broadcast_arrays(8.0 * size, bandwidth_hz * rate_bit_s_hz(ratio))
    seconds = np.divide(bits, rate, out=np.full(bits.shape, np.inf), where=rate > 0)
    return np.where(bits == 0, 0.0, seconds)
