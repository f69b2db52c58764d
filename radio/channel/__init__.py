"""From positions to CSI: geometry, path loss, shadowing, fading. Pure functions of what they are given."""

from radio.channel.csi import CsiEstimate, error_radius, estimate_csi, pilot_error_std, sample_ball
from radio.channel.fading import (
    ClusterFading,
    Fading,
    RicianFading,
    channel,
    draw_channel,
    draw_fading,
    draw_iid,
)
from radio.channel.files import ChannelFile, load_channel, save_channel
from radio.channel.foreign import from_deepmimo, from_sionna, from_sionna_paths
from radio.channel.geometry import array_response, distances, draw_users, grid_nodes, receive_antennas
from radio.channel.large_scale import Deployment, LargeScale, LinkState, draw_deployment, large_scale
from radio.channel.pathloss import los_probability, path_loss_db

__all__ = [
    "ChannelFile",
    "ClusterFading",
    "CsiEstimate",
    "Deployment",
    "Fading",
    "LargeScale",
    "LinkState",
    "RicianFading",
    "array_response",
    "channel",
    "distances",
    "draw_channel",
    "draw_deployment",
    "draw_fading",
    "draw_iid",
    "draw_users",
    "error_radius",
    "estimate_csi",
    "from_deepmimo",
    "from_sionna",
    "from_sionna_paths",
    "grid_nodes",
    "large_scale",
    "load_channel",
    "los_probability",
    "path_loss_db",
    "pilot_error_std",
    "receive_antennas",
    "sample_ball",
    "save_channel",
]
