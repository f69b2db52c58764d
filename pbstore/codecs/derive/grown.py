"""A parent inside a wider tensor: tiled, on a diagonal, padded, or each column repeated; in any dtype.

The columns are taken in blocks as wide as the parent, or every k-th one. Rows of a block are known by a few
of their elements, so that they may stand anywhere; what is no row of the parent is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

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
from pbstore.codecs.derive.row_maps import (
    KEY_ELEMENTS,
    Map,
    as_in,
    key_columns,
    keys_of,
    listed_term,
    matching_rows,
)

_EXACT, _LEAST_ROWS = 0.3, 0.3
_MOST_BLOCKS = 8


def grown(case: Case, parent: Parent) -> Proposal | None:
    """The tensor as a parent with fewer columns, None if it is none."""
    spec, columns = case.spec, shape_of(case.spec)[1]
    old_rows, width = shape_of(parent.spec)
    if columns <= width or width < KEY_ELEMENTS or columns // width > _MOST_BLOCKS or not old_rows:
        return None
    floats = {spec.dtype, parent.spec.dtype} <= set(FLOAT_DTYPES)
    if not floats and spec.dtype != parent.spec.dtype:
        return None
    return case.best(_layouts(case, parent, columns // width, floats=floats), _EXACT)


def _layouts(case: Case, parent: Parent, times: int, *, floats: bool) -> Iterator[Proposal]:
    (rows, columns), width = shape_of(case.spec), shape_of(parent.spec)[1]
    some = key_columns(width)
    table, old = case.bits.reshape(rows, columns), parent.bits.reshape(-1, width)
    for factor in (1.0, 1 / times) if floats and times > 1 else (1.0,):
        keys = keys_of(as_in(np.ascontiguousarray(old[:, some]), parent, case.spec.dtype, factor))
        maps = [matching_rows(keys_of(table[:, some + width * block]), keys) for block in range(times)]
        if any(np.mean(one < len(old)) >= _LEAST_ROWS for one in maps):
            yield from _in_blocks(case, parent, maps, factor)
        elif times > 1 and columns == times * width:
            spread = matching_rows(keys_of(table[:, some * times]), keys)
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
        columns = term if places is None else listed_term(places, 1, literals)
        one = load(0, parent.spec.dtype, listed_term(rows, width, literals), columns)
        if len(loads) > 1 or factor != 1:
            one = to_dtype(one, parent.spec.dtype, "F32")
        total = add(total, one) if total else one
    if len(loads) > 1 or factor != 1:
        total = mul(total, const(factor)) if factor != 1 else total
        total = to_dtype(total, "F32", case.spec.dtype)
    else:
        total = to_dtype(total, parent.spec.dtype, case.spec.dtype)
    return propose(case.spec, (parent,), total, literals=literals)
