"""Worlds whose rates come from real beamformers over TR 38.901 channels, not from the cheap radio."""

from typing import Any

import numpy as np

from demo.bridge.csi import CsiError
from demo.bridge.radio_delay import RadioDelay
from policy.evaluation.traces import TraceSource, stretch
from policy.scenario import Scenario, World
from policy.world.trace import WorldState, generate
from radio import RadioConfig


def beamformed_world(
    scenario: Scenario,
    seed: int,
    *,
    source: TraceSource | None = None,
    csi: CsiError | None = None,
    **radio_settings: Any,  # noqa: ANN401
) -> World:
    """The scenario's world of a seed: the same motion and requests, with real beamformers for the rates.

    The radio takes nodes, users, area and bandwidth from the scenario, what `radio_settings` says of
    `radio.RadioConfig` (such as link="nr-256qam" or phase_std_deg=20), and everything else from its defaults.
    With `csi`, the nodes know the channels only up to an error, see `demo.bridge.csi`. With a `source`,
    motion and requests come from a file, see `policy.evaluation.traces`.
    """
    config = scenario.config
    hidden: tuple[WorldState, ...] = ()
    if source is None:
        trace, hidden = generate(np.random.default_rng(seed), config, scenario.families)
    else:
        trace = stretch(scenario, seed, source)
    radio = RadioConfig(
        num_nodes=config.num_nodes,
        num_users=config.num_users,
        area_m=config.area_m,
        bandwidth_hz=config.radio.bandwidth_hz,
        **radio_settings,
    )
    return scenario.world_of(trace, RadioDelay(radio, trace, seed, csi), hidden)
