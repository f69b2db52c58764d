"""Columns of feature arrays by name: what a network sees is written and read by what it means."""

from collections.abc import Mapping
from types import MappingProxyType

Columns = Mapping[str, slice]
"""Place of each feature in the last axis."""


def columns(**widths: int) -> Columns:
    """Places of features of some widths, one after another."""
    places: dict[str, slice] = {}
    start = 0
    for name, width in widths.items():
        places[name] = slice(start, start + width)
        start += width
    return MappingProxyType(places)


def width_of(places: Columns) -> int:
    """Columns in all."""
    return max(int(place.stop) for place in places.values())
