"""Settings of request processes that were not written beside the learner: `policy.world.processes`."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

ProcessName = Literal["ranks", "bursts", "weekly", "moods", "shots"]
PROCESSES: tuple[ProcessName, ...] = get_args(ProcessName)


def _check(config: object, least: float, names: tuple[str, ...], most: float = math.inf) -> None:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if not least <= value <= most:
            bounds = f"in [{least:g}, {most:g}]" if math.isfinite(most) else f">= {least:g}"
            raise ValueError(f"{name} must be {bounds}, got {value}")


def _check_whole(config: object) -> None:
    for item in fields(config):  # type: ignore[arg-type]
        value = getattr(config, item.name)
        if item.type is int and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(f"{item.name} must be a whole number, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstConfig:
    """Flash crowds: sudden, of heavy-tailed size, dying down by a power law (Crane and Sornette, 2008)."""

    rate: float = 0.15
    """Mean number of bursts that begin in a slot (Poisson)."""
    tail: float = 1.5
    """Pareto exponent of a burst's size, > 0; smaller: rarer and larger."""
    least: float = 0.4
    """Smallest size, as a multiple of all other demand together."""
    most: float = 20.0
    """Sizes beyond count as this."""
    relaxation: float = 1.4
    """Size after a slots is size x (1 + a)^-relaxation; 1 + theta with theta 0.4 for shocks from outside."""
    local_share: float = 0.5
    """Share of bursts that stay within one cell."""
    urge: float = 0.5
    """How many more requests there are where a burst is all of demand: 0.5 is half as many again."""
    spread: float = 1.2
    """Standard deviation of the logarithm of the models' lasting popularity."""

    def __post_init__(self) -> None:
        _check(self, 0.0, ("rate", "least", "most", "relaxation", "urge", "spread"))
        _check(self, 0.1, ("tail",))
        _check(self, 0.0, ("local_share",), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyConfig:
    """Hours of the day and days of the week: each model has its hours, each user its own clock."""

    day_slots: int = 12
    """Slots a day; a week has seven."""
    swing: float = 0.6
    """Depth of the daily wave on the number of requests, 0..1."""
    weekend: float = 0.6
    """Requests at weekends as a share of those on working days, 0..1."""
    focus: float = 2.0
    """How much a model keeps to its hours: concentration of the von Mises law; 0: not at all."""
    clock_spread: float = 0.08
    """Standard deviation of users' clocks, in days."""
    spread: float = 1.0
    """Standard deviation of the logarithm of the models' popularity over the week."""

    def __post_init__(self) -> None:
        _check_whole(self)
        _check(self, 1, ("day_slots",))
        _check(self, 0.0, ("focus", "clock_spread", "spread"))
        _check(self, 0.0, ("swing", "weekend"), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoodConfig:
    """Markov-modulated: users come and go, and wants have moods (Fischer and Meier-Hellstern, 1993)."""

    moods: int = 4
    """Moods; each is a distribution over models."""
    mood_slots: float = 12.0
    """Mean length of a mood, slots (geometric)."""
    session_slots: float = 5.0
    """Mean length of a session, in which a user asks, slots (geometric)."""
    common: float = 0.5
    """Share of requests that follow the mood that all share, the rest the user's own."""
    sparsity: float = 0.25
    """Parameter of the symmetric Dirichlet law of each mood, > 0; small: few models matter in a mood."""

    def __post_init__(self) -> None:
        _check_whole(self)
        _check(self, 1, ("moods", "mood_slots", "session_slots"))
        _check(self, 0.01, ("sparsity",))
        _check(self, 0.0, ("common",), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotConfig:
    """Shot noise: interest in a model is born at random moments and fades (Traverso et al., 2013)."""

    rate: float = 0.6
    """Mean number of shots that begin in a slot, over all models (Poisson)."""
    life_slots: float = 8.0
    """Mean life of a shot, slots; its intensity fades exponentially."""
    tail: float = 1.3
    """Pareto exponent of a shot's volume, > 1."""
    most: float = 50.0
    """Volumes beyond count as this many times the least."""
    background: float = 0.15
    """Share of requests that no shot explains: any model, all alike."""

    def __post_init__(self) -> None:
        _check(self, 0.0, ("rate",))
        _check(self, 1.0, ("life_slots", "most"))
        _check(self, 1.01, ("tail",))
        _check(self, 0.0, ("background",), 1.0)
