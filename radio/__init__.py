"""CoMP broadcast beamforming: from geometry to a certified delay."""

from radio.airtime import airtime_s
from radio.baselines import BASELINES, Baseline, solve_baseline
from radio.channel import (
    ChannelFile,
    CsiEstimate,
    draw_channel,
    draw_deployment,
    draw_iid,
    draw_users,
    estimate_csi,
    grid_nodes,
    load_channel,
    pilot_error_std,
    save_channel,
)
from radio.config import RadioConfig
from radio.errors import BadInputError, ChannelFileError, RadioError, SolverFailedError
from radio.fast.effort import DEFAULT_EFFORT, QUICK_EFFORT, WIDE_EFFORT, Effort, SoftStage, Stage
from radio.groups import GroupPlan, plan_groups
from radio.nr import NrLink, num_resource_blocks, rate_bit_s
from radio.result import BroadcastResult
from radio.snr import broadcast_snr, rate_bit_s_hz, single_user_snr
from radio.solve import solve_broadcast
from radio.subbands import SubbandResult, solve_subbands
from radio.superpose import Superposition, superpose
from radio.sync import draw_phases, expected_snr, node_coherence

__all__ = [
    "BASELINES",
    "DEFAULT_EFFORT",
    "QUICK_EFFORT",
    "WIDE_EFFORT",
    "BadInputError",
    "Baseline",
    "BroadcastResult",
    "ChannelFile",
    "ChannelFileError",
    "CsiEstimate",
    "Effort",
    "GroupPlan",
    "NrLink",
    "RadioConfig",
    "RadioError",
    "SoftStage",
    "SolverFailedError",
    "Stage",
    "SubbandResult",
    "Superposition",
    "airtime_s",
    "broadcast_snr",
    "draw_channel",
    "draw_deployment",
    "draw_iid",
    "draw_phases",
    "draw_users",
    "estimate_csi",
    "expected_snr",
    "grid_nodes",
    "load_channel",
    "node_coherence",
    "num_resource_blocks",
    "pilot_error_std",
    "plan_groups",
    "rate_bit_s",
    "rate_bit_s_hz",
    "save_channel",
    "single_user_snr",
    "solve_baseline",
    "solve_broadcast",
    "solve_subbands",
    "superpose",
]
