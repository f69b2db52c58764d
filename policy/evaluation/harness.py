"""Play schemes on the same worlds and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from policy.evaluation.episodes import EpisodeResult, WorldMaker, draw_world
from policy.evaluation.load import Load, mean_load
from policy.evaluation.match import Match, Progress, play
from policy.evaluation.oracles import BOUNDS, HINDSIGHT_UPPER, bounds_for
from policy.evaluation.playable import check_playable
from policy.evaluation.results import scenario_digest
from policy.evaluation.sources import code_version
from policy.evaluation.statistics import Draws, Paired, bootstrap, iqm, iqm_interval, mean_interval, paired
from policy.interfaces import Float
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.strict_json import strict_json
from policy.world.looks import LOOKS, Look, check_unseen, past_looks, record_look, scheme_list
from policy.world.splits import Split, world_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeSummary:
    """One scheme over all worlds and seeds. Bytes, times and messages are means per slot."""

    mean_delay_s: float
    """What the scenario minimises, mean over slots, s: delay as its `objective` counts it; with additive
    timing plus the weighted time of updates."""
    mean_ci95: tuple[float, float]
    """Bootstrap interval of that mean."""
    iqm_delay_s: float
    """Interquartile mean of the same over worlds and seeds, s."""
    iqm_ci95: tuple[float, float]
    """Bootstrap interval of it."""
    user_delay_s: float
    """Mean over all requests, request to last missing block, s."""
    p95_delay_s: float
    """95th percentile of the same, s."""
    hit_ratio: float
    """Share of requests served without the cloud (TrimCaching's objective)."""
    migrated_bytes: float
    """Node to node, to serve requests."""
    cloud_bytes: float
    """From the cloud, to serve requests."""
    cache_update_bytes: float
    """To change the caches."""
    airtime_s: float
    """Time the band was busy."""
    decision_ms: float
    """Time to decide."""
    message_bytes: float
    """Between nodes, to decide."""
    seeds: int
    """Seeds played; 1 for a scheme that draws nothing."""
    max_delay_s: float | None = None
    """Longest delay of a request, s; None in files of versions that did not measure it."""
    in_time: float | None = None
    """Share of requests served within the scenario's deadline; None as above."""
    load: Load | None = None
    """How busy band and links were, mean over episodes; None as above."""
    lost_ratio: float | None = None
    """Share of broadcasts lost at first, mean over episodes; None where the radio loses none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The outcome of `evaluate`."""

    settings: Mapping[str, Any]
    """Scenario, catalog, split, worlds, seeds, and the digest of each scheme's code."""
    schemes: Mapping[str, SchemeSummary]
    """Each scheme by name."""
    paired: Mapping[str, Paired]
    """`a|b`: how much lower a is than b, on the same worlds."""
    bounds: Mapping[str, float | None]
    """Mean cost of the oracles and the hindsight bracket, s; None where there is none. `worlds`: how many."""
    on_bound_worlds: Mapping[str, float]
    """Mean cost of each scheme on the worlds of the bounds, s."""
    costs: Mapping[str, Float]
    """Mean cost of a slot of each scheme, (worlds, seeds), s; not in the JSON."""

    def __repr__(self) -> str:
        best = min(self.schemes, key=lambda name: self.schemes[name].mean_delay_s, default=None)
        least = "" if best is None else f", least {self.schemes[best].mean_delay_s:.3f} s per slot ({best})"
        name = dict(self.settings.get("scenario") or {}).get("name")
        played = f"{self.settings.get('worlds')} worlds of {name!r}"
        return f"Evaluation({len(self.schemes)} schemes on {played}{least})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "settings": dict(self.settings),
            "schemes": {name: asdict(row) for name, row in self.schemes.items()},
            "paired": {name: asdict(row) for name, row in self.paired.items()},
            "bounds": dict(self.bounds),
            "on_bound_worlds": dict(self.on_bound_worlds),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Evaluation":
        """What `to_dict` gave; `costs` are not in it, so there are none."""
        schemes = {name: _read_summary(row) for name, row in data["schemes"].items()}
        pairs = {name: Paired(**_tuples(row)) for name, row in data["paired"].items()}
        return cls(
            settings=data["settings"],
            schemes=schemes,
            paired=pairs,
            bounds=data["bounds"],
            on_bound_worlds=data["on_bound_worlds"],
            costs={},
        )

    def to_json(self) -> str:
        """The JSON document of `pbcast evaluate --json`."""
        return strict_json(self.to_dict())


def _read_summary(row: Mapping[str, Any]) -> SchemeSummary:
    load = row.get("load")
    return SchemeSummary(**{**_tuples(row), "load": None if load is None else Load(**load)})


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals, which are lists in JSON, as tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def evaluate(
    scenario: Scenario | str | Path,
    schemes: Sequence[str | SchemeEntry],
    worlds: int = 16,
    seeds: int = 1,
    *,
    split: Split = "validation",
    first_world: int = 0,
    bound_worlds: int = 16,
    workers: int = 1,
    ray: bool = False,
    folder: Path | None = None,
    make_world: WorldMaker = draw_world,
    progress: Progress | None = None,
    boot_seed: int = 0,
    seen: bool = False,
    looks: Path = LOOKS,
) -> Evaluation:
    """Play every scheme on the same worlds, compare them pair by pair, and say how much is left.

    Args:
        scenario: The problem, or the name or file of one.
        schemes: Names as `policy.schemes.find_scheme` takes them, or entries of one's own.
        worlds: How many worlds.
        seeds: Seeds per world for schemes that draw; others are played once.
        split: Which worlds; `held-out` is for results that are played once, and its looks are on record.
        first_world: Number of the first world in the split.
        bound_worlds: Bounds are computed on so many of the worlds at most; 0: none.
        workers: Processes.
        ray: Run on Ray instead of local processes.
        folder: Finished episodes are kept and found here under the hash of all that they depend on (scenario,
            catalog, weights, and the code that they run through, `make_world`'s included); None: nowhere.
        make_world: Another way to make worlds, for instance with real beamformers. A function at the top of a
            module; nothing is kept of worlds that others make (lambdas, partials, methods), for nothing names
            what they carry with them. Files that it reads are not seen: put what matters into the scenario.
        progress: Called after each world.
        boot_seed: Seed of the bootstrap.
        seen: Whether `held-out` worlds may have been looked at before: the result is then not a held-out one.
        looks: The record of looks, see `policy.world.looks`.

    Raises:
        SchemeError: If a scheme is not known or cannot run on the scenario.
        ValueError: If a number is out of range, or `held-out` worlds were looked at and `seen` is not said.
    """
    problem = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    entries = _entries(schemes)
    names = list(entries)
    _check(problem, entries, worlds, seeds, workers, bound_worlds)
    digest = scenario_digest(problem)
    if not seen:
        check_unseen(split, first_world, worlds, digest, looks)
    past = past_looks(split, first_world, worlds, digest, looks)
    own = {entry.name: entry for entry in schemes if isinstance(entry, SchemeEntry)}
    ids = [world_seed(split, first_world + i) for i in range(worlds)]
    bounds = bounds_for(problem) if bound_worlds else ()
    turns = {name: range(seeds if entry.random else 1) for name, entry in entries.items()}
    played = [(name, seed) for name in names for seed in turns[name]]
    wanted = {world: (*played, *((b, 0) for b in bounds if i < bound_worlds)) for i, world in enumerate(ids)}
    match = Match(problem, wanted, make_world, folder, own)
    play([match], workers, ray, progress)
    done = match.done
    episodes = {n: [[done[(n, w, s)] for s in turns[n]] for w in ids] for n in names}
    limits = {b: [done[(b, w, 0)].cost_s for w in ids[:bound_worlds]] for b in bounds}
    settings = {
        "scenario": problem.config.to_dict(),
        "catalog": {
            "models": problem.catalog.num_models,
            "blocks": problem.catalog.num_blocks,
            "dedup_bytes": problem.catalog.dedup_bytes,
            "sharing": problem.catalog.sharing,
        },
        "capacity_bytes": problem.capacity_bytes.tolist(),
        "split": split,
        "first_world": first_world,
        "worlds": worlds,
        "seeds": seeds,
        "looked_at_before": len(past),
        "scenario_sha256": digest,
        "code_sha256": {name: code_version(own.get(name, name)) for name in names},
        "make_world_sha256": match.maker,
        "bootstrap_seed": boot_seed,
    }
    if split == "held-out":
        look = Look(
            split=split,
            first_world=first_world,
            worlds=worlds,
            scenario=problem.config.name,
            scenario_sha256=digest,
            when=datetime.now(UTC).date().isoformat(),
            what=scheme_list(names),
        )
        record_look(look, looks)
    return compare(episodes, limits, settings, np.random.default_rng(boot_seed))


def compare(
    episodes: Mapping[str, Sequence[Sequence[EpisodeResult]]],
    limits: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> Evaluation:
    """Statistics of finished episodes.

    Args:
        episodes: Episodes of each scheme, (worlds, seeds).
        limits: Cost of each bound in the first worlds.
        settings: Goes into the result as it is.
        rng: Source of the bootstrap.
    """
    costs = {name: np.array([[r.cost_s for r in row] for row in rows]) for name, rows in episodes.items()}
    worlds = len(next(iter(costs.values())))
    draws = {count: bootstrap(rng, worlds, count) for count in sorted({c.shape[1] for c in costs.values()})}
    pairs = {
        f"{a}|{b}": paired(costs[a], costs[b], draws[max(costs[a].shape[1], costs[b].shape[1])])
        for a in costs
        for b in costs
        if a != b
    }
    bounded = len(next(iter(limits.values()), ()))
    if HINDSIGHT_UPPER in limits:  # what any scheme did in a world could have been done in hindsight
        played = np.min([cost[:bounded].min(axis=1) for cost in costs.values()], axis=0)
        limits = {**limits, HINDSIGHT_UPPER: np.minimum(limits[HINDSIGHT_UPPER], played).tolist()}
    return Evaluation(
        settings=settings,
        schemes={n: _summary(episodes[n], costs[n], draws[costs[n].shape[1]]) for n in costs},
        paired=pairs,
        bounds={
            **{key: _mean_or_none(limits.get(name)) for name, key in BOUNDS.items()},
            "worlds": bounded,
        },
        on_bound_worlds={n: float(c[:bounded].mean()) for n, c in costs.items()} if bounded else {},
        costs=costs,
    )


def _mean_or_none(values: Sequence[float] | None) -> float | None:
    if values is None or not np.isfinite(values).all():
        return None
    return float(np.mean(values))


def _summary(rows: Sequence[Sequence[EpisodeResult]], costs: Float, draws: Draws) -> SchemeSummary:
    flat = [result for row in rows for result in row]
    delays = np.concatenate([result.user_delay_s for result in flat])
    slots = sum(result.slots for result in flat)
    lost = [result.lost_ratio for result in flat if result.lost_ratio is not None]

    def a_slot(field: str) -> float:
        return float(sum(getattr(result, field) for result in flat)) / slots

    return SchemeSummary(
        mean_delay_s=float(costs.mean()),
        mean_ci95=mean_interval(costs, draws),
        iqm_delay_s=iqm(costs),
        iqm_ci95=iqm_interval(costs, draws),
        user_delay_s=float(delays.mean()) if delays.size else 0.0,
        p95_delay_s=float(np.quantile(delays, 0.95)) if delays.size else 0.0,
        hit_ratio=sum(result.hits for result in flat) / max(delays.size, 1),
        migrated_bytes=a_slot("migrated_bytes"),
        cloud_bytes=a_slot("cloud_bytes"),
        cache_update_bytes=a_slot("update_bytes"),
        airtime_s=a_slot("airtime_s"),
        decision_ms=1e3 * a_slot("decision_s"),
        message_bytes=a_slot("message_bytes"),
        seeds=len(rows[0]),
        max_delay_s=float(delays.max(initial=0.0)),
        in_time=sum(result.in_time for result in flat) / max(delays.size, 1),
        load=mean_load([result.load for result in flat if result.load is not None]),
        lost_ratio=float(np.mean(lost)) if lost else None,
    )


def _entries(schemes: Sequence[str | SchemeEntry]) -> dict[str, SchemeEntry]:
    """Each scheme by its name, in order; an entry under a name that is taken is refused."""
    entries: dict[str, SchemeEntry] = {}
    for scheme in schemes:
        entry = scheme if isinstance(scheme, SchemeEntry) else find_scheme(scheme)
        if entry.name in entries and isinstance(scheme, SchemeEntry):
            raise ValueError(f"two schemes are called {entry.name!r}")
        entries[entry.name] = entry
    return entries


def _check(
    scenario: Scenario,
    entries: Mapping[str, SchemeEntry],
    worlds: int,
    seeds: int,
    workers: int,
    bound_worlds: int,
) -> None:
    """Refuse what cannot run before anything runs."""
    for label, value, least in (("worlds", worlds, 1), ("seeds", seeds, 1), ("workers", workers, 1)):
        if value < least:
            raise ValueError(f"{label} must be >= {least}, got {value}")
    if bound_worlds < 0:
        raise ValueError(f"bound_worlds must be >= 0, got {bound_worlds}")
    if not entries:
        raise ValueError("name at least one scheme")
    for entry in entries.values():
        check_playable(scenario, entry)
