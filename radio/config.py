"""Settings of the downlink, with the source of each value."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Literal

from radio.units import BOLTZMANN_DBM_PER_HZ, SPEED_OF_LIGHT_M_S, db_to_linear, dbm_to_w

__all__ = ["RadioConfig"]

_POSITIVE = (
    "num_nodes",
    "num_antennas",
    "num_users",
    "num_subbands",
    "area_m",
    "carrier_hz",
    "bandwidth_hz",
    "min_distance_m",
)
_RANGES = {
    "num_nodes": (1, 1_000_000),
    "num_antennas": (1, 1_000_000),
    "num_users": (1, 1_000_000),
    "num_subbands": (1, 1_000_000),
    "area_m": (1e-3, 1e6),
    "carrier_hz": (1e6, 1e12),
    "bandwidth_hz": (1.0, 1e12),
    "min_distance_m": (1e-3, 1e6),
    "node_power_dbm": (-200.0, 200.0),
    "noise_figure_db": (-100.0, 200.0),
    "noise_density_dbm_hz": (-300.0, 100.0),
    "node_height_m": (1e-3, 1e3),
    "antenna_spacing": (0.0, 1e4),
    "phase_std_deg": (0.0, 1e6),
    "timing_std_s": (0.0, 1.0),
}
"""What no radio link has need to leave: beyond, numbers overflow or a slip of units is likely."""
_CHOICES = {
    "scenario": ("umi", "uma"),
    "array": ("ula", "upa"),
    "small_scale": ("clusters", "rician"),
    "link": ("shannon", "nr-64qam", "nr-256qam"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioConfig:
    """Downlink shared by the edge nodes of one cluster."""

    num_nodes: int = 4
    """Edge nodes, on a grid. Our choice; dense urban clusters of TR 38.913 are of this size."""
    num_antennas: int = 8
    """Antennas of each node. Our choice."""
    num_users: int = 12
    """Single-antenna users. Our choice."""
    area_m: float = 500.0
    """Side of the square area, m; four nodes are then 250 m apart (UMi of TR 38.901 has 200 m)."""
    carrier_hz: float = 3.5e9
    """Carrier, Hz: the middle of band n78 (TS 38.104)."""
    bandwidth_hz: float = 100e6
    """Bandwidth of the broadcast channel, Hz: the widest of n78 (TS 38.104)."""
    node_power_dbm: float = 40.0
    """Transmit power limit of each node, dBm; TR 38.901 table 7.8-1 has 44 for UMi: ours is a smaller
    cell."""
    noise_figure_db: float = 9.0
    """Noise figure of a user's receiver, dB: TR 38.901 table 7.8-1."""
    noise_density_dbm_hz: float = BOLTZMANN_DBM_PER_HZ
    """Thermal noise density, dBm/Hz."""
    scenario: Literal["umi", "uma"] = "umi"
    """Path loss, LOS probability and shadowing of TR 38.901: UMi street canyon or UMa."""
    node_height_m: float | None = None
    """Height of the nodes, m; None takes TR 38.901 table 7.2-1: 10 for UMi, 25 for UMa."""
    user_height_m: float = 1.5
    """Height of the users, m: TR 38.901 table 7.2-1; at most 13, as the LOS formulas here assume."""
    min_distance_m: float = 10.0
    """Ground distances below this are taken as this: the formulas of TR 38.901 start there."""
    array: Literal["ula", "upa"] = "ula"
    """Antenna array: a uniform line, or a uniform plane as square as the number of antennas allows."""
    antenna_spacing: float = 0.5
    """Spacing of the antennas in wavelengths. Half a wavelength is the usual choice."""
    num_subbands: int = 1
    """Parts of the band that fade differently; 1 is flat fading."""
    small_scale: Literal["clusters", "rician"] = "clusters"
    """Small-scale fading: clusters of TR 38.901 section 7.5, or a direct path and waves that are independent
    at every antenna."""
    link: Literal["shannon", "nr-64qam", "nr-256qam"] = "shannon"
    """Rate at an SNR: log2(1 + SNR), or TS 38.214 MCS table 1 or 2 with its overheads (`radio.NrLink`)."""
    phase_std_deg: float = 0.0
    """Phase error of each node against the others, standard deviation, degrees; beams do not know of it."""
    timing_std_s: float = 0.0
    """Timing error of each node, standard deviation, s."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_number(field.name, getattr(self, field.name), field.default)
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in ("phase_std_deg", "timing_std_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not self.height_m > 0:
            raise ValueError(f"node_height_m must be > 0, got {self.node_height_m}")
        if not 0 < self.user_height_m <= 13:
            raise ValueError(f"user_height_m must be in (0, 13], got {self.user_height_m}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        _check_ranges(self)

    @property
    def height_m(self) -> float:
        """Height of the nodes, m."""
        default = 10.0 if self.scenario == "umi" else 25.0
        return default if self.node_height_m is None else self.node_height_m

    @property
    def wavelength_m(self) -> float:
        """Wavelength of the carrier, m."""
        return SPEED_OF_LIGHT_M_S / self.carrier_hz

    @property
    def power_w(self) -> float:
        """Transmit power limit of each node, W."""
        return dbm_to_w(self.node_power_dbm)

    @property
    def noise_w(self) -> float:
        """Noise power at each user over the whole band, W."""
        return dbm_to_w(self.noise_density_dbm_hz) * self.bandwidth_hz * db_to_linear(self.noise_figure_db)


def _check_ranges(config: RadioConfig) -> None:
    """Refuse numbers beyond what a radio link can have."""
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value:g}")


def _check_number(name: str, value: object, default: object) -> None:
    """Refuse what is no number where the default is one."""
    if isinstance(default, str) or value is default:
        return
    kind, label = (Integral, "a whole number") if isinstance(default, int) else (Real, "a finite number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{name} must be {label}, got {value!r:.80}")
    try:
        finite = math.isfinite(float(value))
    except OverflowError:
        raise ValueError(f"{name} must be {label}, got one too large") from None
    if not finite:
        raise ValueError(f"{name} must be {label}, got {value!r:.80}")
