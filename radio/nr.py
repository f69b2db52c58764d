"""Rates of a 5G NR downlink: modulation and coding by table, block errors, guard bands, prefixes, pilots."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from radio.config import RadioConfig
from radio.errors import BadInputError
from radio.snr import rate_bit_s_hz
from radio.types import FloatArray

__all__ = ["NrLink", "num_resource_blocks", "rate_bit_s"]

_BITS = {1: (2,) * 10 + (4,) * 7 + (6,) * 12, 2: (2,) * 5 + (4,) * 6 + (6,) * 9 + (8,) * 8}
"""Modulation order Q_m of each MCS, TS 38.214 tables 5.1.3.1-1 (up to 64QAM) and 5.1.3.1-2 (up to 256QAM)."""
_QPSK, _QAM16, _QAM64 = (
    (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
    (340, 378, 434, 490, 553, 616, 658),
    (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
)
_QAM256 = (682.5, 711, 754, 797, 841, 885, 916.5, 948)
_RATES = {1: _QPSK + _QAM16 + _QAM64, 2: _QPSK[::2] + _QAM16[1:] + _QAM64[1:10] + _QAM256}
"""Target code rate times 1024 of each MCS, same tables; the second leaves out some of the first."""
_GAP_DB = {2: 1.0, 4: 1.3, 6: 2.0, 8: 2.3}
"""SNR above Shannon's at which 10 % of code blocks of 2,000 bits are lost, dB, by modulation order: means
over the MCS of the AWGN curves that Sionna 2.2 ships for its link abstraction (sionna/sys/bler_tables, PDSCH
tables 1 and 2, interpolated in a grid of 1.6 to 1.8 dB)."""
_GAP_BLER = 0.1
_CODE_BLOCK_BITS = 8448
"""Largest code block of LDPC base graph 1, TS 38.212 section 5.2.2."""
_BLOCKS: dict[float, dict[float, int]] = {
    15e3: dict(zip((5, 10, 15, 20, 25, 30, 40, 50), (25, 52, 79, 106, 133, 160, 216, 270), strict=True)),
    30e3: dict(
        zip(
            (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100),
            (11, 24, 38, 51, 65, 78, 106, 133, 162, 189, 217, 245, 273),
            strict=True,
        )
    ),
    60e3: dict(
        zip(
            (10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100),
            (11, 18, 24, 31, 38, 51, 65, 79, 93, 107, 121, 135),
            strict=True,
        )
    ),
}
"""Resource blocks by subcarrier spacing in Hz and bandwidth in MHz, TS 38.101-1 table 5.3.2-1."""


def num_resource_blocks(bandwidth_hz: float, subcarrier_hz: float = 30e3) -> int:
    """Resource blocks of 12 subcarriers in a channel of FR1, TS 38.101-1 table 5.3.2-1.

    Raises:
        BadInputError: If the table has no such channel.
    """
    row = _BLOCKS.get(subcarrier_hz, {})
    if bandwidth_hz / 1e6 not in row:
        known = ", ".join(map(str, row)) or f"a spacing of {', '.join(f'{s:g}' for s in _BLOCKS)} Hz"
        raise BadInputError("bandwidth_hz", f"an NR channel (MHz: {known})", f"{bandwidth_hz:g} Hz")
    return row[round(bandwidth_hz / 1e6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NrLink:
    """One layer of PDSCH: the fastest MCS whose block errors stay below the target."""

    table: Literal[1, 2] = 2
    """MCS table of TS 38.214: 5.1.3.1-1 or -2."""
    bler_target: float = 0.1
    """Share of code blocks that may be lost; 0.1 is the target of CQI reports, TS 38.214 section 5.2.2.1."""
    subcarrier_hz: float = 30e3
    """Subcarrier spacing, Hz: 15, 30 or 60 kHz; 30 kHz is the usual one of n78."""
    overhead: float = 0.14
    """Share of resource elements for pilots and control: FR1 downlink of TS 38.306 section 4.1.2."""

    def __post_init__(self) -> None:
        if self.table not in _BITS or self.subcarrier_hz not in _BLOCKS:
            raise ValueError(
                f"table must be 1 or 2 and subcarrier_hz one of {[*_BLOCKS]}, got {self.table}, "
                f"{self.subcarrier_hz}"
            )
        if not (0 < self.bler_target < 1 and 0 <= self.overhead < 1):
            got = f"{self.bler_target}, {self.overhead}"
            raise ValueError(f"bler_target must be in (0, 1) and overhead in [0, 1), got {got}")

    @property
    def efficiencies(self) -> FloatArray:
        """Information bits of a resource element for each MCS, (MCS,)."""
        return np.asarray(np.array(_BITS[self.table]) * np.array(_RATES[self.table]) / 1024.0)

    @property
    def thresholds(self) -> FloatArray:
        """SNR at which each MCS meets the target, linear, (MCS,).

        gap (2^(efficiency + e) - 1), where e is what a target other than 10 % costs with blocks of 8,448
        bits: sqrt(V / n) (Q^-1(target) - Q^-1(0.1)), V = (1 - (1 + SNR)^-2) log2(e)^2 (Polyanskiy, Poor,
        Verdu, IEEE Trans. IT 56(5), 2010, theorem 54, for a complex channel).
        """
        bits = self.efficiencies
        gap = 10.0 ** (np.array([_GAP_DB[order] for order in _BITS[self.table]]) / 10.0)
        dispersion = (1.0 - 4.0**-bits) / np.log(2.0) ** 2
        strictness = float(ndtri(_GAP_BLER) - ndtri(self.bler_target))
        cost = np.sqrt(dispersion * bits / _CODE_BLOCK_BITS) * strictness
        return np.asarray(gap * (2.0 ** (bits + cost) - 1.0))

    def rate_bit_s_hz(self, snr: ArrayLike) -> FloatArray:
        """Information bits of a resource element that arrive: efficiency times 1 - target, same shape.

        0 below the first threshold; a NaN has no rate. Infinite where the SNR is: nobody waits.
        """
        ratio = np.asarray(snr, np.float64)
        order = np.argsort(self.thresholds)
        best = np.concatenate([[0.0], np.maximum.accumulate(self.efficiencies[order])])
        chosen = best[np.searchsorted(self.thresholds[order], np.nan_to_num(ratio, nan=0.0), side="right")]
        return np.where(np.isposinf(ratio), np.inf, chosen * (1.0 - self.bler_target))

    def rate_bit_s(self, snr: ArrayLike, bandwidth_hz: float) -> FloatArray:
        """Information bits per second in a channel: TS 38.306 section 4.1.2 with one layer; shape of snr.

        Resource elements: 12 per block and 14 symbols (a normal cyclic prefix) per slot; what is left between
        the blocks and the channel's edges is guard.
        """
        slots_s = 1000.0 * self.subcarrier_hz / 15e3
        elements_s = num_resource_blocks(bandwidth_hz, self.subcarrier_hz) * 12 * 14 * slots_s
        return np.asarray(self.rate_bit_s_hz(snr) * elements_s * (1.0 - self.overhead))


def rate_bit_s(config: RadioConfig, snr: ArrayLike) -> FloatArray:
    """Bits per second at this SNR over the config's band, by the config's `link`: Shannon or an NR table.

    Args:
        config: Bandwidth and kind of link.
        snr: Linear, any shape; inf where nobody waits.

    Returns:
        Rates, same shape.

    Raises:
        BadInputError: If NR has no channel of that bandwidth.
    """
    if config.link == "shannon":
        return np.asarray(config.bandwidth_hz * rate_bit_s_hz(np.asarray(snr, np.float64)))
    return NrLink(table=1 if config.link == "nr-64qam" else 2).rate_bit_s(snr, config.bandwidth_hz)
