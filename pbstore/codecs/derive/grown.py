"""A parent inside a wider tensor: tiled, on a diagonal, padded, or each column repeated; in any dtype.

The columns are taken in blocks as wide as the parent, or every k-th one. Rows of a block are known by a few
of their elements, so that they may stand anywhere; what is no row of the parent is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import Uints
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    FLOAT_DTYPES,
    Parent,
    Proposal,
    Steps,
    add,
    const,
    load,
    mul,
    propose,
    shape_of,
    to_dtype,
)
from pbstore.codecs.derive.grammar import Literal, Term
from pbstore.codecs.derive.narrow import cast

_EXACT, _LEAST_ROWS = 0.3, 0.3
_KEY_ELEMENTS = 8
_MOST_BLOCKS = 8
_PRIME = np.uint64(0x9E3779B97F4A7C15)
Map = npt.NDArray[np.int64]
"""For each row the parent's row, or one behind its last."""


def grown(case: Case, parent: Parent) -> Proposal | None:
    """The tensor as a parent with fewer columns, None if it is none."""
    spec, columns = case.spec, shape_of(case.spec)[1]
    old_rows, width = shape_of(parent.spec)
    wider = columns > width or (columns == width and spec.dtype != parent.spec.dtype)
    if not wider or width < _KEY_ELEMENTS or columns // width > _MOST_BLOCKS or not old_rows:
        return None
    floats = {spec.dtype, parent.spec.dtype} <= set(FLOAT_DTYPES)
    if not floats and spec.dtype != parent.spec.dtype:
        return None
    return case.best(_layouts(case, parent, columns // width, floats=floats), _EXACT)


def _layouts(case: Case, parent: Parent, times: int, *, floats: bool) -> Iterator[Proposal]:
    (rows, columns), width = shape_of(case.spec), shape_of(parent.spec)[1]
    some = np.unique(np.linspace(0, width - 1, _KEY_ELEMENTS).astype(np.intp))
    table, old = case.bits.reshape(rows, columns), parent.bits.reshape(-1, width)
    for factor in (1.0, 1 / times) if floats and times > 1 else (1.0,):
        keys = _keys(_as_in(np.ascontiguousarray(old[:, some]), parent, case.spec.dtype, factor))
        maps = [_rows(_keys(table[:, some + width * block]), keys) for block in range(times)]
        if any(np.mean(one < len(old)) >= _LEAST_ROWS for one in maps):
            yield from _in_blocks(case, parent, maps, factor)
        elif times > 1 and columns == times * width:
            spread = _rows(_keys(table[:, some * times]), keys)
            if np.mean(spread < len(old)) >= _LEAST_ROWS:
                yield _program(case, parent, [(spread, Term(0, 1, times), None)], factor)


def _in_blocks(case: Case, parent: Parent, maps: Sequence[Map], factor: float) -> Iterator[Proposal]:
    """Blocks of columns that are rows of the parent: all the same ones, or each its own."""
    columns, (old_rows, width) = shape_of(case.spec)[1], shape_of(parent.spec)
    outside = old_rows * width
    if all(np.array_equal(one, maps[0]) for one in maps):
        places = np.full(columns, outside, np.int64)
        places[: len(maps) * width] = np.tile(np.arange(width), len(maps))
        yield _program(case, parent, [(maps[0], Term(), places)], factor)
        return
    loads: list[tuple[Map, Term, Map | None]] = []
    for block, found in enumerate(maps):
        if np.any(found < old_rows):
            places = np.full(columns, outside, np.int64)
            places[block * width : (block + 1) * width] = np.arange(width)
            loads.append((found, Term(), places))
    if len(loads) == 1 or {case.spec.dtype, parent.spec.dtype} <= set(FLOAT_DTYPES):
        yield _program(case, parent, loads, factor)


def _program(
    case: Case, parent: Parent, loads: Sequence[tuple[Map, Term, Map | None]], factor: float
) -> Proposal:
    """The sum of what is loaded by row maps and by terms or maps of columns, times a number."""
    width = shape_of(parent.spec)[1]
    literals: list[Literal] = []
    total: Steps = ()
    for rows, term, places in loads:
        columns = term if places is None else _term(places, 1, literals)
        one = load(0, parent.spec.dtype, _term(rows, width, literals), columns)
        if len(loads) > 1 or factor != 1:
            one = to_dtype(one, parent.spec.dtype, "F32")
        total = add(total, one) if total else one
    if len(loads) > 1 or factor != 1:
        total = mul(total, const(factor)) if factor != 1 else total
        total = to_dtype(total, "F32", case.spec.dtype)
    else:
        total = to_dtype(total, parent.spec.dtype, case.spec.dtype)
    return propose(case.spec, (parent,), total, literals=literals)


def _term(places: Map, step: int, literals: list[Literal]) -> Term:
    """Addresses as a term; a list of them goes with the program where they are not even."""
    start, index = int(places[0]), np.arange(len(places))
    again = np.flatnonzero(places != start)
    block = int(again[0]) if len(again) else 1
    if np.array_equal(places, start + index // block):
        return Term(start * step, step, block)
    literals.append(Literal("U32", places.astype(np.uint32)))
    return Term(0, step, 1, len(literals) - 1)


def _as_in(bits: Uints, parent: Parent, dtype: str, factor: float) -> Uints:
    """Some of a parent's elements as they would stand in the tensor."""
    source, shape = parent.spec.dtype, bits.shape
    if source == dtype and factor == 1:
        return bits
    flat = bits.reshape(-1)
    single = flat.view(np.float32) if source == "F32" else cast(flat, source, "F32")
    single = single * np.float32(factor) if factor != 1 else single
    if dtype == "F32":
        return np.ascontiguousarray(single).view(np.uint32).reshape(shape)
    found: Uints = cast(single, "F32", dtype)
    return found.view(f"u{found.itemsize}").reshape(shape)


def _keys(table: Uints) -> npt.NDArray[np.uint64]:
    """A number for each row."""
    keys = np.full(len(table), table.shape[1], np.uint64)
    for column in range(table.shape[1]):
        keys ^= table[:, column].astype(np.uint64)
        keys *= _PRIME
        keys ^= keys >> np.uint64(29)
    return keys


def _rows(new: npt.NDArray[np.uint64], old: npt.NDArray[np.uint64]) -> Map:
    """For each key the row with the same one; one behind the last where there is none."""
    order = np.argsort(old, kind="stable")
    place = np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)
    found = order[place]
    return np.where(old[found] == new, found, len(old)).astype(np.int64)
