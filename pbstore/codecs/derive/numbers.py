"""One parent, element by element: chains of casts, and products with a number or a vector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    F64,
    FLOAT_DTYPES,
    Parent,
    Proposal,
    Steps,
    after,
    as_floats,
    const,
    div,
    f32_literal,
    floats,
    mul,
    narrow,
    propose,
    shape_of,
    straight,
    to_dtype,
    vector,
    wide,
)
from pbstore.codecs.derive.grammar import Op

_THROUGH = ("F16", "BF16", "F8_E4M3", "F8_E5M2")
_LOW_BITS = {"F32": 12, "F64": 41, "F16": 3}
"""Lowest bits that a narrower dtype leaves zero."""
_CAST_SHARE = 0.3
_EXACT = 0.5
_ROWS_LOOKED_AT, _FEW = 48, 8
_SPREAD = 2.0**-18
"""How much ratios that rounding alone spreads may differ from their median, in float32."""
_LOW_SPREAD = {"F32": _SPREAD, "F64": _SPREAD, "F16": 2.0**-9, "BF16": 2.0**-6}


def recast(case: Case, parent: Parent) -> Proposal | None:
    """The parent in another dtype, or through another one and back."""
    if parent.spec.dtype not in FLOAT_DTYPES or case.spec.dtype not in FLOAT_DTYPES:
        return None
    return case.best(_casts(case, parent), _CAST_SHARE)


def _casts(case: Case, parent: Parent) -> Iterator[Proposal]:
    spec, source = case.spec, parent.spec.dtype
    loaded = straight(0, parent, spec)
    if source != spec.dtype:
        yield propose(spec, (parent,), to_dtype(loaded, source, spec.dtype))
    if not _ends_in_zeros(case):
        return
    wide_enough = to_dtype(loaded, source, "F32")
    if source in ("F32", "F64"):
        cut = after(wide_enough, Op.TRUNCATE)
        yield propose(spec, (parent,), to_dtype(cut, "BF16", spec.dtype))
    for through in _THROUGH:
        if through not in (source, spec.dtype):
            there = to_dtype(wide_enough, "F32", through)
            yield propose(spec, (parent,), to_dtype(there, through, spec.dtype))


def _ends_in_zeros(case: Case) -> bool:
    """Whether most weights have fewer digits than their dtype has room for, or another dtype cut them."""
    low = _LOW_BITS.get(case.spec.dtype)
    if low is None:
        return case.spec.dtype in ("BF16", "F8_E4M3", "F8_E5M2")
    mask = case.some.dtype.type((1 << low) - 1)
    return bool(np.mean((case.some & mask) == 0) > _EXACT)


def scaled(case: Case, parent: Parent) -> Proposal | None:
    """The parent times a number, or times a number for each column or row."""
    spec = case.spec
    if spec.dtype not in _LOW_SPREAD or parent.spec.dtype not in _LOW_SPREAD:
        return None
    values, base = case.floats, case.of(parent)
    large = np.abs(base) > np.median(np.abs(base))
    if np.count_nonzero(large) < 16 or not np.all(np.isfinite(values)):
        return None
    ratio = values[large] / base[large]
    factor, spread = float(np.median(ratio)), _LOW_SPREAD[spec.dtype]
    if factor and factor != 1 and np.mean(np.abs(ratio / factor - 1) < spread) > 0.9:
        return case.best(_by_number(case, parent, factor), _EXACT)
    return case.best(_by_vector(case, parent, spread), _EXACT)


def _by_number(case: Case, parent: Parent, factor: float) -> Iterator[Proposal]:
    spec = case.spec
    loaded = floats(0, parent, spec)
    for one in dict.fromkeys((*(round(factor, digits) for digits in (1, 2, 3, 4)), factor)):
        if not np.isclose(one, factor, rtol=2 * _LOW_SPREAD[spec.dtype]) or not one:
            continue
        yield propose(spec, (parent,), to_dtype(mul(loaded, const(one)), "F32", spec.dtype))
        yield propose(spec, (parent,), to_dtype(div(loaded, const(1 / one)), "F32", spec.dtype))
        inverse = round(1 / one, 4)
        yield propose(spec, (parent,), to_dtype(div(loaded, const(inverse)), "F32", spec.dtype))
        doubled = narrow(mul(wide(loaded), const(one, "F64")))
        yield propose(spec, (parent,), to_dtype(doubled, "F32", spec.dtype))


def _by_vector(case: Case, parent: Parent, spread: float) -> Iterator[Proposal]:
    spec = case.spec
    rows, columns = shape_of(spec)
    if len(spec.shape) < 2 or min(rows, columns) < 8:
        return
    values, base = _matrix(case.bits, spec.dtype, rows), _matrix(parent.bits, parent.spec.dtype, rows)
    for by_row in (False, True):
        step = max(1, (columns if by_row else rows) // _ROWS_LOOKED_AT)
        some = (values[:, ::step].T, base[:, ::step].T) if by_row else (values[::step], base[::step])
        if not _one_factor(case, parent, some, spread):
            continue
        factors = _ratios(as_floats(some[0], spec.dtype), as_floats(some[1], parent.spec.dtype), spread)
        if factors is None:
            continue
        literal = f32_literal(factors)
        for product in _products(floats(0, parent, spec), vector(0, by_row=by_row)):
            steps = to_dtype(product, "F32", spec.dtype)
            yield propose(spec, (parent,), steps, literals=(literal,))


def _one_factor(case: Case, parent: Parent, some: tuple[np.ndarray, np.ndarray], spread: float) -> bool:
    """Whether a few columns have one factor each, as far as a few rows show."""
    few = slice(None, None, max(1, some[0].shape[1] // _FEW))
    values, base = (
        as_floats(np.ascontiguousarray(bits[:_FEW, few]), kind)
        for bits, kind in zip(some, (case.spec.dtype, parent.spec.dtype), strict=True)
    )
    with np.errstate(all="ignore"):
        ratio = values / base
        near = np.abs(ratio / np.median(ratio, axis=0) - 1) < spread
    return bool(np.mean(near) > _EXACT)


def _products(loaded: Steps, factors: Steps) -> Iterator[Steps]:
    yield mul(loaded, factors)
    yield narrow(mul(wide(loaded), wide(factors)))


def _matrix(bits: np.ndarray, dtype: str, rows: int) -> np.ndarray:
    return np.ascontiguousarray(bits).reshape(rows, -1)


def _ratios(values: F64, base: F64, spread: float) -> F64 | None:
    """A factor for each column that gives values from a base, by some of its rows; None if none does."""
    with np.errstate(all="ignore"):
        ratio = values / base
    ratio[~np.isfinite(ratio) | (np.abs(base) < np.median(np.abs(base)) * 0.3)] = np.nan
    if np.any(np.all(np.isnan(ratio), axis=0)):
        ratio = np.where(np.all(np.isnan(ratio), axis=0), 0.0, ratio)
    middle = np.nanmedian(ratio, axis=0)
    with np.errstate(all="ignore"):
        near = np.abs(ratio / middle - 1) < spread
    known = ~np.isnan(ratio)
    if np.count_nonzero(near & known) < 0.9 * np.count_nonzero(known):
        return None
    return _sharpened(values, base, middle)


def _sharpened(values: F64, base: F64, factors: F64) -> F64:
    """Of each factor and its neighbours in float32, the one that gives most of the values exactly."""
    best = np.full(factors.shape, -1)
    chosen = factors.astype(np.float32)
    start = chosen.copy()
    target, source = values.astype(np.float32), base.astype(np.float32)
    for nudge in (0, 1, -1, 2, -2):
        trial = start + np.float32(nudge) * np.spacing(start)
        right = np.count_nonzero(source * trial == target, axis=0)
        better = right > best
        chosen[better], best[better] = trial[better], right[better]
    return chosen.astype(np.float64)
