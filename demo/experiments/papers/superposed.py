"""Two blocks on the air at once, each to its own users, beside one after the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from policy.scenario import Scenario
from radio import RadioConfig, draw_channel, draw_deployment, draw_users, superpose

BLOCK_BITS = 8 * 4e6
"""A block of 4 MB for each group."""
TURN, ONCE, BETTER = "in turn", "at once", "the better of both"


def times_of_two(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Time until both groups have their block.

    After PARTEL, which superposes parts of a model for different users where it pays. Interference is noise
    at the receiver; power limits are those of the nodes, shared unequally between the beams.

    Args:
        settings: `antennas` of a node, and `users` of each of the two groups.
        seed: Of positions and channels.

    Returns:
        `air_s` of each way, s.
    """
    users = int(settings["users"])
    config = RadioConfig(num_users=2 * users, num_antennas=int(settings["antennas"]))
    rng = np.random.default_rng(seed)
    h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)
    groups = [list(range(users)), list(range(users, 2 * users))]
    both = superpose(h, config.power_w, config.noise_w, groups)
    per = BLOCK_BITS / config.bandwidth_hz
    turn, once = per * both.in_turn_s_hz, per * both.time_s_hz
    return {TURN: {"air_s": turn}, ONCE: {"air_s": once}, BETTER: {"air_s": min(turn, once)}}
