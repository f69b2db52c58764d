"""Every scheme of a run over the same worlds, with the rates of real beamformers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from demo.bridge.radio_delay import RadioDelay
from demo.bridge.store_catalog import StoreCatalog
from demo.jobs.config import Form, RunConfig, parts_of_row
from demo.jobs.report import SchemeReport, versions
from demo.zoo.progress import Step as Progress
from policy.bounds import unlimited_costs
from policy.evaluation.closure import closure_of
from policy.evaluation.load import Load, load_of_episode, mean_load
from policy.evaluation.results import scenario_digest
from policy.evaluation.sources import code_version
from policy.evaluation.traces import account, replayed, stretch
from policy.interfaces import BlockCatalog
from policy.kept import KeptRows
from policy.parallel import spread
from policy.play.rollout import Step, play
from policy.scenario import Scenario, World
from policy.schemes import Observation, Placement, SchemeEntry, find_scheme
from policy.world.forms import always_alone
from policy.world.trace import generate

WORLDS_OF_A_SEED = 10_000
"""Numbers of worlds between two seeds of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldResult:
    """One scheme on one world."""

    mean_delay_s: float
    p95_delay_s: float
    airtime_s: float
    migrated_bytes: int
    cloud_bytes: int
    cache_update_bytes: int
    hit_ratio: float
    lost_ratio: float
    worst_gap: float
    load: Load


def make_world(config: RunConfig, offer: StoreCatalog, number: int = 0, form: Form = "chosen") -> World:
    """Draw one of the worlds of the run's seed, or cut it from the trace.

    Args:
        config: Settings of the run.
        offer: What the store holds.
        number: Which of the run's worlds.
        form: In which forms blocks are kept and sent; requests and places are the same in all.

    Raises:
        ValueError: If a trace ends before that world.
    """
    scenario = Scenario(config.scenario_on(offer.catalog), offer.catalog)
    seed = world_seed(config, number)
    if config.trace is None:
        trace, hidden = generate(np.random.default_rng(seed), scenario.config, scenario.families)
    else:
        about = account(replayed(scenario, config.trace), config.num_slots)
        if number >= about["worlds"]:
            raise ValueError(
                f"{config.trace.path} has {about['slots']} slots, which are {about['worlds']} worlds of "
                f"{config.num_slots}; {config.worlds} were asked for (--worlds, --slots)"
            )
        trace, hidden = stretch(scenario, number, config.trace), ()
    if form != "chosen":
        settings = replace(scenario.config, capacity_bytes=tuple(scenario.capacity_bytes.tolist()))
        scenario = Scenario(settings, _in_form(offer.catalog, form))
    return scenario.world_of(trace, _delay(config, trace, seed), hidden)


def _in_form(catalog: BlockCatalog, form: Form) -> BlockCatalog:
    return always_alone(catalog) if form == "raw" else replace(catalog, forms=None)


def world_seed(config: RunConfig, number: int) -> int:
    """Seed of one of a run's worlds."""
    return config.seed * WORLDS_OF_A_SEED + number


def _delay(config: RunConfig, trace: Any, seed: int) -> RadioDelay:  # noqa: ANN401 - a trace
    return RadioDelay(config.radio, trace, seed, config.csi)


def simulate(
    config: RunConfig,
    offer: StoreCatalog,
    rows: Sequence[str],
    folder: Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, SchemeReport]:
    """Play the rows of the table on all worlds, or read what an earlier run with the same settings found.

    Args:
        config: Settings of the run.
        offer: What the store holds.
        rows: Schemes and forms, as the report names them.
        folder: Where results are kept between runs.
        workers: Processes; the results do not depend on it.
        progress: Called with plays done and plays in all.
    """
    items = [(row, number) for row in rows for number in range(config.worlds)]
    results: dict[tuple[str, int], WorldResult] = {}
    for item, result in spread(partial(_play_one, config, offer, folder), items, workers):
        results[item] = result
        if progress is not None:
            progress(len(results), len(items))
    return {row: _over_worlds([results[row, number] for number in range(config.worlds)]) for row in rows}


def least_delay_s(config: RunConfig, offer: StoreCatalog) -> float:
    """Mean delay that no scheme can beat, s: every block is at every node, in its smaller form."""
    total, asked = 0.0, 0
    for number in range(config.worlds):
        world = make_world(config, offer, number)
        counts = np.array([world.asked(slot).sum() for slot in range(world.trace.num_slots)])
        total += float(unlimited_costs(world) @ counts)
        asked += int(counts.sum())
    return total / max(asked, 1)


def _play_one(
    config: RunConfig, offer: StoreCatalog, folder: Path, item: tuple[str, int]
) -> tuple[tuple[str, int], WorldResult]:
    row, number = item
    name, form = parts_of_row(row)
    world = make_world(config, offer, number, form)
    kept = KeptRows(folder, f"{row}-{number}", _made_by(config, world, name, number))
    known = next(iter(kept), None)
    if known is None:
        steps, delay = play_scheme(config, world, name, number)
        known = asdict(summarise(list(steps), delay, world.scenario.config.slot_s))
        kept.append(known)
    return item, WorldResult(**{**known, "load": Load(**known["load"])})


def play_scheme(
    config: RunConfig,
    world: World,
    name: str,
    number: int = 0,
    listener: Callable[[Placement], None] | None = None,
) -> tuple[Iterator[Step], RadioDelay]:
    """The slots of one scheme, one after another, each with its placement and outcome; and their radio.

    The radio is a fresh one: what it answers to the last bit depends on what it was asked before, so sharing
    one between schemes would make a resumed run differ from an uninterrupted one.

    Args:
        config: Settings of the run.
        world: The world.
        name: Scheme of the registry.
        number: Which of the run's worlds it is.
        listener: Called with each decision, as the scheme took it.
    """
    delay = _delay(config, world.trace, world_seed(config, number))
    own = world.scenario.world_of(world.trace, delay, world.hidden)
    entry = find_scheme(name) if listener is None else overheard(find_scheme(name), listener)
    return play(own, entry, np.random.default_rng([config.seed, 2, number])), delay


def overheard(entry: SchemeEntry, listener: Callable[[Placement], None]) -> SchemeEntry:
    """The same scheme, whose decisions somebody hears."""

    class Overheard:
        def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
            self._scheme = entry.start(scenario, rng)

        def decide(self, observation: Observation) -> Placement:
            decided = self._scheme.decide(observation)
            listener(decided)
            return decided

    return replace(entry, start=Overheard)


def summarise(steps: list[Step], delay: RadioDelay, slot_s: float) -> WorldResult:
    """Delays over all requests, bytes, airtime and load over all slots."""
    outcomes = [step.outcome for step in steps]
    delays = np.concatenate([outcome.user_delay_s[outcome.asked] for outcome in outcomes])
    hits = np.concatenate([outcome.edge_hit[outcome.asked] for outcome in outcomes])
    if not delays.size:
        raise ValueError("nobody asked for anything in these slots: nothing to measure")
    casts = [(outcome.slot, cast) for outcome in outcomes for cast in outcome.broadcasts]
    return WorldResult(
        mean_delay_s=float(delays.mean()),
        p95_delay_s=float(np.quantile(delays, 0.95)),
        airtime_s=sum(outcome.airtime_s for outcome in outcomes),
        migrated_bytes=sum(outcome.migrated_bytes for outcome in outcomes),
        cloud_bytes=sum(outcome.cloud_bytes for outcome in outcomes),
        cache_update_bytes=sum(outcome.cache_update_bytes for outcome in outcomes),
        hit_ratio=float(hits.mean()),
        lost_ratio=float(np.mean([delay.lost(slot, cast.holders, cast.users) for slot, cast in casts]))
        if casts
        else 0.0,
        worst_gap=delay.worst_gap,
        load=load_of_episode(outcomes, slot_s),
    )


def _over_worlds(results: Sequence[WorldResult]) -> SchemeReport:
    """Means over worlds; the gap is the largest."""

    def mean(field: str) -> float:
        return float(np.mean([getattr(result, field) for result in results]))

    return SchemeReport(
        mean_delay_s=mean("mean_delay_s"),
        p95_delay_s=mean("p95_delay_s"),
        airtime_s=mean("airtime_s"),
        migrated_bytes=round(mean("migrated_bytes")),
        cloud_bytes=round(mean("cloud_bytes")),
        cache_update_bytes=round(mean("cache_update_bytes")),
        hit_ratio=mean("hit_ratio"),
        worst_gap=max(result.worst_gap for result in results),
        lost_ratio=mean("lost_ratio"),
        world_delays_s=tuple(result.mean_delay_s for result in results),
        load=mean_load([result.load for result in results]),
    )


def _made_by(config: RunConfig, world: World, name: str, number: int) -> dict[str, Any]:
    """All that a scheme's result depends on: settings, world, catalog, weights and code."""
    return {
        "scheme": name,
        "code": code_version(name),
        "own_code": _own_code(),
        "trace": world.trace.digest,
        "scenario": scenario_digest(world.scenario),
        "radio": asdict(config.radio),
        "csi": asdict(config.csi),
        "seed": world_seed(config, number),
        "versions": versions(),
    }


@cache
def _own_code() -> str:
    """Hash of all that this module runs through."""
    return closure_of(["demo.jobs.simulate"]).digest
