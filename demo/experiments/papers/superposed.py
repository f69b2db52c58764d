"""Blocks on the air at once in the real chain, each to users of its own, beside one after the other."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from demo.bridge.beamformed import beamformed_world
from demo.experiments.papers.play import values_of
from policy.config import AirConfig
from policy.evaluation.episodes import Job, run_job
from policy.scenario import Scenario

AT_ONCE = {"in turn": 1, "two at once": 2, "three at once": 3}
"""`air.superpose` of each way to serve the slots of a world."""


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
