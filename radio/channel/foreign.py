"""Channels made elsewhere: the arrays of Sionna and DeepMIMO with our axes.

Both write y = H x without a conjugate, which is what `h` means here (user k receives sum(h[k] * w)), so axes
move and nothing is conjugated. Store the result with `radio.save_channel(path, ChannelFile(h=...))`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.inputs import as_complex, as_real
from radio.types import ComplexArray

__all__ = ["from_deepmimo", "from_sionna", "from_sionna_paths"]

_RECEIVE = "batch, num_rx, num_rx_ant, num_tx, num_tx_ant"


def from_sionna(h_freq: ArrayLike) -> ComplexArray:
    """Frequency responses of Sionna's downlink: `cir_to_ofdm_channel`, `GenerateOFDMChannel`, `paths.cfr`.

    Args:
        h_freq: (batch, num_rx, num_rx_ant, num_tx, num_tx_ant, num_time_steps, fft_size), users receiving.
            That of Sionna RT lacks the first axis and may be given without it.

    Returns:
        (subcarriers, batch, times, users, nodes, antennas); with several antennas a user (subcarriers, batch,
        times, users, receive, nodes, antennas), for `radio.solve_receive`.

    Raises:
        BadInputError: If the array has other axes, or numbers that are not finite.
    """
    h = as_complex("h_freq", h_freq)
    if h.ndim == 6:
        h = h[None]
    if h.ndim != 7:
        raise BadInputError("h_freq", f"({_RECEIVE}, num_time_steps, fft_size)", str(h.shape))
    return _without_single_receive(h.transpose(6, 0, 5, 1, 2, 3, 4))


def from_sionna_paths(a: ArrayLike, tau_s: ArrayLike, frequencies_hz: ArrayLike) -> ComplexArray:
    """Path coefficients and delays of Sionna: a channel model's output, or `paths.cir` of Sionna RT.

    h(f) = sum_m a_m exp(-2 pi i f tau_m).

    Args:
        a: (batch, num_rx, num_rx_ant, num_tx, num_tx_ant, num_paths, num_time_steps), users receiving.
        tau_s: (batch, num_rx, num_tx, num_paths), s, or with num_rx_ant and num_tx_ant as in a.
        frequencies_hz: Where to evaluate, from the carrier, (subcarriers,), Hz.

    Returns:
        As `from_sionna`.

    Raises:
        BadInputError: If the arrays have other axes, or numbers that are not finite.
    """
    gain, delay = as_complex("a", a), as_real("tau_s", tau_s)
    if gain.ndim != 7:
        raise BadInputError("a", f"({_RECEIVE}, num_paths, num_time_steps)", str(gain.shape))
    if delay.ndim == 4:
        delay = delay[:, :, None, :, None]
    pairs = zip(delay.shape, gain.shape, strict=False)
    fits = delay.ndim == 6 and all(size in (1, of_a) for size, of_a in pairs)
    if not fits or delay.shape[-1] != gain.shape[-2] or not np.isfinite(delay).all():
        raise BadInputError(
            "tau_s", "finite (batch, num_rx, num_tx, num_paths) as in a", str(np.shape(tau_s))
        )
    frequencies = as_real("frequencies_hz", frequencies_hz).reshape(-1)
    turned = np.exp(-2j * np.pi * frequencies[:, None, None, None, None, None, None] * delay)
    response = np.einsum(
        "bkrnapt,fbkrnap->fbtkrna", gain, np.broadcast_to(turned, (len(turned), *gain.shape[:-1]))
    )
    return _without_single_receive(response)


def from_deepmimo(
    channels: ArrayLike | Sequence[ArrayLike], num_subcarriers: int | None = None
) -> ComplexArray:
    """Channels of DeepMIMO 4 in the frequency domain: `dataset.compute_channels(...)`.

    DeepMIMO divides amplitudes by the root of the number of subcarriers of its grid, so that they add up to
    the gain of the link; that is taken back: a subcarrier has the gain of the link, as everywhere here.

    Args:
        channels: (users, receive antennas, transmit antennas, subcarriers), or with times behind. A list or
            tuple has one such array for each node, as a dataset of several base stations gives.
        num_subcarriers: Subcarriers of the grid, `ch_params.ofdm.subcarriers`; None is those in the array.

    Returns:
        (subcarriers, users, nodes, antennas), with (..., users, receive, nodes, antennas) for several
        antennas a user and (subcarriers, times, ...) for several times.

    Raises:
        BadInputError: If the arrays have other or unequal axes, or numbers that are not finite.
    """
    many = channels if isinstance(channels, list | tuple) else [channels]
    nodes = [as_complex("channels", one) for one in many]
    if not nodes or nodes[0].ndim not in (4, 5) or len({node.shape for node in nodes}) > 1:
        expected = "(users, receive, transmit, subcarriers[, times]) alike for every base station"
        raise BadInputError("channels", expected, ", ".join(str(node.shape) for node in nodes))
    h = np.stack(nodes, axis=2)  # users, receive, nodes, antennas, subcarriers[, times]
    order = (4, 0, 1, 2, 3) if h.ndim == 5 else (4, 5, 0, 1, 2, 3)
    count = h.shape[4] if num_subcarriers is None else num_subcarriers
    return _without_single_receive(h.transpose(order) * np.sqrt(count))


def _without_single_receive(h: ComplexArray) -> ComplexArray:
    """(..., users, receive, nodes, antennas), without the axis of a single receive antenna."""
    return np.asarray(h[..., 0, :, :] if h.shape[-3] == 1 else h)
