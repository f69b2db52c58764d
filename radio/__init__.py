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
    from_deepmimo,
    from_sionna,
    from_sionna_paths,
    grid_nodes,
    load_channel,
    pilot_error_std,
    receive_antennas,
    save_channel,
)
from radio.config import RadioConfig
from radio.errors import BadInputError, ChannelFileError, RadioError, SolverFailedError
from radio.fast.effort import DEFAULT_EFFORT, QUICK_EFFORT, WIDE_EFFORT, Effort, SoftStage, Stage
from radio.grid import GridResult, solve_grid
from radio.groups import GroupPlan, plan_groups
from radio.nr import NrLink, num_resource_blocks, rate_bit_s
from radio.receive import ReceiveResult, combined_channel, solve_receive
from radio.result import BroadcastResult
from radio.snr import broadcast_snr, rate_bit_s_hz, single_user_snr
from radio.solve import solve_broadcast
from radio.subbands import SubbandResult, solve_subbands
from radio.superpose import Superposition, superpose
from radio.sync import draw_phases, expected_snr, node_coherence
from radio.together import Together, solve_together

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
    "GridResult",
    "GroupPlan",
    "NrLink",
    "RadioConfig",
    "RadioError",
    "ReceiveResult",
    "SoftStage",
    "SolverFailedError",
    "Stage",
    "SubbandResult",
    "Superposition",
    "Together",
    "airtime_s",
    "broadcast_snr",
    "combined_channel",
    "draw_channel",
    "draw_deployment",
    "draw_iid",
    "draw_phases",
    "draw_users",
    "estimate_csi",
    "expected_snr",
    "from_deepmimo",
    "from_sionna",
    "from_sionna_paths",
    "grid_nodes",
    "load_channel",
    "node_coherence",
    "num_resource_blocks",
    "pilot_error_std",
    "plan_groups",
    "rate_bit_s",
    "rate_bit_s_hz",
    "receive_antennas",
    "save_channel",
    "single_user_snr",
    "solve_baseline",
    "solve_broadcast",
    "solve_grid",
    "solve_receive",
    "solve_subbands",
    "solve_together",
    "superpose",
]
