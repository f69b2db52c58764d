"""A parent and an update of low rank: a merged adapter that is not in the store."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import (
    F64,
    Parent,
    Proposal,
    add,
    as_floats,
    const,
    f32_literal,
    floats,
    mul,
    propose,
    shape_of,
    to_dtype,
)
from pbstore.codecs.derive.grammar import DTYPES, FACTOR_DTYPES, Op, Step
from pbstore.codecs.types import CodecError, TensorSpec

_PROBE = 72
_MOST_RANK = 48
_DROP = 0.1
"""A singular value below this part of the one before it ends the rank."""
_SPARE = 8
_UNCHANGED, _ROUNDING = 0.3, 2.0**-19
"""A product of thin matrices changes more of the weights, and by more of their size."""
_LEAST_SIDE = 128
_NOISE = 2.0**-22
"""What rounding leaves of a weight, at most."""


def low_rank(case: Case, parent: Parent) -> Proposal | None:
    """The parent plus a product of two thin matrices, None if the difference has no small rank."""
    rows, columns = shape_of(case.spec)
    same = parent.spec.num_elements == case.spec.num_elements and len(case.spec.shape) == 2
    if not same or min(rows, columns) < _LEAST_SIDE or {case.spec.dtype, parent.spec.dtype} != {"F32"}:
        return None
    new, old = case.bits.reshape(rows, columns), parent.bits.reshape(rows, columns)
    some = np.ix_(_spread(rows), _spread(columns))
    probed = _difference(new[some], old[some])
    size = np.abs(as_floats(np.ascontiguousarray(old[some]), "F32"))
    if np.mean(np.abs(probed) <= _ROUNDING * size) > _UNCHANGED:
        return None
    noise = _NOISE * float(np.sqrt(np.mean(size**2) * sum(probed.shape)))
    rank = _rank(probed, noise)
    if rank is None or 4 * rank * (rows + columns) > rows * columns:
        return None
    up, down = _factors(_difference(new, old), rank)
    product = (Step(Op.LOW_RANK, (0, 1, rank)),)
    total = to_dtype(add(floats(0, parent, case.spec), product), "F32", case.spec.dtype)
    literals = (f32_literal(up), f32_literal(down))
    return case.best([propose(case.spec, (parent,), total, literals=literals)], 0.2)


class Grouped(NamedTuple):
    """Where in groups of tensors the factors of a stored adapter lie, bytes, and their rank."""

    down: int
    up: int
    rank: int


def merged(
    spec: TensorSpec, weight: Parent, down: Parent, up: Parent, scale: float, group: Grouped
) -> Proposal | None:
    """A weight with a stored adapter merged into it: weight + scale * (up @ down); None if they do not fit.

    Args:
        spec: Of the result, (rows, columns).
        weight: Of the same shape.
        down: The group that holds (rank, columns) somewhere.
        up: The group, perhaps the same one, that holds (rows, rank).
        scale: Factor of the product.
        group: Where in them.
    """
    dtypes = {spec.dtype, weight.spec.dtype, down.spec.dtype, up.spec.dtype}
    if len(spec.shape) != 2 or weight.spec.shape != spec.shape or not dtypes <= set(FACTOR_DTYPES):
        return None
    if group.down % down.spec.item_bytes or group.up % up.spec.item_bytes:
        return None
    parents = (weight, down) if down.block_id == up.block_id else (weight, down, up)
    places = [
        (number, DTYPES.index(parent.spec.dtype), offset // parent.spec.item_bytes)
        for number, parent, offset in ((len(parents) - 1, up, group.up), (1, down, group.down))
    ]
    product = (Step(Op.FACTORS, (*places[0], *places[1], group.rank)),)
    total = add(mul(product, const(scale)), floats(0, weight, spec))
    try:
        return propose(spec, parents, to_dtype(total, "F32", spec.dtype))
    except CodecError:  # they are of other sizes
        return None


def _difference(new: np.ndarray, old: np.ndarray) -> F64:
    return as_floats(np.ascontiguousarray(new), "F32") - as_floats(np.ascontiguousarray(old), "F32")


def _spread(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, _PROBE).astype(np.intp))


def _rank(difference: F64, noise: float) -> int | None:
    """Number of singular values that stand out of noise, None if none do or others are more than noise."""
    if not np.all(np.isfinite(difference)) or not np.any(difference):
        return None
    sizes = np.linalg.svd(difference, compute_uv=False)
    drops = np.flatnonzero(sizes[1 : _MOST_RANK + 1] < _DROP * sizes[:_MOST_RANK])
    return int(drops[0]) + 1 if len(drops) and sizes[drops[0] + 1] < noise else None


def _factors(difference: F64, rank: int) -> tuple[F64, F64]:
    """Two thin matrices whose product is nearest, (rows, rank) and (rank, columns)."""
    start = np.random.default_rng(0).normal(size=(difference.shape[1], rank + _SPARE))
    basis, _ = np.linalg.qr(difference @ start)
    basis, _ = np.linalg.qr(difference @ (difference.T @ basis))
    left, sizes, right = np.linalg.svd(basis.T @ difference, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    return (basis @ left[:, :rank]) * root, right[:rank] * root[:, None]
