"""What an experiment is: a question, an axis, the points on it, and what is compared there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from demo.bridge.beamformed import beamformed_world
from demo.bridge.csi import CsiError
from policy.evaluation import WorldMaker
from policy.scenario import Scenario

Values: TypeAlias = Mapping[str, float]
"""Measures of what was played on one world with one seed, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is measured."""

    label: str
    """On the axis of the figure, with its unit."""
    short: str
    """In a table's head."""
    share: bool = False
    """Whether it is a share of 1: compared by differences, not by ratios, and shown in per cent."""


MEASURES: dict[str, Measure] = {
    "delay_s": Measure(label="mean user delay (s)", short="delay, s"),
    "user_delay_s": Measure(label="mean delay of all requests (s)", short="of all requests, s"),
    "p95_s": Measure(label="95th percentile of delay (s)", short="p95, s"),
    "hit_ratio": Measure(label="requests served without the cloud", short="hits", share=True),
    "in_time": Measure(label="requests in time", short="in time", share=True),
    "outage": Measure(label="broadcasts lost at first", short="outage", share=True),
    "cloud_mb": Measure(label="from the cloud (MB a slot)", short="cloud, MB a slot"),
    "migrated_mb": Measure(label="between nodes (MB a slot)", short="migrated, MB a slot"),
    "update_mb": Measure(label="cache updates (MB a slot)", short="updates, MB a slot"),
    "band": Measure(label="load of the band", short="band", share=True),
    "busiest_link": Measure(label="load of the busiest link", short="busiest link", share=True),
    "tasks_in_time": Measure(label="tasks done in time", short="tasks in time", share=True),
    "tasks_a_second": Measure(label="tasks a second", short="tasks a second"),
    "loaded_gb": Measure(label="loaded (GB)", short="loaded, GB"),
    "score": Measure(label="held-out accuracy", short="score", share=True),
    "first_mb": Measure(label="sent at first (MB)", short="at first, MB"),
    "exact_mb": Measure(label="sent until exact (MB)", short="until exact, MB"),
    "upgrade_mb": Measure(label="sent from one size to the next (MB)", short="upgrade, MB"),
    "added_mb": Measure(label="added to a store with the whole (MB)", short="added, MB"),
    "renamed_mb": Measure(label="added with the renamed parent (MB)", short="with the renamed parent, MB"),
    "stale_s": Measure(label="mean staleness at the edge (s)", short="stale, s"),
    "air_s": Measure(label="time on the air (s)", short="on the air, s"),
    "decide_ms": Measure(label="CPU time of a decision (ms)", short="CPU a decision, ms"),
    "cost_s": Measure(label="validation cost (s a slot)", short="s per slot"),
}
"""All measures by the names that they have in the CSV."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """The radio of a point."""

    antennas: int = 8
    """Antennas of each node."""
    csi: CsiError = field(default_factory=CsiError)
    """What the nodes do not know of the channels."""

    def make_world(self) -> WorldMaker:
        """What draws the worlds: real beamformers on TR 38.901 channels."""
        settings: dict[str, Any] = {}
        if self.antennas != 8:
            settings["num_antennas"] = self.antennas
        if self.csi.size > 0:
            settings["csi"] = self.csi
        return partial(beamformed_world, **settings) if settings else beamformed_world


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place on the axis, for one curve or for all."""

    x: float | str
    """Where it is, in the axis' unit; a text is a place of its own."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the experiment's scenario, as in a scenario's TOML file."""
    catalog: str = ""
    """Catalog, see `demo.experiments.papers.catalogs`; empty: the scenario's."""
    air: Air = field(default_factory=Air)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For a player."""
    plays: tuple[str, ...] = ()
    """Schemes that a player looks up by name: their code and weights count for what is kept of it."""
    arm: str = ""
    """What tells curves of one scheme apart that are played in several ways."""
    most_worlds: int | None = None
    """Worlds played here at most, where one takes long; None: as many as are asked for."""
    most_slots: int | None = None
    """Slots of a world here at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one curve had at one place, on one world with one seed."""

    x: float | str
    curve: str
    world: int
    seed: int
    values: Values


Player: TypeAlias = Callable[[Scenario, Mapping[str, Any], int], Mapping[str, Values]]
"""Plays one world of a scenario, given a point's settings and the seed of the world: measures by scheme. Must
be importable by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One question, and how it is answered: by the slots of an evaluation, a player or a record."""

    name: str
    """On the command line and of the files."""
    question: str
    paper: str
    """Where the question is asked."""
    axis: str
    """What varies, with its unit."""
    points: tuple[Point, ...] = ()
    schemes: tuple[str, ...] = ()
    """What is compared, as `pbcast evaluate` names it, or as `player` does."""
    references: tuple[str, ...]
    """Curves that others are compared with on the same worlds, see `curve_of`; each with those before it."""
    scenario: Mapping[str, Any] = field(default_factory=dict)
    """As in a scenario's TOML file; `base` names the preset, else `default`."""
    measures: tuple[str, ...] = ("delay_s",)
    """Drawn, with intervals and comparison, the first one first."""
    log_x: bool = False
    log_y: bool = False
    joined: bool = True
    """Whether the figure joins neighbouring places by lines; not where their order means nothing."""
    note: str = ""
    """What one must know to read it, in a sentence or two."""
    player: Player | None = None
    """What plays a world instead of the slots of `pbcast evaluate`."""
    record: Callable[[], Sequence[Cell]] | None = None
    """Reads cells that were made elsewhere; then nothing is played, and there are no points."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            raise ValueError(f"{self.name}: measures are of {sorted(MEASURES)}, got {list(self.measures)}")
        if self.record is not None:
            return
        if not self.points or not self.schemes:
            raise ValueError(f"{self.name}: need points and schemes")
        if not set(self.references) <= set(self.curves):
            raise ValueError(f"{self.name}: references must be curves, got {self.references}")
        keys = [(point.x, point.arm) for point in self.points]
        if len(set(keys)) != len(keys):
            raise ValueError(f"{self.name}: two points have the same place and curve")
        if len({isinstance(point.x, str) for point in self.points}) > 1:
            raise ValueError(f"{self.name}: places are all numbers or all texts")

    @property
    def curves(self) -> tuple[str, ...]:
        """Names of all curves, in the order of the figure."""
        names = (curve_of(scheme, point.arm) for scheme in self.schemes for point in self.points)
        return tuple(dict.fromkeys(names))


def curve_of(scheme: str, arm: str) -> str:
    """Name of a curve."""
    return f"{scheme}, {arm}" if arm else scheme
