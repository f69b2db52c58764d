"""Our search for a placement beside particle swarms that judge placements by the same clock."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from demo.bridge.beamformed import beamformed_world
from demo.experiments.papers.description import Experiment, Point, Values
from demo.experiments.papers.network import BASE, COLD, ORIGIN
from policy.evaluation.results import scenario_digest
from policy.play.rollout import rollout
from policy.play.scheme import Observation, Placement, Scheme
from policy.scenario import Scenario, World
from policy.schemes import find_scheme

SWARM, OURS, GUARDED, ADDITIVE = "m-pso-clock", "ours, the search alone", "learned", "m-pso, additive costs"
STILL = {
    OURS: "planner-clock:guard=0;demand=1;clock=1;decisions=1",
    GUARDED: "learned",
    ADDITIVE: "m-pso",
}
"""What the effort of the swarms does not touch."""
PLAYS = ("m-pso-clock", *STILL.values())
PARTICLES = 30
"""Placements that a round of three swarms of ten tries."""
_DONE: dict[tuple[str, int, str], Values] = {}
"""By scenario, world and scheme: points of one world come one after another."""


class Timed:
    """A scheme whose decisions are timed by the processor's clock."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme, self.spent_s = scheme, list[float]()

    def decide(self, observation: Observation) -> Placement:
        """What the scheme decides."""
        began = time.process_time()
        decided = self._scheme.decide(observation)
        self.spent_s.append(time.process_time() - began)
        return decided


def swarm_effort(scenario: Scenario, settings: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """Play one world by the swarms with so many rounds, and by what their effort does not touch.

    Args:
        scenario: On the real chain.
        settings: `tries`, the placements that the swarms may try in a slot.
        seed: Of the world, and of all that draws.

    Returns:
        By curve `delay_s`, and `decide_ms`, the median CPU time of a decision.
    """
    rounds = int(settings["tries"]) // PARTICLES - 1
    names = {SWARM: f"m-pso-clock:rounds={rounds}", **STILL}
    keys = {curve: (scenario_digest(scenario), seed, name) for curve, name in names.items()}
    if any(key not in _DONE for key in keys.values()):
        world = beamformed_world(scenario, seed)
        _DONE.update({key: _played(world, key[2], seed) for key in keys.values() if key not in _DONE})
    return {curve: _DONE[key] for curve, key in keys.items()}


def _played(world: World, name: str, seed: int) -> Values:
    entry, timed = find_scheme(name), list[Timed]()

    def start(scenario: Scenario, rng: np.random.Generator) -> Scheme:
        timed.append(Timed(entry.start(scenario, rng)))
        return timed[0]

    episode = rollout(world, replace(entry, start=start), np.random.default_rng([seed, crc32(name.encode())]))
    return {"delay_s": episode.mean_cost_s, "decide_ms": 1e3 * float(np.median(timed[0].spent_s))}


SWARMS = Experiment(
    name="swarm",
    question="What is our search for a placement worth beside particle swarms, at equal CPU time and above?",
    paper=f"M-PSO, compared with in {ORIGIN}",
    axis="placements that the swarms try in a slot",
    points=(
        *(Point(x=tries, settings={"tries": tries}, plays=PLAYS) for tries in (30, 60, 120, 480)),
        Point(x=1920, settings={"tries": 1920}, plays=PLAYS, most_worlds=4),
    ),
    schemes=(SWARM, *STILL),
    references=(OURS,),
    scenario=BASE,
    measures=("delay_s", "decide_ms"),
    log_x=True,
    log_y=True,
    note=f"{COLD} Swarms and ours have the same trained forecast, sampled slots, clock and limits of the "
    "links; only the search differs. `learned` adds its rival. `m-pso` is the older one, on tables in which "
    "costs add up over blocks. CPU times are medians over slots on the machine that played: played again, "
    "they differ.",
    player=swarm_effort,
)
