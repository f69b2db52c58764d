"""Columns of feature arrays by name: what a network sees is written and read by what it means."""

from collections.abc import Mapping
from types import MappingProxyType

Columns = Mapping[str, slice]
"""Place of each feature in the last axis."""


def columns(**widths: int) -> Columns:
    """Places of features of some widths, one after another."""
    made: dict[str, slice] = {}
    start = 0
    for name, width in widths.items():
        made[name] = slice(start, start + width)
        start += width
    return MappingProxyType(made)


def width_of(places: Columns) -> int:
    """Columns in all."""
    return max(int(place.stop) for place in places.values())
