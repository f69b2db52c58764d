"""Parents rounded to a grid, and what becomes of such numbers when they are turned back into floats.

Int8 and int4 with scales that follow from the parent, float8 with a scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    Parent,
    Proposal,
    Steps,
    add,
    after,
    as_floats,
    const,
    div,
    floats,
    mul,
    propose,
    shape_of,
    sub,
    to_dtype,
)
from pbstore.codecs.derive.grammar import DTYPES, Op, Step, Term
from pbstore.codecs.types import TensorSpec

_EXACT = 0.6
_GROUPS = (32, 64, 128)
_LOOKED_AT = 128
_DISTINCT = {"F32": 0.9, "BF16": 0.65, "F16": 0.65}
_SOURCES = ("F32", "BF16", "F16")
_MAGNITUDE, _GREATEST, _LEAST = 0, 1, 2
_TOPS = {"I8": (127.0, 128.0), "U8": (255.0,), "F8_E4M3": (448.0, 240.0), "F8_E5M2": (57344.0,)}
_MOSTS = (127.0, 128.0, 7.0, 8.0, 448.0, 240.0, 57344.0)
"""What the greatest magnitude may become."""
_DEQUANTISED = ((127.0, -128.0, 127.0), (127.0, -127.0, 127.0), (7.0, -8.0, 7.0), (448.0, 0.0, 0.0))
"""What the greatest magnitude becomes, and where numbers end; the last one is float8."""


def quantised(case: Case, parent: Parent) -> Proposal | None:
    """Integers or float8 made of the parent with a scale for the tensor, each row, or each run in a row."""
    if parent.spec.dtype not in _SOURCES or len(case.spec.shape) < 2:
        return None
    if case.spec.dtype == "U8" and parent.spec.num_elements == 2 * case.spec.num_elements:
        return case.best(_in_nibbles(case, parent), _EXACT)
    if case.spec.num_elements != parent.spec.num_elements or case.spec.dtype not in _TOPS:
        return None
    return case.best(_narrowed(case, parent), _EXACT)


def scales(case: Case, parent: Parent) -> Proposal | None:
    """What is stored beside such integers: a scale for each row of the parent, or for each run in a row."""
    spec, count = case.spec, max(1, case.spec.num_elements)
    run = parent.spec.num_elements // count
    whole = run * count == parent.spec.num_elements and shape_of(parent.spec)[1] % max(1, run) == 0
    if not whole or not 1 < run <= 1 << 16 or {spec.dtype, parent.spec.dtype} - set(_SOURCES):
        return None
    return case.best(_of_runs(case, parent, run), _EXACT)


def _of_runs(case: Case, parent: Parent, run: int) -> Iterator[Proposal]:
    spec = case.spec
    rows, columns = Term(0, shape_of(spec)[1] * run), Term(0, run)
    high, low = (extreme(kind, 0, parent, run, rows, columns) for kind in (_GREATEST, _LEAST))
    top = extreme(_MAGNITUDE, 0, parent, run, rows, columns)
    found = [div(top, const(most)) for most in _MOSTS]
    found += [top, div(sub(high, low), const(255)), div(sub(high, low), const(15))]
    found += [div(const(most), top) for most in _MOSTS]
    for steps in found:
        yield propose(spec, (parent,), to_dtype(steps, "F32", spec.dtype))


def dequantised(case: Case, parent: Parent) -> Proposal | None:
    """Floats that are the parent after rounding to such a grid."""
    same = case.spec.num_elements == parent.spec.num_elements
    if not same or {case.spec.dtype, parent.spec.dtype} - set(_SOURCES) or len(case.spec.shape) < 2:
        return None
    if not _few_values(case):
        return None
    return case.best(_turned_back(case, parent), _EXACT)


def _few_values(case: Case) -> bool:
    """Whether neighbours repeat each other more than weights do: the first ones of a row are looked at."""
    some = case.floats[: min(_LOOKED_AT, shape_of(case.spec)[1])]
    return len(np.unique(np.abs(some))) < _DISTINCT[case.spec.dtype] * len(some)


def extreme(kind: int, number: int, parent: Parent, run: int, rows: Term, columns: Term) -> Steps:
    """The greatest magnitude, greatest or least of runs of neighbours."""
    operands = (number, DTYPES.index(parent.spec.dtype), kind, run, 1)
    return (Step(Op.EXTREME, operands, rows, columns),)


def _scales(spec: TensorSpec, parent: Parent, kind: int = _MAGNITUDE) -> Iterator[Steps]:
    """The extremes that scales are made of: of each row, of the tensor, of each run of a row."""
    columns = shape_of(spec)[1]
    if columns <= 1 << 16:
        yield extreme(kind, 0, parent, columns, Term(0, columns), Term())
    yield const(_of_all(parent, kind))
    for group in _GROUPS:
        if columns % group == 0 and columns > group:
            yield extreme(kind, 0, parent, group, Term(0, columns), Term(0, group, group))


def _of_all(parent: Parent, kind: int) -> float:
    values = as_floats(parent.bits, parent.spec.dtype)
    if kind == _MAGNITUDE:
        return float(max(values.max(), -values.min()))
    return float(values.max() if kind == _GREATEST else values.min())


def _rounded(loaded: Steps, top: Steps, most: float, low: float, high: float) -> Iterator[Steps]:
    """The parent over a scale, to the nearest integer, within bounds: in the usual orders of operations."""
    scale = div(top, const(most))
    quotients = (
        div(loaded, scale),
        mul(loaded, div(const(most), top)),
        mul(loaded, div(const(1), scale)),
    )
    for quotient in quotients:
        whole = after(quotient, Op.RINT)
        yield after(whole, Op.CLIP, low, high)


def _narrowed(case: Case, parent: Parent) -> Iterator[Proposal]:
    spec = case.spec
    loaded = floats(0, parent, spec)
    if spec.dtype == "U8":
        yield from _with_zero_point(case, parent, loaded)
        return
    if spec.dtype.startswith("F8"):
        yield from _small_floats(case, parent, loaded)
        return
    for top, most in product(_scales(spec, parent), _TOPS[spec.dtype]):
        for steps in _rounded(loaded, top, most, -128.0, 127.0):
            yield propose(spec, (parent,), to_dtype(steps, "F32", spec.dtype))


def _small_floats(case: Case, parent: Parent, loaded: Steps) -> Iterator[Proposal]:
    spec = case.spec
    for top, most in product(_scales(spec, parent), _TOPS[spec.dtype]):
        for steps in (div(loaded, div(top, const(most))), mul(loaded, div(const(most), top))):
            clipped = after(steps, Op.CLIP, -most, most)
            yield propose(spec, (parent,), to_dtype(clipped, "F32", spec.dtype))


def _with_zero_point(case: Case, parent: Parent, loaded: Steps) -> Iterator[Proposal]:
    """Bytes with a zero point, between the least and the greatest weight."""
    spec = case.spec
    for high, low in zip(_scales(spec, parent, _GREATEST), _scales(spec, parent, _LEAST), strict=True):
        scale = div(sub(high, low), const(255))
        zero = after(div(mul(low, const(-1)), scale), Op.RINT)
        quotient = after(div(loaded, scale), Op.RINT)
        for whole in (add(quotient, zero), after(div(sub(loaded, low), scale), Op.RINT)):
            clipped = after(whole, Op.CLIP, 0.0, 255.0)
            yield propose(spec, (parent,), to_dtype(clipped, "F32", "U8"))


def _in_nibbles(case: Case, parent: Parent) -> Iterator[Proposal]:
    """Two numbers of 4 bits a byte: neighbours, or the halves of a row; the first one low or high."""
    spec = case.spec
    rows, columns = shape_of(parent.spec)
    if 2 * shape_of(spec)[1] != columns or shape_of(spec)[0] != rows:
        return
    dtype = parent.spec.dtype
    for group, most in product((*_GROUPS, columns), (7.0, 8.0)):
        if columns % group:
            continue
        halves = []
        for start in (0, 1):
            columns_term = Term(start, 2)
            loaded = (Step(Op.LOAD, (0, DTYPES.index(dtype)), Term(0, columns), columns_term),)
            block = Term(0, group, group // 2) if group < columns else Term()
            top = extreme(_MAGNITUDE, 0, parent, group, Term(0, columns), block)
            halves.append((to_dtype(loaded, dtype, "F32"), top))
        for way, signed, swapped in product(range(3), (False, True), (False, True)):
            nibbles = [
                _nibble(list(_rounded(loaded, top, most, -8.0, 7.0))[way], signed) for loaded, top in halves
            ]
            low, high = nibbles[::-1] if swapped else nibbles
            yield propose(spec, (parent,), (*low, *high, Step(Op.PACK, (4,))))


def _nibble(whole: Steps, signed: bool) -> Steps:
    """An integer of -8..7 as 4 bits of a byte: two's complement, or 8 more than it is."""
    shifted = add(whole, const(8))
    if not signed:
        return to_dtype(shifted, "F32", "U8")
    turns = after(div(whole, const(16)), Op.FLOOR)
    wrapped = sub(whole, mul(const(16), turns))
    return to_dtype(wrapped, "F32", "U8")


def _turned_back(case: Case, parent: Parent) -> Iterator[Proposal]:
    spec = case.spec
    loaded = floats(0, parent, spec)
    for top, (most, low, high) in product(_scales(spec, parent), _DEQUANTISED):
        scale = div(top, const(most))
        if low == high:
            clipped = after(div(loaded, scale), Op.CLIP, -most, most)
            ways = [to_dtype(to_dtype(clipped, "F32", "F8_E4M3"), "F8_E4M3", "F32")]
        else:
            ways = list(_rounded(loaded, top, most, low, high))
        for whole in ways:
            yield propose(spec, (parent,), to_dtype(mul(whole, scale), "F32", spec.dtype))
