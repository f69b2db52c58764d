"""Which rows of a parent a tensor has, by a few elements of each as they would stand there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import Uints
from pbstore.codecs.derive.draft import Parent
from pbstore.codecs.derive.grammar import Literal, Term
from pbstore.codecs.derive.narrow import FLOATS, cast

KEY_ELEMENTS = 8
_PRIME = np.uint64(0x9E3779B97F4A7C15)
Map = npt.NDArray[np.int64]
"""For each row the parent's row, or one behind its last."""
Keys = npt.NDArray[np.uint64]


def key_columns(width: int) -> npt.NDArray[np.intp]:
    """The elements of a row by which it is known."""
    return np.unique(np.linspace(0, width - 1, KEY_ELEMENTS).astype(np.intp))


def keys_of(table: Uints) -> Keys:
    """A number for each row."""
    keys = np.full(len(table), table.shape[1], np.uint64)
    for column in range(table.shape[1]):
        keys ^= table[:, column].astype(np.uint64)
        keys *= _PRIME
        keys ^= keys >> np.uint64(29)
    return keys


def matching_rows(new: Keys, old: Keys) -> Map:
    """For each key the row with the same one; one behind the last where there is none."""
    order = np.argsort(old, kind="stable")
    place = np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)
    found = order[place]
    return np.where(old[found] == new, found, len(old)).astype(np.int64)


def straightened(found: Map, new: Keys, old: Keys) -> Map:
    """The same map with equal rows taken so that as many as can be follow one another."""
    index = np.flatnonzero(found < len(old))
    if not len(index):
        return found
    steps, counts = np.unique(found[index] - index, return_counts=True)
    along = index + steps[np.argmax(counts)]
    inside = (along >= 0) & (along < len(old))
    along = np.where(inside, along, 0)
    better = found.copy()
    better[index] = np.where(inside & (old[along] == new[index]), along, found[index])
    return better


def row_term(places: Map, num_rows: int, width: int, literals: list[Literal]) -> Term:
    """Addresses of rows that lie in one run, those beyond it outside of the parent; else a list goes with it.

    Args:
        places: The parent's row for each row, `num_rows` for none.
        num_rows: Rows of the parent.
        width: Elements of a row.
        literals: Literals of the program; a list of addresses is put behind them.
    """
    index = np.flatnonzero(places < num_rows)
    start = int(places[index[0]] - index[0]) if len(index) else num_rows
    line = start + np.arange(len(places))
    inside = (line >= 0) & (line < num_rows)
    if np.array_equal(np.where(inside, line, num_rows), places):
        return Term(start * width, width)
    return listed_term(places, width, literals)


def listed_term(places: Map, step: int, literals: list[Literal]) -> Term:
    """Addresses as a term; a list of them goes with the program where they are not even."""
    start, index = int(places[0]), np.arange(len(places))
    again = np.flatnonzero(places != start)
    block = int(again[0]) if len(again) else 1
    if np.array_equal(places, start + index // block):
        return Term(start * step, step, block)
    literals.append(Literal("U32", places.astype(np.uint32)))
    return Term(0, step, 1, len(literals) - 1)


def as_in(bits: Uints, parent: Parent, dtype: str, factor: float = 1.0) -> Uints:
    """Some of a parent's elements as they would stand in a tensor of a dtype."""
    source, shape = parent.spec.dtype, bits.shape
    if source == dtype and factor == 1:
        return bits
    flat = bits.reshape(-1).view(FLOATS.get(source, bits.dtype))
    single = flat if source == "F32" else cast(flat, source, "F32")
    single = single * np.float32(factor) if factor != 1 else single
    found = np.ascontiguousarray(single) if dtype == "F32" else cast(single, "F32", dtype)
    bits_found: Uints = found.view(f"u{found.itemsize}").reshape(shape)
    return bits_found
