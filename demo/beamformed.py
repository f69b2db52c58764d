"""Worlds whose rates come from real beamformers over TR 38.901 channels, not from the cheap radio."""

from typing import Any

import numpy as np

from demo.adapters import RadioDelay
from policy.scenario import Scenario, World
from policy.trace import generate
from radio import RadioConfig


def beamformed_world(scenario: Scenario, seed: int, **radio_settings: Any) -> World:  # noqa: ANN401
    """The scenario's world of a seed: the same motion and requests, with real beamformers for the rates.

    The radio takes nodes, users, area and bandwidth from the scenario, what `radio_settings` says of
    `radio.RadioConfig` (such as link="nr-256qam" or phase_std_deg=20), and everything else from its defaults.
    """
    config = scenario.config
    trace, hidden = generate(np.random.default_rng(seed), config, scenario.families)
    radio = RadioConfig(
        num_nodes=config.num_nodes,
        num_users=config.num_users,
        area_m=config.area_m,
        bandwidth_hz=config.radio.bandwidth_hz,
        **radio_settings,
    )
    return scenario.world_of(trace, RadioDelay(radio, trace, seed), hidden)
