"""Pruned weights: zero as a second prediction, or as what a limit or a count of neighbours leaves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    Parent,
    Proposal,
    after,
    as_floats,
    const,
    floats,
    mul,
    propose,
    to_dtype,
)
from pbstore.codecs.derive.grammar import Op

_LEAST_ZEROS = 0.02
_LEAST_SHARE = 0.5
_GROUPS = ((2, 4), (4, 8), (1, 2), (1, 4))


def pruned(case: Case, parent: Parent) -> Proposal | None:
    """The parent with some weights set to zero, None if it is not so."""
    values, base = case.floats, case.of(parent)
    zero = (values == 0) & (base != 0)
    if np.mean(zero) < _LEAST_ZEROS:
        return None
    return case.best(_ways(case, parent, zero, base), _LEAST_SHARE)


def _ways(case: Case, parent: Parent, zero: np.ndarray, base: np.ndarray) -> Iterator[Proposal]:
    spec = case.spec
    loaded = floats(0, parent, spec)
    sign = int(np.any(case.some[zero] != 0))
    size = np.abs(base)
    if size[zero].max() <= size[~zero].min(initial=np.inf):
        limit = _limit(case, parent)
        if limit is not None:
            kept = after(loaded, Op.KEEP_LARGE, sign, limit)
            yield propose(spec, (parent,), to_dtype(kept, "F32", spec.dtype))
    for n, m in _GROUPS:
        if spec.shape and spec.shape[-1] % m == 0 and _in_groups(zero, m - n, m):
            kept = after(loaded, Op.KEEP_MOST, sign, n, m)
            yield propose(spec, (parent,), to_dtype(kept, "F32", spec.dtype))
    none = mul(loaded, const(0)) if sign else const(0)
    yield propose(spec, (parent,), to_dtype(loaded, "F32", spec.dtype), to_dtype(none, "F32", spec.dtype))


def _in_groups(zero: np.ndarray, zeros: int, size: int) -> bool:
    """Whether nearly all groups of neighbours have so many zeros."""
    groups = zero[: len(zero) // size * size].reshape(-1, size)
    return bool(np.mean(np.count_nonzero(groups, axis=1) == zeros) > 0.9)


def _limit(case: Case, parent: Parent) -> float | None:
    """The least magnitude that is kept in the whole tensor, as float32; None if nothing is."""
    if parent.spec.dtype != case.spec.dtype:
        return None
    bits = parent.bits
    item = bits.dtype.type
    size = bits & item((1 << 8 * bits.itemsize - 1) - 1)
    kept = size[(case.bits & item((1 << 8 * bits.itemsize - 1) - 1)) != 0]
    if not len(kept):
        return None
    least = np.array([kept.min()], bits.dtype)
    return float(as_floats(least, parent.spec.dtype)[0])
