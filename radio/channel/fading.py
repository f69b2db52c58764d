"""CSI of users at their places: the direct path and scattered waves, clustered or simply independent."""

from dataclasses import dataclass

import numpy as np

from radio.channel.clustered import scattered
from radio.channel.geometry import array_response, distances
from radio.channel.large_scale import Deployment, LargeScale, large_scale
from radio.channel.regions import Words, draw_keys
from radio.config import RadioConfig
from radio.types import ComplexArray, FloatArray
from radio.units import SPEED_OF_LIGHT_M_S

__all__ = [
    "ClusterFading",
    "Fading",
    "RicianFading",
    "channel",
    "draw_channel",
    "draw_fading",
    "draw_iid",
    "draw_scatter",
]

_NUM_TAPS = 12
"""Taps of simple fading when the band has several subbands; the last has e^-3 of the first's power."""
_NUM_WAVES = 32
"""Directions from which simple fading comes to a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFading:
    """Clusters of TR 38.901 around every place, given by a key alone."""

    keys: Words
    """(*batch,): rows with other keys are independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RicianFading:
    """Scattered waves without angles at the node: independent at its antennas, from all sides at the user."""

    heading: FloatArray
    """Direction of each wave, (nodes, waves), rad."""
    taps: ComplexArray
    """(*batch, nodes, waves, antennas * taps), circular normal; their sum at a place has unit power."""
    delays: FloatArray
    """Delay of each tap in units of the delay spread, (taps,)."""


Fading = ClusterFading | RicianFading
"""What makes the small-scale channel of every place; the same place sees the same channel."""


def draw_scatter(shape: tuple[int, ...], rng: np.random.Generator) -> ComplexArray:
    """Circular complex normal numbers of unit power."""
    return np.asarray((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * np.sqrt(0.5))


def draw_iid(
    num_users: int, num_nodes: int, num_antennas: int, rng: np.random.Generator, batch: tuple[int, ...] = ()
) -> ComplexArray:
    """Independent Rayleigh channels of unit power, (*batch, users, nodes, antennas)."""
    return draw_scatter((*batch, num_users, num_nodes, num_antennas), rng)


def draw_fading(config: RadioConfig, rng: np.random.Generator, batch: tuple[int, ...] = ()) -> Fading:
    """Draw small-scale fading for every place around the nodes.

    Args:
        config: Kind of fading, nodes, antennas, subbands.
        rng: Source of the draw.
        batch: Leading axes, independent of one another.

    Returns:
        Fading, for `channel`. A user who moves walks through it: its Doppler shifts follow.
    """
    if config.small_scale == "clusters":
        return ClusterFading(keys=draw_keys(rng, batch))
    count = 1 if config.num_subbands == 1 else _NUM_TAPS
    delays = np.arange(count) * (3.0 / max(count - 1, 1))
    powers = np.exp(-delays)
    size = config.num_antennas * count
    scale = np.sqrt(np.tile(powers / powers.sum(), config.num_antennas) / _NUM_WAVES)
    return RicianFading(
        heading=rng.uniform(0.0, 2.0 * np.pi, (config.num_nodes, _NUM_WAVES)),
        taps=draw_scatter((*batch, config.num_nodes, _NUM_WAVES, size), rng) * scale,
        delays=delays,
    )


def channel(deployment: Deployment, users_xy: FloatArray, fading: Fading) -> ComplexArray:
    """CSI of users at these places under this fading; pure, so motion is a walk through it.

    h = sqrt(gain) (sqrt(K / (K + 1)) e^(-2 pi i d / wavelength) a + sqrt(1 / (K + 1)) scatter), TR 38.901
    (7.5-30), of the soft mixture of both states (`large_scale`). Subbands see everything turned by the
    delay of the direct path, and clusters by their own on top.

    Args:
        deployment: Nodes and fields.
        users_xy: Positions, (..., users, 2), m.
        fading: Of `draw_fading`, with batch axes that broadcast to the leading axes of users_xy.

    Returns:
        h, (..., users, nodes, antennas); with several subbands (subbands, ..., users, nodes, antennas).
    """
    config = deployment.config
    slow = large_scale(deployment, users_xy)
    _, space = distances(config, users_xy, deployment.nodes_xy)
    phase = np.exp(-2j * np.pi * (space / config.wavelength_m % 1.0))
    direct = np.sqrt(slow.gain * (slow.k_factor / (slow.k_factor + 1.0))) * phase
    h = direct[..., None] * array_response(config, users_xy, deployment.nodes_xy)
    offsets_hz = None if config.num_subbands == 1 else subband_offsets_hz(config)
    if isinstance(fading, ClusterFading):
        h = h + scattered(deployment, users_xy, fading.keys, slow, offsets_hz)
    else:
        h = h + _rayleigh(config, users_xy, fading, slow, offsets_hz)
    if offsets_hz is None:
        return np.asarray(h)
    travel = offsets_hz.reshape(-1, *(1,) * space.ndim) * (space / SPEED_OF_LIGHT_M_S)
    return np.asarray(h * np.exp(-2j * np.pi * travel)[..., None])


def subband_offsets_hz(config: RadioConfig) -> FloatArray:
    """Middle of each subband from the carrier, (subbands,), Hz."""
    count = config.num_subbands
    return np.asarray(((np.arange(count) + 0.5) / count - 0.5) * config.bandwidth_hz)


def _rayleigh(
    config: RadioConfig,
    users_xy: FloatArray,
    fading: RicianFading,
    slow: LargeScale,
    offsets_hz: FloatArray | None,
) -> ComplexArray:
    """Simple scatter: 32 plane waves a node, each with a normal coefficient at every antenna and tap."""
    towards = np.stack([np.cos(fading.heading), np.sin(fading.heading)])
    turns = np.einsum("...uc,cnw->...nuw", users_xy, towards) / config.wavelength_m
    waves = np.exp(2j * np.pi * (turns - np.round(turns)))
    scatter = np.moveaxis(waves @ fading.taps, -3, -2)
    scatter = scatter.reshape(*scatter.shape[:-1], config.num_antennas, -1)
    scatter = scatter * np.sqrt(slow.gain / (slow.k_factor + 1.0))[..., None, None]
    if offsets_hz is None:
        return np.asarray(scatter[..., 0])
    spread = np.where(slow.los, slow.in_sight.delay_spread_s, slow.hidden.delay_spread_s)
    turn = -2j * np.pi * offsets_hz.reshape(-1, *(1,) * spread.ndim) * spread
    return np.asarray((scatter * np.exp(turn[..., None, None] * fading.delays)).sum(axis=-1))


def draw_channel(deployment: Deployment, users_xy: FloatArray, rng: np.random.Generator) -> ComplexArray:
    """Fresh fading for users at these places: (..., users, 2) in m -> (..., users, nodes, antennas).

    Leading axes are independent draws; for one that users walk through, see `draw_fading` and `channel`.
    """
    return channel(deployment, users_xy, draw_fading(deployment.config, rng, users_xy.shape[:-2]))
