"""What changes slowly: line of sight, path loss, shadowing, K factor and spreads, as fields over the area."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import ndtri

from radio.channel.field import PlaneFields, draw_fields
from radio.channel.geometry import distances, grid_nodes
from radio.channel.pathloss import los_probability, path_losses_db
from radio.channel.tables import LOS_CORRELATION_M, LinkTable, link_tables, zenith_law
from radio.config import RadioConfig
from radio.types import BoolArray, FloatArray
from radio.units import db_to_linear, linear_to_db

__all__ = ["Deployment", "LargeScale", "LinkState", "draw_deployment", "large_scale"]

_WIDEST_AZIMUTH_DEG, _WIDEST_ZENITH_DEG = 104.0, 52.0
"""Limits of the angle spreads, TR 38.901 section 7.5 step 4."""
_FAINTEST, _FAINT = 5e-3, 2e-2
"""Shares of a link's power between which the scattered waves of the weaker state are faded out for those of
the other one: they cost as much to compute. The direct path keeps its power."""


_FIELDS = 11
"""Fields of a node: the LOS state, then SF, K, DS, ASD and ZSD in sight, then out of sight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Nodes and the fields around them, drawn once; users may then walk through them."""

    config: RadioConfig
    nodes_xy: FloatArray
    """Positions, (nodes, 2), m."""
    fields: PlaneFields
    """Eleven for each node, one node after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """Each link as it is in sight, or out of sight; every array is (..., users, nodes)."""

    scattered_gain: FloatArray
    """Mean power gain of one antenna over the scattered waves of this state, in the soft mixture, linear."""
    k_factor: FloatArray
    """Power of the direct path over that of the scattered ones, linear; 0 out of sight."""
    delay_spread_s: FloatArray
    """Rms delay spread, s."""
    azimuth_spread_deg: FloatArray
    """Rms spread of the azimuth of departure, degrees."""
    zenith_spread_deg: FloatArray
    """Rms spread of the zenith of departure, degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeScale:
    """What changes slowly between each user and each node; every array is (..., users, nodes)."""

    los: BoolArray
    """Line of sight: the soft state is above 1/2."""
    los_soft: FloatArray
    """Soft LOS state in (0, 1): the amplitude of the channel in sight, TR 38.901 section 7.6.3.3."""
    path_loss_db: FloatArray
    """Mean path loss of the mixture, dB, without shadowing."""
    shadow_db: FloatArray
    """Shadowing of the mixture, dB: positive is more loss."""
    k_factor: FloatArray
    """Power of the direct path over that of all scattered ones, linear."""
    in_sight: LinkState
    hidden: LinkState

    @property
    def gain(self) -> FloatArray:
        """Mean power gain of one antenna, linear."""
        return db_to_linear(-(self.path_loss_db + self.shadow_db))


def draw_deployment(
    config: RadioConfig, rng: np.random.Generator, nodes_xy: FloatArray | None = None
) -> Deployment:
    """Draw the fields around the nodes.

    Args:
        config: Scenario and number of nodes.
        rng: Source of the draw.
        nodes_xy: Positions, (nodes, 2), m; None puts them on a grid.

    Returns:
        The deployment.
    """
    nodes = (
        grid_nodes(config.num_nodes, config.area_m) if nodes_xy is None else np.asarray(nodes_xy, np.float64)
    )
    if nodes.shape != (config.num_nodes, 2):
        raise ValueError(f"nodes_xy must be ({config.num_nodes}, 2), got {nodes.shape}")
    in_sight, hidden = link_tables(config)
    one_node = (LOS_CORRELATION_M, *in_sight.distance_m, *hidden.distance_m)
    return Deployment(config=config, nodes_xy=nodes, fields=draw_fields(one_node * config.num_nodes, rng))


def large_scale(deployment: Deployment, users_xy: FloatArray) -> LargeScale:
    """What users at these places see: (..., users, 2) in m; pure, so the same place gives the same answer.

    With the soft LOS state s the channel is s h_LOS + sqrt(1 - s^2) h_NLOS, TR 38.901 section 7.6.3.3, so the
    mean powers of the two states add up with the weights s^2 and 1 - s^2.
    """
    config = deployment.config
    ground, space = distances(config, users_xy, deployment.nodes_xy)
    values = deployment.fields(users_xy).reshape(*ground.shape, _FIELDS)
    soft = _soft_los(config, ground, values[..., 0])
    losses = path_losses_db(config, ground, space)
    weights = (soft**2, 1.0 - soft**2)
    means = [weight * db_to_linear(-loss) for weight, loss in zip(weights, losses, strict=True)]
    drawn = [
        _parameters(config, table, values[..., first : first + 5], ground, los=los)
        for table, first, los in zip(link_tables(config), (1, 6), (True, False), strict=True)
    ]
    sight, hidden = (mean * state.scattered_gain for mean, state in zip(means, drawn, strict=True))
    total, direct = sight + hidden, sight * (drawn[0].k_factor / (drawn[0].k_factor + 1.0))
    scattered = _without_the_faint(sight - direct, hidden, total)
    path_loss = -linear_to_db(sum(means))
    return LargeScale(
        los=soft > 0.5,
        los_soft=soft,
        path_loss_db=path_loss,
        shadow_db=-linear_to_db(total) - path_loss,
        k_factor=direct / (total - direct),
        in_sight=replace(drawn[0], scattered_gain=scattered[0]),
        hidden=replace(drawn[1], scattered_gain=scattered[1]),
    )


def _soft_los(config: RadioConfig, ground_m: FloatArray, normal: FloatArray) -> FloatArray:
    """LOS_soft = 1/2 + arctan(sqrt(20 / wavelength) (G + F)) / pi, F = sqrt(2) erfinv(2 Pr_LOS - 1)."""
    likely = ndtri(np.minimum(los_probability(config, ground_m), 1.0 - 1e-12))
    sharpness = np.sqrt(20.0 / config.wavelength_m)
    return np.asarray(0.5 + np.arctan(sharpness * (normal + likely)) / np.pi)


def _parameters(
    config: RadioConfig, table: LinkTable, normal: FloatArray, ground_m: FloatArray, *, los: bool
) -> LinkState:
    """Correlated parameters from independent fields, (..., users, nodes, 5); as gain, the shadowing."""
    shadow, k_factor, delay, azimuth, zenith = np.moveaxis(normal @ _mixing(table).T, -1, 0)
    ratio = db_to_linear(table.k_db[0] + table.k_db[1] * k_factor) if los else np.zeros_like(ground_m)
    zenith_log = zenith_law(config, ground_m, los=los)[0] + table.zenith_std * zenith
    return LinkState(
        scattered_gain=db_to_linear(table.shadow_db * shadow),
        k_factor=ratio,
        delay_spread_s=10.0 ** (table.delay[0] + table.delay[1] * delay),
        azimuth_spread_deg=np.minimum(
            10.0 ** (table.departure[0] + table.departure[1] * azimuth), _WIDEST_AZIMUTH_DEG
        ),
        zenith_spread_deg=np.minimum(10.0**zenith_log, _WIDEST_ZENITH_DEG),
    )


@cache
def _mixing(table: LinkTable) -> FloatArray:
    """Square root of the cross-correlations, in the order that section 7.5 step 4 asks for."""
    return np.linalg.cholesky(np.array(table.correlation))


def _without_the_faint(
    first: FloatArray, second: FloatArray, total: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give the lesser of two parts to the other where it is a tiny share of the total; smooth in both."""
    least = np.minimum(first, second)
    rise = np.clip((least / total - _FAINTEST) / (_FAINT - _FAINTEST), 0.0, 1.0)
    kept = least * rise**2 * (3.0 - 2.0 * rise)
    both = first + second
    return np.where(first < second, kept, both - kept), np.where(first < second, both - kept, kept)
