"""Settings in a scheme's name, such as `ewma-greedy:weight=0.2;prior=2`: read and checked before a run."""

import math
from inspect import signature

from policy.errors import SchemeError
from policy.play.scheme import SchemeEntry

RANGES: dict[str, tuple[float, float]] = {
    # least and most; those above 0 that must not be 0 start at the smallest float
    "blend": (0, 1),
    "clock": (0, 1),
    "decisions": (0, 1),
    "demand": (0, 1),
    "drop": (0, 1),
    "epsilon": (math.ulp(0.0), math.nextafter(1, 0)),
    "horizon": (1, math.inf),
    "inertia": (0, 1),
    "later": (0, 1),
    "guard": (0, 1),
    "local": (0, 1),
    "memory": (0, 1),
    "own": (0, 1),
    "patience": (0, math.inf),
    "particles": (1, math.inf),
    "per_byte": (0, math.inf),
    "prior": (0, math.inf),
    "reuse": (0, math.inf),
    "rounds": (0, math.inf),
    "samples": (1, math.inf),
    "slack": (math.ulp(0.0), math.inf),
    "swarms": (1, math.inf),
    "update": (0, math.inf),
    "weight": (math.ulp(0.0), 1),
    "whole": (0, 1),
    "width": (1, math.inf),
    "window": (1, math.inf),
}
"""What each setting may be, whatever scheme has it."""

COUNTS = frozenset({"horizon", "particles", "rounds", "samples", "swarms", "width", "window"})
"""Settings that are whole numbers."""


def settings_of(entry: SchemeEntry) -> list[str]:
    """Names of the settings that a scheme takes, in the order of its constructor."""
    return list(signature(entry.start).parameters)[2:]  # after the scenario and the generator


def read_settings(text: str, entry: SchemeEntry) -> dict[str, float]:
    """Settings of one scheme, `name=number` split by semicolons.

    Raises:
        SchemeError: If that is not what the text says, the scheme has no such setting, or it is out of range.
    """
    known = settings_of(entry)
    settings = {}
    for item in text.split(";"):
        key, _, number = (part.strip() for part in item.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise SchemeError(f"expected settings such as weight=0.2, got {item!r}") from None
        if key not in known:
            raise SchemeError(f"{entry.name} has settings {', '.join(known) or 'none'}, got {key!r}")
        settings[key] = _checked(entry.name, key, value)
    return settings


def _checked(scheme: str, key: str, value: float) -> float:
    least, most = RANGES[key]
    if key in COUNTS and not value.is_integer():  # inf and nan are none either
        raise SchemeError(f"{scheme}: {key} must be a whole number, got {value:g}")
    if not (least <= value <= most and math.isfinite(value)):
        raise SchemeError(f"{scheme}: {key} must be {_range_text(least, most)}, got {value:g}")
    return value


def _range_text(least: float, most: float) -> str:
    if math.isinf(most):
        return f">= {least:g}" if least == round(least) else "> 0"
    return f"in {'[' if least == round(least) else '('}{least:.0f}, {most:.0f}{']' if most == 1 else ')'}"
