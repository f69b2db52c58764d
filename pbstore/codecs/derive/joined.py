"""Rows of one to three parents: fused or stacked, or split, and cast.

What lies outside of a parent is zero, so the sum of what each gives is the whole. Rows that keep their
dtype, of parents that need no others, are `pbstore.codecs.rows`, of as many parents as there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
from pbstore.codecs.derive.grammar import Literal
from pbstore.codecs.derive.row_maps import (
    KEY_ELEMENTS,
    Map,
    as_in,
    key_columns,
    keys_of,
    matching_rows,
    row_term,
    straightened,
)

_EXACT = 0.3
_MOST_PARENTS = 3
_LEAST_ROWS = 0.02
"""Part of the rows that a parent must give."""


class _Part(NamedTuple):
    """A parent, and which of its rows stand where."""

    parent: Parent
    rows: Map

    @property
    def num_rows(self) -> int:
        return shape_of(self.parent.spec)[0]

    def inside(self, left: np.typing.NDArray[np.bool_]) -> np.typing.NDArray[np.bool_]:
        """Which of the rows that are left it gives."""
        found: np.typing.NDArray[np.bool_] = left & (self.rows < self.num_rows)
        return found


def joined(case: Case, parents: Sequence[Parent]) -> Proposal | None:
    """The tensor as rows of parents as wide, cast; None if it is none."""
    spec, (rows, width) = case.spec, shape_of(case.spec)
    if width < KEY_ELEMENTS or spec.dtype not in FLOAT_DTYPES:
        return None
    fitting = [
        parent
        for parent in parents
        if parent.spec.dtype in FLOAT_DTYPES and parent.spec.num_elements
        if shape_of(parent.spec)[1] == width
    ]
    if not fitting:
        return None
    columns = key_columns(width)
    new = keys_of(case.bits.reshape(rows, width)[:, columns])
    parts = []
    for parent in fitting:
        old = keys_of(
            as_in(np.ascontiguousarray(parent.bits.reshape(-1, width)[:, columns]), parent, spec.dtype)
        )
        parts.append(_Part(parent, straightened(matching_rows(new, old), new, old)))
    chosen = _chosen(parts, rows)
    return case.best([_program(case, chosen)], _EXACT) if chosen else None


def _chosen(parts: Sequence[_Part], rows: int) -> list[_Part]:
    """Those of one dtype that together give most rows, each row by one of them."""
    left, chosen, open_parts = np.ones(rows, np.bool_), list[_Part](), list(parts)
    while open_parts and len(chosen) < _MOST_PARENTS:
        gains = [int(np.count_nonzero(part.inside(left))) for part in open_parts]
        best = int(np.argmax(gains))
        if gains[best] < max(1, _LEAST_ROWS * rows):
            break
        part = open_parts.pop(best)
        given = part.inside(left)
        chosen.append(_Part(part.parent, np.where(given, part.rows, part.num_rows)))
        left &= ~given
        open_parts = [one for one in open_parts if one.parent.spec.dtype == part.parent.spec.dtype]
    return chosen


def _program(case: Case, parts: Sequence[_Part]) -> Proposal:
    """The sum of the parents' rows, cast."""
    source, width = parts[0].parent.spec.dtype, shape_of(case.spec)[1]
    kind = source if source == "F64" else "F32"
    literals: list[Literal] = []
    loads = [
        load(number, source, row_term(part.rows, part.num_rows, width, literals))
        for number, part in enumerate(parts)
    ]
    if len(loads) == 1:
        return propose(
            case.spec, (parts[0].parent,), to_dtype(loads[0], source, case.spec.dtype), literals=literals
        )
    total = _sum([to_dtype(one, source, kind) for one in loads], kind, signed=_has_negative_zero(case))
    return propose(
        case.spec,
        [part.parent for part in parts],
        to_dtype(total, kind, case.spec.dtype),
        literals=literals,
    )


def _sum(loads: Sequence[Steps], kind: str, *, signed: bool) -> Steps:
    """The sum; `signed`: of the negatives, then turned back, which keeps a zero's sign: -0 + x is x."""
    turned = [mul(one, const(-1, kind)) for one in loads] if signed else list(loads)
    total = turned[0]
    for one in turned[1:]:
        total = add(total, one)
    return mul(total, const(-1, kind)) if signed else total


def _has_negative_zero(case: Case) -> bool:
    sign = case.bits.dtype.type(1 << (8 * case.bits.itemsize - 1))
    return bool(np.any(case.bits == sign))
