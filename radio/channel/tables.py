"""Numbers of 3GPP TR 38.901 V16.1.0 for the clustered channel, each with its table and row.

Table 7.5-6 part 1 has UMi street canyon and UMa; carriers below 2 GHz (UMi) or 6 GHz (UMa) take the numbers
of that frequency, as its notes say. Only users outdoors and not above 13 m are treated here.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from radio.config import RadioConfig
from radio.types import FloatArray

__all__ = [
    "CLUSTER_CORRELATION_M",
    "LOS_CORRELATION_M",
    "RAY_OFFSETS",
    "LinkTable",
    "link_tables",
    "zenith_law",
]

LOS_CORRELATION_M = 50.0
"""Correlation distance of the LOS state, table 7.6.3.1-2, both scenarios."""
CLUSTER_CORRELATION_M = {"umi": (12.0, 15.0), "uma": (40.0, 50.0)}
"""Correlation distance of what is drawn for a cluster, LOS and NLOS, table 7.6.3.1-2."""
_PAIRS = (0.0447, 0.1413, 0.2492, 0.3715, 0.5129, 0.6797, 0.8844, 1.1481, 1.5195, 2.1551)
RAY_OFFSETS = np.array([sign * offset for offset in _PAIRS for sign in (1.0, -1.0)])
"""Angles of the 20 rays of a cluster for a spread of 1 degree rms, table 7.5-3, (20,)."""
_LOWEST_GHZ = {"umi": 2.0, "uma": 6.0}
"""Table 7.5-6, notes on the carrier frequency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTable:
    """One column of table 7.5-6, at one carrier; angles in degrees, logarithms to base 10."""

    delay: tuple[float, float]
    """Row "delay spread lgDS": mean and standard deviation, of seconds."""
    departure: tuple[float, float]
    """Row "AOD spread lgASD": mean and standard deviation."""
    arrival: tuple[float, float]
    """Row "AOA spread lgASA": mean and standard deviation."""
    shadow_db: float
    """Row "shadow fading": standard deviation, dB (and table 7.4.1-1)."""
    k_db: tuple[float, float]
    """Row "K-factor": mean and standard deviation, dB; 0 and 0 out of sight, where it does not apply."""
    zenith_std: float
    """Tables 7.5-7 and 7.5-8, row "ZOD spread lgZSD": standard deviation; its mean is `zenith_law`."""
    correlation: tuple[tuple[float, ...], ...]
    """Rows "cross-correlations" of SF, K, DS, ASD and ZSD, positive SF being more power."""
    distance_m: tuple[float, ...]
    """Rows "correlation distance in the horizontal plane" of SF, K, DS, ASD, ZSD."""
    delay_scaling: float
    """Row "delay scaling parameter r_tau"."""
    num_clusters: int
    """Row "number of clusters"."""
    ray_departure: float
    """Row "cluster ASD"."""
    ray_arrival: float
    """Row "cluster ASA"."""
    cluster_shadow_db: float
    """Row "per cluster shadowing std"."""
    azimuth_scale: float
    """C_phi of NLOS by the number of clusters, table 7.5-2."""
    zenith_scale: float
    """C_theta of NLOS by the number of clusters, table 7.5-4."""


def _symmetric(
    sf_k: float,
    sf_ds: float,
    sf_asd: float,
    k_ds: float,
    k_asd: float,
    ds_asd: float,
    ds_zsd: float,
    asd_zsd: float,
) -> tuple[tuple[float, ...], ...]:
    """Matrix of the cross-correlations; ZSD with SF and with K are 0 in every column used here."""
    return (
        (1.0, sf_k, sf_ds, sf_asd, 0.0),
        (sf_k, 1.0, k_ds, k_asd, 0.0),
        (sf_ds, k_ds, 1.0, ds_asd, ds_zsd),
        (sf_asd, k_asd, ds_asd, 1.0, asd_zsd),
        (0.0, 0.0, ds_zsd, asd_zsd, 1.0),
    )


@cache
def link_tables(config: RadioConfig) -> tuple[LinkTable, LinkTable]:
    """The columns of table 7.5-6 for LOS and NLOS at the config's carrier."""
    carrier_ghz = max(config.carrier_hz / 1e9, _LOWEST_GHZ[config.scenario])
    return (
        _umi(float(np.log10(1.0 + carrier_ghz)))
        if config.scenario == "umi"
        else _uma(float(np.log10(carrier_ghz)))
    )


def _umi(log_ghz: float) -> tuple[LinkTable, LinkTable]:
    """Columns "UMi - street canyon"; their logarithms are of 1 + carrier in GHz."""
    in_sight = LinkTable(
        delay=(-0.24 * log_ghz - 7.14, 0.38),
        departure=(-0.05 * log_ghz + 1.21, 0.41),
        arrival=(-0.08 * log_ghz + 1.73, 0.014 * log_ghz + 0.28),
        shadow_db=4.0,
        k_db=(9.0, 5.0),
        zenith_std=0.35,
        correlation=_symmetric(0.5, -0.4, -0.5, -0.7, -0.2, 0.5, 0.0, 0.5),
        distance_m=(10.0, 15.0, 7.0, 8.0, 12.0),
        delay_scaling=3.0,
        num_clusters=12,
        ray_departure=3.0,
        ray_arrival=17.0,
        cluster_shadow_db=3.0,
        azimuth_scale=1.146,
        zenith_scale=1.104,
    )
    hidden = LinkTable(
        delay=(-0.24 * log_ghz - 6.83, 0.16 * log_ghz + 0.28),
        departure=(-0.23 * log_ghz + 1.53, 0.11 * log_ghz + 0.33),
        arrival=(-0.08 * log_ghz + 1.81, 0.05 * log_ghz + 0.3),
        shadow_db=7.82,
        k_db=(0.0, 0.0),
        zenith_std=0.35,
        correlation=_symmetric(0.0, -0.7, 0.0, 0.0, 0.0, 0.0, -0.5, 0.5),
        distance_m=(13.0, 13.0, 10.0, 10.0, 10.0),
        delay_scaling=2.1,
        num_clusters=19,
        ray_departure=10.0,
        ray_arrival=22.0,
        cluster_shadow_db=3.0,
        azimuth_scale=1.273,
        zenith_scale=1.184,
    )
    return in_sight, hidden


def _uma(log_ghz: float) -> tuple[LinkTable, LinkTable]:
    """Columns "UMa"; their logarithms are of the carrier in GHz."""
    in_sight = LinkTable(
        delay=(-6.955 - 0.0963 * log_ghz, 0.66),
        departure=(1.06 + 0.1114 * log_ghz, 0.28),
        arrival=(1.81, 0.20),
        shadow_db=4.0,
        k_db=(9.0, 3.5),
        zenith_std=0.40,
        correlation=_symmetric(0.0, -0.4, -0.5, -0.4, 0.0, 0.4, -0.2, 0.5),
        distance_m=(37.0, 12.0, 30.0, 18.0, 15.0),
        delay_scaling=2.5,
        num_clusters=12,
        ray_departure=5.0,
        ray_arrival=11.0,
        cluster_shadow_db=3.0,
        azimuth_scale=1.146,
        zenith_scale=1.104,
    )
    hidden = LinkTable(
        delay=(-6.28 - 0.204 * log_ghz, 0.39),
        departure=(1.5 - 0.1144 * log_ghz, 0.28),
        arrival=(2.08 - 0.27 * log_ghz, 0.11),
        shadow_db=6.0,
        k_db=(0.0, 0.0),
        zenith_std=0.49,
        correlation=_symmetric(0.0, -0.4, -0.6, 0.0, 0.0, 0.4, -0.5, 0.5),
        distance_m=(50.0, 50.0, 40.0, 50.0, 50.0),
        delay_scaling=2.3,
        num_clusters=20,
        ray_departure=2.0,
        ray_arrival=15.0,
        cluster_shadow_db=3.0,
        azimuth_scale=1.289,
        zenith_scale=1.178,
    )
    return in_sight, hidden


def zenith_law(config: RadioConfig, ground_m: FloatArray, *, los: bool) -> tuple[FloatArray, FloatArray]:
    """Mean of lgZSD, and offset of the mean zenith angle of departure in degrees, each of ground_m's shape.

    Table 7.5-8 for UMi and 7.5-7 for UMa.
    """
    distance_km = ground_m / 1000.0
    if config.scenario == "umi":
        rise = config.user_height_m - config.height_m
        if los:
            return np.maximum(-0.21, -14.8 * distance_km + 0.01 * abs(rise) + 0.83), np.zeros_like(ground_m)
        mean = np.maximum(-0.5, -3.1 * distance_km + 0.01 * max(rise, 0.0) + 0.2)
        return mean, -(10.0 ** (-1.5 * np.log10(np.maximum(10.0, ground_m)) + 3.3))
    mean = np.maximum(
        -0.5, -2.1 * distance_km - 0.01 * abs(config.user_height_m - 1.5) + (0.75 if los else 0.9)
    )
    if los:
        return mean, np.zeros_like(ground_m)
    log_ghz = float(np.log10(max(config.carrier_hz / 1e9, _LOWEST_GHZ["uma"])))
    slope, constant = 0.208 * log_ghz - 0.782, -0.13 * log_ghz + 2.03 - 0.07 * (config.user_height_m - 1.5)
    return mean, 7.66 * log_ghz - 5.96 - 10.0 ** (slope * np.log10(np.maximum(25.0, ground_m)) + constant)
