"""Clustered small-scale channels of a deployment, TR 38.901 section 7.5, as a function of place."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from radio.channel.clusters import Clusters, Links, make_clusters, sum_waves
from radio.channel.geometry import distances
from radio.channel.large_scale import Deployment, LargeScale, LinkState
from radio.channel.regions import Regions, Words, make_regions
from radio.channel.tables import CLUSTER_CORRELATION_M, LinkTable, link_tables, zenith_law
from radio.types import ComplexArray, FloatArray

__all__ = ["link_clusters", "scattered"]

_CHUNK = 256
"""Links computed together: keeps the rays in the cache."""


def scattered(
    deployment: Deployment, users_xy: FloatArray, keys: Words, slow: LargeScale, offsets_hz: FloatArray | None
) -> ComplexArray:
    """Channel of all scattered waves.

    Args:
        deployment: Nodes.
        users_xy: (..., users, 2), m.
        keys: Keys of the clusters, a shape that broadcasts to the leading axes.
        slow: The links' parameters.
        offsets_hz: Frequencies from the carrier, (subbands,), or None for the carrier alone.

    Returns:
        (..., users, nodes, antennas), or (subbands, ..., users, nodes, antennas).
    """
    config = deployment.config
    shape = slow.gain.shape
    lead = () if offsets_hz is None else (len(offsets_hz),)
    out = np.zeros((*lead, slow.gain.size, config.num_antennas), dtype=np.complex128)
    for los, state in ((True, slow.in_sight), (False, slow.hidden)):
        table, regions = _regions(deployment, keys, los=los)
        amplitude = np.sqrt(state.scattered_gain).ravel()
        where = np.flatnonzero(amplitude)
        for rows, links in _links(deployment, users_xy, keys, state, where, los=los):
            clusters = make_clusters(table, regions, links)
            waves = sum_waves(config, table, links, clusters, offsets_hz)
            out[..., rows, :] += waves * amplitude[rows, None]
    return out.reshape(*lead, *shape, config.num_antennas)


def link_clusters(
    deployment: Deployment, users_xy: FloatArray, keys: Words, slow: LargeScale, *, los: bool
) -> Clusters:
    """Paths that every link would have in one state, as flat (users * nodes, slots); users_xy (users, 2)."""
    table, regions = _regions(deployment, keys, los=los)
    state = slow.in_sight if los else slow.hidden
    everything = np.arange(state.scattered_gain.size)
    ((_, links),) = _links(deployment, users_xy, keys, state, everything, los=los, chunk=len(everything))
    return make_clusters(table, regions, links)


def _regions(deployment: Deployment, keys: Words, *, los: bool) -> tuple[LinkTable, Regions]:
    config = deployment.config
    table = link_tables(config)[0 if los else 1]
    correlation_m = CLUSTER_CORRELATION_M[config.scenario][0 if los else 1]
    flat = np.asarray(keys, np.uint64).reshape(-1)
    return table, make_regions(flat, config.num_nodes, table.num_clusters, correlation_m, 0 if los else 1)


def _links(
    deployment: Deployment,
    users_xy: FloatArray,
    keys: Words,
    state: LinkState,
    where: NDArray[np.intp],
    *,
    los: bool,
    chunk: int = _CHUNK,
) -> Iterator[tuple[NDArray[np.intp], Links]]:
    """The links at flat places `where`, some at a time."""
    config, nodes = deployment.config, deployment.config.num_nodes
    users = users_xy.reshape(-1, 2)
    lead = users_xy.shape[:-2]
    row_of = np.broadcast_to(np.arange(np.size(keys)).reshape(np.shape(keys)), lead).reshape(-1)
    ground = distances(config, users_xy, deployment.nodes_xy)[0]
    mean, shift = zenith_law(config, ground, los=los)
    per_link = {
        "k_factor": state.k_factor,
        "delay_spread_s": state.delay_spread_s,
        "azimuth_spread": np.deg2rad(state.azimuth_spread_deg),
        "zenith_spread": np.deg2rad(state.zenith_spread_deg),
        "zenith_rays": np.deg2rad(0.375 * 10.0**mean),
        "zenith_shift": np.deg2rad(shift),
    }
    per_link = {name: values.ravel() for name, values in per_link.items()}
    for rows in (where[i : i + chunk] for i in range(0, len(where), max(chunk, 1))):
        user, node = np.divmod(rows, nodes)
        xy = users[user]
        links = Links(
            batch=row_of[user // users_xy.shape[-2]],
            node=node,
            user_xy=xy,
            offset_xy=xy - deployment.nodes_xy[node],
            height_m=config.user_height_m - config.height_m,
            **{name: values[rows] for name, values in per_link.items()},
        )
        yield rows, links
