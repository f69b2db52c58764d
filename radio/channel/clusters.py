"""Clusters of TR 38.901 section 7.5 as functions of place: delays, powers, angles, and their waves."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from radio.channel.geometry import array_shape
from radio.channel.regions import Cells, Regions, Seen, see
from radio.channel.tables import RAY_OFFSETS, LinkTable
from radio.config import RadioConfig
from radio.types import ComplexArray, FloatArray

__all__ = ["Clusters", "Links", "at_antennas", "make_clusters", "stretches", "sum_waves"]

_COUPLINGS, _PHASES = 64, 4096
_RAYS = len(RAY_OFFSETS)
_STRETCHES = np.array(
    [[0.7705, -0.0433, 0.0002, 0.000017], [1.1035, -0.028, -0.002, 0.0001], [1.3086, 0.0339, -0.0077, 0.0002]]
)
"""Coefficients of 1, K, K^2 and K^3, K in dB, for links in sight: (7.5-3), (7.5-10) and (7.5-15)."""
_K_RANGE_DB = (-5.0, 30.0)
"""Where all three are positive: fits of the third degree, and that of zenith angles is 0 at -10 dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """A flat list of links in one state; arrays are (links,) unless said otherwise."""

    batch: NDArray[np.intp]
    node: NDArray[np.intp]
    user_xy: FloatArray
    """(links, 2), m."""
    offset_xy: FloatArray
    """User from node, (links, 2), m."""
    height_m: float
    """User over node, m: mostly negative."""
    k_factor: FloatArray
    delay_spread_s: FloatArray
    azimuth_spread: FloatArray
    """Of departure, rad."""
    zenith_spread: FloatArray
    """Of departure, rad."""
    zenith_rays: FloatArray
    """Spread of the zenith within a cluster, rad."""
    zenith_shift: FloatArray
    """Of the mean zenith of departure from the direct one, rad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """The scattered paths of each link; arrays are (links, slots), float32."""

    power: FloatArray
    """Shares of the scattered power: they add up to 1."""
    delay_s: FloatArray
    """Behind the direct path, s."""
    azimuth: FloatArray
    """Of departure, from the direct path, rad."""
    zenith: FloatArray
    """Of departure, rad from straight up."""
    arrival: FloatArray
    """Direction from which the waves come, a unit vector in the plane, (2, links, slots)."""
    seen: Seen
    cells: Cells


def make_clusters(table: LinkTable, regions: Regions, links: Links) -> Clusters:
    """Steps 5 to 7 of TR 38.901 section 7.5 for links in one state.

    The first slot has the cluster of least delay, as (7.5-2) wants one: the others behind it are exponential
    again. In sight it lies on the direct path. Clusters 25 dB down are kept, and none is split in three.
    """
    seen = see(regions, links.batch, links.node, links.user_xy)
    cells = Cells(seen.words)
    scaling, exponential = table.delay_scaling, cells.delay()
    delay = exponential * np.float32(scaling)
    stretch = [values[:, None] for values in stretches(table, links.k_factor)]
    spread = links.delay_spread_s[:, None].astype(np.float32) / stretch[0]
    log_power = (1.0 - scaling) * exponential - (
        0.1 * np.log(10.0)
    ) * table.cluster_shadow_db * cells.shadow()
    log_power = log_power.astype(np.float32)
    visible = seen.amplitude**2 * np.exp(log_power)
    total = np.maximum(visible.sum(axis=1, keepdims=True), 1e-30)
    power = visible / total
    # Below the strongest path; in sight the first has the direct one's power, too (steps 6 and 7).
    strongest = np.maximum(power.max(axis=1), power[:, 0] + links.k_factor)[:, None]
    fall = np.maximum(np.log(strongest * total) - log_power, 0.0).astype(np.float32)
    fall = np.minimum(fall, np.float32(-np.log(1e-6)))
    return Clusters(
        power=power,
        delay_s=delay * spread,
        azimuth=_azimuth(table, links, cells, np.sqrt(fall) / stretch[1]),
        zenith=_zenith(table, links, cells, fall / stretch[2]),
        arrival=_arrival(table, links, seen, cells, log_power),
        seen=seen,
        cells=cells,
    )


def stretches(table: LinkTable, k_factor: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """C_tau of (7.5-3), C_phi of (7.5-10) and C_theta of (7.5-15), each of k_factor's shape, float32."""
    if not table.k_db[1]:
        one = np.ones(k_factor.shape, dtype=np.float32)
        return one, one * np.float32(table.azimuth_scale), one * np.float32(table.zenith_scale)
    k = np.clip(10.0 * np.log10(k_factor), *_K_RANGE_DB)
    powers = np.stack([np.ones_like(k), k, k**2, k**3])
    delay, azimuth, zenith = (_STRETCHES @ powers.reshape(4, -1)).astype(np.float32).reshape(3, *k.shape)
    return delay, azimuth * np.float32(table.azimuth_scale), zenith * np.float32(table.zenith_scale)


def _turn(table: LinkTable, cells: Cells, which: int, far: FloatArray) -> FloatArray:
    """Angle from the direct path over the spread: far with a random sign, and a seventh of a normal number.

    In sight the first cluster has none: (7.5-12) and (7.5-17) take its angle off.
    """
    sign, normal = cells.angle(which)
    turn = sign * far + normal * np.float32(1.0 / 7.0)
    if table.k_db[1]:
        turn[:, 0] = 0.0
    return np.asarray(turn)


def _azimuth(table: LinkTable, links: Links, cells: Cells, far: FloatArray) -> FloatArray:
    """Azimuth of departure from the direct path, (7.5-9) to (7.5-12), rad."""
    spread = links.azimuth_spread[:, None].astype(np.float32)
    return np.asarray(spread * _turn(table, cells, 0, far * np.float32(2.0 / 1.4)))


def _zenith(table: LinkTable, links: Links, cells: Cells, far: FloatArray) -> FloatArray:
    """Zenith of departure, (7.5-14) to (7.5-19), rad."""
    direct = np.arctan2(np.hypot(*links.offset_xy.T), links.height_m) + links.zenith_shift
    spread = links.zenith_spread[:, None].astype(np.float32)
    return np.asarray(spread * _turn(table, cells, 1, far) + direct[:, None].astype(np.float32))


def _arrival(table: LinkTable, links: Links, seen: Seen, cells: Cells, log_power: FloatArray) -> FloatArray:
    """Where the waves of each cluster come from: the same all over its cell, so that they are plane.

    The middle of the cell stands for the user, the median power of the strongest path for its power, and each
    cluster has a spread of arrival of its own.
    """
    strongest, scale = _typical(table)
    fall = np.maximum(np.float32(strongest) - log_power, np.float32(0.0))
    mean, deviation = table.arrival
    spread = np.float32(mean) + np.float32(deviation) * cells.spread()
    spread = np.minimum(np.float32(10.0) ** spread, np.float32(104.0)) * np.float32(np.pi / 180.0)
    turn = spread * _turn(table, cells, 2, np.float32(scale) * np.sqrt(fall))
    toward = -(links.offset_xy.T[:, :, None].astype(np.float32) - seen.place_m)
    x, y = toward / np.maximum(np.hypot(*toward), np.float32(1e-3))
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([x * cos - y * sin, x * sin + y * cos])


@cache
def _typical(table: LinkTable) -> tuple[float, float]:
    """Logarithm of the median power of the strongest path, and the factor of (7.5-9), at the mean K."""
    rng = np.random.default_rng(0)
    shape = (2000, table.num_clusters)
    delay = rng.standard_exponential(shape)
    delay[:, 0] = 0.0
    fading = -0.1 * np.log(10.0) * table.cluster_shadow_db * rng.standard_normal(shape)
    power = np.exp((1.0 - table.delay_scaling) * delay + fading)
    ratio = 10.0 ** (table.k_db[0] / 10.0) if table.k_db[1] else 0.0
    first = power[:, 0] + ratio * power.sum(axis=1)
    strongest = np.median(np.maximum(power.max(axis=1), first))
    stretch = stretches(table, np.array(ratio))[1]
    return float(np.log(strongest)), float(2.0 / 1.4 / stretch)


@cache
def _ray_tables() -> tuple[FloatArray, FloatArray]:
    """Offsets of arrival coupled to those of departure (step 8), and first phases (step 10).

    (128, rays) degrees for a spread of 1, and (4096, rays) rad: fixed tables; the hash of a cell picks a row.
    """
    rng = np.random.default_rng(38901)
    couplings = np.stack([rng.permutation(RAY_OFFSETS) for _ in range(2 * _COUPLINGS)])
    phases = rng.uniform(0.0, 2.0 * np.pi, (_PHASES, _RAYS))
    return couplings.astype(np.float32), phases.astype(np.float32)


def sum_waves(
    config: RadioConfig, table: LinkTable, links: Links, clusters: Clusters, offsets_hz: FloatArray | None
) -> ComplexArray:
    """Add up the waves at the node's antennas, TR 38.901 (7.5-22) with isotropic elements.

    Args:
        config: Carrier, array.
        table: Spreads within a cluster.
        links: The links.
        clusters: Their paths.
        offsets_hz: Frequencies from the carrier at which to evaluate, (subbands,), or None for the carrier.

    Returns:
        Channels of unit mean power, (links, antennas), or (subbands, links, antennas).
    """
    waves = _waves(config, table, clusters)
    right, up = _directions(config, table, links, clusters)
    together = (len(waves), -1) if offsets_hz is None else (-1, _RAYS)
    up = None if up is None else up.reshape(together)
    summed = at_antennas(waves.reshape(together), right.reshape(together), up, *array_shape(config))
    if offsets_hz is None:
        return summed
    summed = summed.reshape(*waves.shape[:2], -1)
    turn = clusters.delay_s * (-2.0 * np.pi * offsets_hz.astype(np.float32))[:, None, None]
    return np.asarray(np.einsum("sln,lna->sla", _turned(turn), summed, optimize=True))


def _turned(angle: FloatArray) -> ComplexArray:
    """exp(i angle), in single precision."""
    out = np.empty(angle.shape, dtype=np.complex64)
    np.cos(angle, out=out.real)
    np.sin(angle, out=out.imag)
    return out


def _waves(config: RadioConfig, table: LinkTable, clusters: Clusters) -> ComplexArray:
    """Amplitude and phase of each ray at the user, (links, slots, rays).

    Within a cell every ray is a plane wave from a direction of its own, so motion turns its phase by 2 pi /
    wavelength for each metre towards it: that is the Doppler shift.
    """
    couplings, phases = _ray_tables()
    offset = couplings[clusters.cells.choice(0, _COUPLINGS)] * np.float32(table.ray_arrival * np.pi / 180.0)
    number = np.float32(2.0 * np.pi / config.wavelength_m)
    x, y = clusters.seen.place_m * number
    along = (x * clusters.arrival[0] + y * clusters.arrival[1])[..., None]
    across = (y * clusters.arrival[0] - x * clusters.arrival[1])[..., None]
    angle = phases[clusters.cells.choice(1, _PHASES)] + clusters.cells.phase()[..., None]
    angle += along * np.cos(offset)
    angle += across * np.sin(offset)
    waves = _turned(angle)
    waves *= np.sqrt(clusters.power / np.float32(_RAYS))[..., None]
    return waves


def _directions(
    config: RadioConfig, table: LinkTable, links: Links, clusters: Clusters
) -> tuple[ComplexArray, ComplexArray | None]:
    """Phase step of each ray from one antenna to the next along x and upwards, (links, slots, rays).

    For a line the rays of a cluster share its zenith.
    """
    ground = np.maximum(np.hypot(*links.offset_xy.T), 1e-9)
    x, y = (links.offset_xy.T / ground).astype(np.float32)[:, :, None]
    cos, sin = np.cos(clusters.azimuth), np.sin(clusters.azimuth)
    step = np.float32(2.0 * np.pi * config.antenna_spacing)
    flat = np.sin(clusters.zenith) * step
    offset = (RAY_OFFSETS * (table.ray_departure * np.pi / 180.0)).astype(np.float32)
    ahead, aside = flat * (x * cos - y * sin), flat * (y * cos + x * sin)
    right = ahead[..., None] * np.cos(offset) - aside[..., None] * np.sin(offset)
    if config.array == "ula":
        return _turned(right), None
    couplings, _ = _ray_tables()
    tilt = couplings[_COUPLINGS + clusters.cells.choice(2, _COUPLINGS)]
    tilt = clusters.zenith[..., None] + tilt * links.zenith_rays[:, None, None].astype(np.float32)
    return _turned(right), _turned(step * np.cos(tilt))


def at_antennas(
    waves: ComplexArray, right: ComplexArray, up: ComplexArray | None, columns: int, rows: int
) -> ComplexArray:
    """Sum of waves right^i up^j over rays at antenna i * rows + j: (links, rays) -> (links, antennas).

    The powers of a line are split in two factors, so that most of the work is one matrix product a link.
    """
    if up is None:
        inner = max(n for n in range(1, int(np.sqrt(columns)) + 1) if columns % n == 0)
        left, right = _powers(waves, _power(right, inner), columns // inner), _powers(None, right, inner)
    else:
        left, right = _powers(waves, right, columns), _powers(None, up, rows)
    return np.asarray((left @ right.swapaxes(-1, -2)).reshape(len(waves), -1))


def _powers(first: ComplexArray | None, base: ComplexArray, count: int) -> ComplexArray:
    """Products first * base^i for i below count, (links, count, rays); no `first` is 1."""
    out = np.empty((len(base), count, base.shape[1]), dtype=np.complex64)
    out[:, 0] = 1.0 if first is None else first
    for i in range(1, count):
        np.multiply(out[:, i - 1], base, out=out[:, i])
    return out


def _power(base: ComplexArray, exponent: int) -> ComplexArray:
    out = base
    for _ in range(exponent - 1):
        out = out * base
    return out
