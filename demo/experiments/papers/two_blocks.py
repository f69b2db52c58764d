"""Two blocks, each for users of its own: one after the other, at once, or beside one another in the band."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from policy.scenario import Scenario
from radio import (
    DEFAULT_EFFORT,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_users,
    rate_bit_s_hz,
    solve_broadcast,
    superpose,
)

BLOCK_BITS = 8 * 4e6
"""A block of 4 MB for each group."""
TURN, BESIDE, ONCE, BETTER = "in turn", "subbands", "at once", "the better of turn and once"
SHARES = np.arange(1, 100) / 100
"""Shares of band and power that the first block is offered."""


def times_of_two(_: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """Time until both groups have their block.

    After PARTEL, which gives parts of a model unequal power and superposes parts for different users, or puts
    them on subbands. At once: interference is noise at the receiver, and power limits are those of the nodes,
    shared unequally between the beams. Subbands: see `beside_s_hz`.

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
    masks = np.kron(np.eye(2, dtype=bool), np.ones(users, dtype=bool))
    alone = solve_broadcast(h, config.power_w, config.noise_w, users=masks, effort=DEFAULT_EFFORT)
    per = BLOCK_BITS / config.bandwidth_hz
    turn, once = per * both.in_turn_s_hz, per * both.time_s_hz
    beside = per * beside_s_hz(*alone.min_snr.tolist())
    times = {TURN: turn, BESIDE: beside, ONCE: once, BETTER: min(turn, once)}
    return {way: {"air_s": spent} for way, spent in times.items()}


def beside_s_hz(one: float, other: float) -> float:
    """Time until both blocks are sent, each on its share of a flat band, with its share of all nodes' power.

    Shares of band and power are chosen together, to the per cent. With the power spread evenly over the band
    (each gets the same share of both) it is the time of one after the other; so it is never more.

    Args:
        one: SNR of the weakest user of the first block with all of band and power, linear.
        other: Of the second block.

    Returns:
        The later of the two ends, in seconds for one bit a hertz.
    """
    rates = rate_bit_s_hz(np.array([one, other]))
    even = 1.0 / rates[0] / (1.0 / rates).sum()
    band = np.append(SHARES, even)[:, None]
    power = np.append(SHARES, even)
    first = band * rate_bit_s_hz(power / band * one)
    second = (1.0 - band) * rate_bit_s_hz((1.0 - power) / (1.0 - band) * other)
    return float((1.0 / np.minimum(first, second)).min())
