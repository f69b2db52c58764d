"""Every scheme of a run over the same world, with the rates of real beamformers."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from demo.bridge.radio_delay import RadioDelay
from demo.bridge.store_catalog import StoreCatalog
from demo.jobs.config import RunConfig
from demo.jobs.report import SchemeReport, versions
from policy.evaluation.closure import closure_of
from policy.evaluation.results import scenario_digest
from policy.evaluation.sources import code_version
from policy.kept import KeptRows
from policy.play.rollout import Step, play
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.world.trace import generate


def make_world(config: RunConfig, offer: StoreCatalog) -> World:
    """Draw the trace of the run's seed; the radio is made anew for every scheme, see `play_scheme`."""
    scenario = Scenario(config.scenario(offer.catalog), offer.catalog)
    trace, hidden = generate(np.random.default_rng(config.seed), scenario.config, scenario.families)
    return scenario.world_of(trace, RadioDelay(config.radio, trace, config.seed), hidden)


def simulate(config: RunConfig, world: World, name: str, folder: Path) -> SchemeReport:
    """Play one scheme through the world, or read what an earlier run with the same settings found.

    Args:
        config: Settings of the run.
        world: The world.
        name: Scheme, as the report names it.
        folder: Where results are kept between runs.
    """
    kept = KeptRows(folder, name, _made_by(config, world, name))
    for row in kept:
        return SchemeReport(**row)
    delay = RadioDelay(config.radio, world.trace, config.seed)
    report = summarise(list(play_scheme(config, world, name, delay)), delay.worst_gap)
    kept.append(asdict(report))
    return report


def play_scheme(config: RunConfig, world: World, name: str, delay: RadioDelay) -> Iterator[Step]:
    """The slots of one scheme, one after another, each with its placement and outcome.

    Args:
        config: Settings of the run.
        world: The world.
        name: Scheme, as the report names it.
        delay: A fresh radio: what it answers to the last bit depends on what it was asked before, so sharing
            one between schemes would make a resumed run differ from an uninterrupted one.
    """
    own = world.scenario.world_of(world.trace, delay, world.hidden)
    return play(own, find_scheme(name), np.random.default_rng([config.seed, 2]))


def summarise(steps: list[Step], worst_gap: float) -> SchemeReport:
    """Delays over all requests, bytes and airtime over all slots."""
    outcomes = [step.outcome for step in steps]
    delays = np.concatenate([outcome.user_delay_s[outcome.asked] for outcome in outcomes])
    hits = np.concatenate([outcome.edge_hit[outcome.asked] for outcome in outcomes])
    return SchemeReport(
        mean_delay_s=float(delays.mean()),
        p95_delay_s=float(np.quantile(delays, 0.95)),
        airtime_s=sum(outcome.airtime_s for outcome in outcomes),
        migrated_bytes=sum(outcome.migrated_bytes for outcome in outcomes),
        cloud_bytes=sum(outcome.cloud_bytes for outcome in outcomes),
        cache_update_bytes=sum(outcome.cache_update_bytes for outcome in outcomes),
        hit_ratio=float(hits.mean()),
        worst_gap=worst_gap,
    )


def _made_by(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """All that a scheme's result depends on: settings, world, catalog, weights and code."""
    return {
        "scheme": name,
        "code": code_version(name),
        "own_code": _own_code(),
        "trace": world.trace.digest,
        "scenario": scenario_digest(world.scenario),
        "radio": asdict(config.radio),
        "seed": config.seed,
        "versions": versions(),
    }


@cache
def _own_code() -> str:
    """Hash of all that this module runs through."""
    return closure_of(["demo.jobs.simulate"]).digest
