"""Play an experiment: what is missing of every point, world by world, in one pool of processes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demo.experiments.papers.catalogs import catalog_of
from demo.experiments.papers.description import Cell, Experiment, Player, Point, curve_of
from policy.config import config_from_dict
from policy.evaluation import EpisodeResult, Match, Progress, check_playable, play
from policy.evaluation.closure import function_digest
from policy.evaluation.results import scenario_digest
from policy.evaluation.sources import code_version
from policy.kept import KeptRows
from policy.parallel import spread
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.splits import Split, world_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of an experiment is played, and how."""

    worlds: int = 12
    seeds: int = 3
    """Seeds a world, for schemes that draw."""
    first_world: int = 10_000
    """Number of the first world in its split: nothing was tuned or trained on any from here on."""
    split: Split = "test"
    slots: int | None = None
    """Slots of a world; None: as the experiment has them."""
    workers: int = 1
    ray: bool = False

    def __post_init__(self) -> None:
        for name in ("worlds", "seeds", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")

    def worlds_of(self, point: Point) -> list[int]:
        """Seeds of the worlds that a point is played on."""
        count = min(self.worlds, point.most_worlds or self.worlds)
        return [world_seed(self.split, self.first_world + number) for number in range(count)]


QUICK = Extent(worlds=2, seeds=1, slots=2)
"""A try: two worlds of two slots."""


def play_experiment(
    experiment: Experiment, extent: Extent, folder: Path | None, progress: Progress | None = None
) -> list[Cell]:
    """Everything that an experiment has, played as far as it is not kept from before.

    Args:
        experiment: The question.
        extent: How many worlds and seeds.
        folder: Where what is finished is kept, world by world; None: nowhere.
        progress: Told how many worlds are done.
    """
    if experiment.record is not None:
        return list(experiment.record())
    points = [(point, scenario_at(experiment, point, extent.slots)) for point in experiment.points]
    if experiment.player is not None:
        return _play_by(experiment.player, points, extent, folder, progress)
    return _play_slots(experiment.schemes, points, extent, folder, progress)


def scenario_at(experiment: Experiment, point: Point, slots: int | None = None) -> Scenario:
    """The scenario of a point, on its catalog."""
    config = config_from_dict(merged(experiment.scenario, point.changes))
    most = [count for count in (slots, point.most_slots) if count is not None]
    config = replace(config, num_slots=min([config.num_slots, *most]))
    return Scenario(config, catalog_of(point.catalog or config.catalog))


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of settings; where both have a value, the second's."""
    both = dict(first)
    for key, value in second.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def _play_slots(
    schemes: Sequence[str],
    points: Sequence[tuple[Point, Scenario]],
    extent: Extent,
    folder: Path | None,
    progress: Progress | None,
) -> list[Cell]:
    entries = {name: find_scheme(name) for name in schemes}
    wanted = tuple(
        (name, seed) for name in schemes for seed in range(extent.seeds if entries[name].random else 1)
    )
    matches = []
    for point, scenario in points:
        for entry in entries.values():
            check_playable(scenario, entry)
        worlds = dict.fromkeys(extent.worlds_of(point), wanted)
        matches.append(Match(scenario, worlds, point.air.make_world(), folder))
    play(matches, extent.workers, extent.ray, progress)
    return [
        Cell(
            x=point.x,
            curve=curve_of(name, point.arm),
            world=world,
            seed=seed,
            values=values_of(match.done[(name, world, seed)]),
        )
        for (point, _), match in zip(points, matches, strict=True)
        for name, seed in wanted
        for world in match.wanted
    ]


def values_of(result: EpisodeResult) -> dict[str, float]:
    """Measures of one episode; none that a clock has measured, so that played again they are the same."""
    delays, slots = np.array(result.user_delay_s), max(result.slots, 1)
    asked = max(delays.size, 1)
    values = {
        "delay_s": result.cost_s,
        "user_delay_s": float(delays.mean()) if delays.size else 0.0,
        "p95_s": float(np.quantile(delays, 0.95)) if delays.size else 0.0,
        "hit_ratio": result.hits / asked,
        "in_time": result.in_time / asked,
        "cloud_mb": result.cloud_bytes / slots / 1e6,
        "migrated_mb": result.migrated_bytes / slots / 1e6,
        "update_mb": result.update_bytes / slots / 1e6,
        "outage": result.lost_ratio or 0.0,
    }
    if result.load is not None:
        values |= {"band": result.load.band, "busiest_link": result.load.busiest_link}
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One world of one point, for a player."""

    number: int
    """Of the point."""
    scenario: Scenario
    settings: Mapping[str, Any]
    world: int


def _play_turn(player: Player, turn: _Turn) -> tuple[int, int, dict[str, dict[str, float]]]:
    played = player(turn.scenario, turn.settings, turn.world)
    return turn.number, turn.world, {name: dict(values) for name, values in played.items()}


def _play_by(
    player: Player,
    points: Sequence[tuple[Point, Scenario]],
    extent: Extent,
    folder: Path | None,
    progress: Progress | None,
) -> list[Cell]:
    """Play with a player; a world is kept in a line of its own."""
    code = function_digest(player)
    kept = [_kept_rows(player, code, point, scenario, folder) for point, scenario in points]
    done = {(number, row["world"]): row["values"] for number, rows in enumerate(kept) for row in rows or ()}
    turns = [
        _Turn(number=number, scenario=scenario, settings=point.settings, world=world)
        for number, (point, scenario) in enumerate(points)
        for world in extent.worlds_of(point)
    ]
    missing = [turn for turn in turns if (turn.number, turn.world) not in done]
    missing.sort(key=lambda turn: turn.world)
    ready = len(turns) - len(missing)
    for number, world, values in spread(partial(_play_turn, player), missing, extent.workers, extent.ray):
        rows = kept[number]
        if rows is not None:
            rows.append({"world": world, "values": values})
        done[(number, world)] = values
        ready += 1
        if progress:
            progress(ready, len(turns))
    return [
        Cell(x=point.x, curve=curve_of(name, point.arm), world=turn.world, seed=0, values=values)
        for turn in turns
        for point in [points[turn.number][0]]
        for name, values in done[(turn.number, turn.world)].items()
    ]


def _kept_rows(
    player: Player, code: str | None, point: Point, scenario: Scenario, folder: Path | None
) -> KeptRows | None:
    schemes = {name: code_version(name) for name in point.plays}
    if folder is None or code is None or None in schemes.values():
        return None
    made_by = {
        "player": code,
        "schemes": schemes,
        "scenario": scenario_digest(scenario),
        "settings": dict(point.settings),
    }
    return KeptRows(folder, f"experiment-{getattr(player, '__name__', 'player')}", made_by)


def settings_of(experiment: Experiment, extent: Extent) -> dict[str, Any]:
    """All that the results depend on, but code and catalogs: for the page beside them."""
    return {
        "scenario": dict(experiment.scenario),
        "points": [
            {
                **asdict(point),
                "worlds": len(extent.worlds_of(point)),
                "slots": point.most_slots,
            }
            for point in experiment.points
        ],
        "split": extent.split,
        "first_world": extent.first_world,
        "worlds": extent.worlds,
        "seeds": extent.seeds,
    }
