"""Blocks on the air at once, each to its own users, beside one after the other."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from demo.bridge.beamformed import beamformed_world
from demo.experiments.papers.play import values_of
from policy.config import AirConfig
from policy.evaluation.episodes import Job, run_job
from policy.scenario import Scenario
from radio import RadioConfig, draw_channel, draw_deployment, draw_users, superpose

BLOCK_BITS = 8 * 4e6
"""A block of 4 MB for each group."""
TURN, ONCE, BETTER = "in turn", "at once", "the better of both"
AT_ONCE = {TURN: 1, "two at once": 2, "three at once": 3}
"""`air.superpose` of each way to serve the slots of a world."""


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


def chain_with(scenario: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, dict[str, float]]:
    """One scheme on one world of the real chain, with so many blocks on the air at once.

    Args:
        scenario: Pipelined, mean user delay.
        settings: `scheme`, as `pbcast evaluate` names it.
        seed: Of the world.

    Returns:
        Measures of each of `AT_ONCE`.
    """
    job = Job(world=seed, wanted=((settings["scheme"], 0),))
    values = {}
    for name, most in AT_ONCE.items():
        config = replace(scenario.config, air=AirConfig(superpose=most))
        result = run_job(Scenario(config, scenario.catalog), job, beamformed_world)[0]
        values[name] = values_of(result)
    return values
