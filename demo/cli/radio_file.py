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

__all__ = ["Settings", "chosen", "number", "places", "radio_config", "read_settings"]

Settings = Mapping[str, Any]
_KEYS = {"radio", "users_xy", "nodes_xy", "holders", "waiting", "size_bytes", "csi_error"}


def read_settings(path: Path) -> Settings:
    """What the file says.

    Raises:
        ValueError: If it is not TOML, or has keys that nobody reads.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
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
        raise ValueError(f"radio must be a table, got {table!r}")
    known = [field.name for field in fields(RadioConfig)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"table [radio]: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    try:
        return RadioConfig(**{**table, **counts})
    except TypeError as error:
        raise ValueError(f"table [radio]: {error}") from None


def number(settings: Settings, name: str, default: float) -> float:
    """A finite number >= 0."""
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    return float(value)


def places(settings: Settings, name: str) -> FloatArray | None:
    """Places, (places, 2), m; None where the file says nothing."""
    if name not in settings:
        return None
    try:
        made = np.array(settings[name], dtype=np.float64)
    except (TypeError, ValueError):
        made = np.zeros(0)
    if made.ndim != 2 or made.shape[1] != 2 or not np.isfinite(made).all():
        raise ValueError(f"{name} must be a list of [x, y] in m, got {settings[name]!r}")
    return made


def chosen(settings: Settings, name: str, count: int) -> BoolArray:
    """Mask of a list of indices, (count,); all where the file says nothing."""
    mask = np.full(count, name not in settings)
    indices = settings.get(name, [])
    for index in indices if isinstance(indices, list) else [indices]:
        if not isinstance(indices, list) or type(index) is not int or not 0 <= index < count:
            raise ValueError(f"{name}: expected indices 0..{count - 1}, got {index!r}")
        mask[index] = True
    return mask
