"""The scenario file of `pbcast radio`: every field checked, so that a slip is told in one line."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from radio import RadioConfig
from radio.types import BoolArray, FloatArray

__all__ = ["Settings", "check_size", "chosen", "number", "places", "radio_config", "read_settings"]

Settings = Mapping[str, Any]
_KEYS = {"radio", "users_xy", "nodes_xy", "holders", "waiting", "size_bytes", "csi_error"}
_MOST_BYTES = 1 << 24
_MOST_COEFFICIENTS = 1 << 22
"""Of a channel: 64 nodes of 8 antennas and 1,000 users are an eighth of it."""
_MOST = {"size_bytes": 1e30, "csi_error": 1e6}
_FARTHEST_M = 1e6


def read_settings(path: Path) -> Settings:
    """What the file says.

    Raises:
        ValueError: If it is not TOML, or has keys that nobody reads.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, no scenario file is")
    try:
        settings = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # digits without end and brackets without end, too
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    unknown = set(settings) - _KEYS
    if unknown:
        raise ValueError(
            f"{path}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KEYS))}"
        )
    return settings


def radio_config(settings: Settings, counts: Mapping[str, int]) -> RadioConfig:
    """Table `radio`; what `counts` says comes from elsewhere and wins."""
    table = settings.get("radio", {})
    if not isinstance(table, dict):
        raise ValueError(f"radio must be a table, got {_shown(table)}")
    known = [field.name for field in fields(RadioConfig)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"table [radio]: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    try:
        return RadioConfig(**{**table, **counts})
    except (TypeError, ValueError) as error:
        raise ValueError(f"table [radio]: {error}") from None


def check_size(config: RadioConfig) -> None:
    """Refuse a channel that is too large to draw and solve, before it takes the memory."""
    count = config.num_users * config.num_nodes * config.num_antennas * config.num_subbands
    if count > _MOST_COEFFICIENTS:
        raise ValueError(
            f"num_users x num_nodes x num_antennas x num_subbands must be at most {_MOST_COEFFICIENTS}, "
            f"got {count:.3g}"
        )


def number(settings: Settings, name: str, default: float) -> float:
    """A number >= 0."""
    value = settings.get(name, default)
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0, got {_shown(value)}")
    if value > _MOST[name]:
        raise ValueError(f"{name} must be at most {_MOST[name]:g}, got {_shown(value)}")
    return float(value)


def places(settings: Settings, name: str) -> FloatArray | None:
    """Places, (places, 2), m; None where the file says nothing."""
    if name not in settings:
        return None
    try:
        xy = np.array(settings[name], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        xy = np.zeros(0)
    if xy.ndim != 2 or not len(xy) or xy.shape[1] != 2 or not np.isfinite(xy).all():
        raise ValueError(f"{name} must be a list of [x, y] in m, got {_shown(settings[name])}")
    if np.abs(xy).max() > _FARTHEST_M:
        raise ValueError(f"{name} must be within {_FARTHEST_M:g} m, got {np.abs(xy).max():g}")
    return xy


def chosen(settings: Settings, name: str, count: int) -> BoolArray:
    """Mask of a list of indices, (count,); all where the file says nothing."""
    mask = np.full(count, name not in settings)
    indices = settings.get(name, [])
    for index in indices if isinstance(indices, list) else [indices]:
        if not isinstance(indices, list) or type(index) is not int or not 0 <= index < count:
            raise ValueError(f"{name}: expected indices 0..{count - 1}, got {_shown(index)}")
        mask[index] = True
    return mask


def _shown(value: object) -> str:
    """The value in a message: cut, as it may be of any length."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a number too long to print"
    return text if len(text) <= 80 else text[:77] + "..."
