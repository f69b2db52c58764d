"""Worlds from a file of requests, its stretches one after another: demand that nobody here made."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from policy.scenario import Scenario, World
from policy.world.replay import Objects, Replayed, replay, window
from policy.world.request_files import FileFormat
from policy.world.splits import WORLDS_PER_SPLIT
from policy.world.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """A file of requests and how it is read."""

    path: Path
    how: FileFormat
    objects: Objects = "models"
    seed: int = 0
    """Draws places and users that the file does not name; the same for all worlds of the file."""


def replayed(scenario: Scenario, source: TraceSource) -> Replayed:
    """The whole file as a trace of the scenario, read once a process; raises TraceError as `replay` does."""
    stamp = source.path.stat() if source.path.is_file() else None
    columns = tuple(sorted(source.how.columns.items()))
    state = None if stamp is None else (stamp.st_mtime_ns, stamp.st_size)
    key = _Key(
        scenario,
        source,
        (source.path, source.how.time_unit, columns, source.how.public, source.objects, source.seed, state),
    )
    return _read(key)


def trace_world(scenario: Scenario, seed: int, *, source: TraceSource) -> World:
    """The world of a seed, with the cheap radio: the stretch of the file with the seed's number in its split.

    Raises:
        TraceError: If the file cannot be read, or ends before that stretch.
    """
    return scenario.world_of(stretch(scenario, seed, source))


def stretch(scenario: Scenario, seed: int, source: TraceSource) -> Trace:
    """The part of the file that a world plays, see `trace_world`."""
    whole = replayed(scenario, source).trace
    return window(whole, seed % WORLDS_PER_SPLIT, scenario.config.num_slots)


def account(outcome: Replayed, num_slots: int) -> dict[str, Any]:
    """What became of the file's requests, and how many worlds it is long, for a report."""
    counts = {key: value for key, value in asdict(outcome).items() if key != "trace"}
    return {**counts, "slots": outcome.trace.num_slots, "worlds": outcome.trace.num_slots // num_slots}


class _Key:
    """Hashes and compares by what a reading depends on."""

    def __init__(self, scenario: Scenario, source: TraceSource, parts: tuple[Any, ...]) -> None:
        self.scenario, self.source = scenario, source
        names = scenario.catalog.model_names
        self._parts = (*parts, repr(scenario.config), names, scenario.catalog.num_models)

    def __hash__(self) -> int:
        return hash(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._parts == other._parts


@lru_cache(maxsize=4)
def _read(key: _Key) -> Replayed:
    scenario, source = key.scenario, key.source
    rng = np.random.default_rng(source.seed)
    return replay(source.path, scenario.config, scenario.catalog, rng, how=source.how, objects=source.objects)


__all__ = ["TraceSource", "account", "replayed", "stretch", "trace_world"]
