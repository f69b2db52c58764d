"""The same elements in other places: transposed, cut out of columns or rows, columns and rows permuted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import Uints
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import Parent, Proposal, Steps, load, propose, shape_of, to_dtype
from pbstore.codecs.derive.grammar import Literal, Term
from pbstore.codecs.derive.narrow import cast

_EXACT = 0.9
_PATTERN = 16
_WIDER = (("F32", "F64"), ("BF16", "F32"), ("F16", "F32"), ("BF16", "F64"), ("F16", "F64"))
Keys = npt.NDArray[np.uint64]


def moved(case: Case, parent: Parent) -> Proposal | None:
    """The tensor as elements of a parent in other places, None if it is none."""
    if len(case.spec.shape) > 2 or not case.spec.shape:
        return None
    return case.best(_places(case, parent), _EXACT)


def transposed(case: Case, parent: Parent) -> Proposal | None:
    """The parent transposed, perhaps in another dtype."""
    spec = case.spec
    if len(spec.shape) != 2 or parent.spec.shape != spec.shape[::-1]:
        return None
    turned = load(0, parent.spec.dtype, Term(0, 1), Term(0, spec.shape[0]))
    return case.best([propose(spec, (parent,), to_dtype(turned, parent.spec.dtype, spec.dtype))], 0.3)


def _places(case: Case, parent: Parent) -> Iterator[Proposal]:
    spec = case.spec
    if parent.spec.num_elements > spec.num_elements:
        yield from _cut_out(case, parent)
    same = parent.spec.dtype == spec.dtype and parent.spec.num_elements == spec.num_elements
    if same and _sum(parent.bits) == _sum(case.bits):
        yield from _permuted(case, parent)


def _sum(bits: Uints) -> int:
    """The same in whatever order elements stand."""
    return int(np.sum(bits, dtype=np.uint64))


def _cut_out(case: Case, parent: Parent) -> Iterator[Proposal]:
    """A rectangle of the parent, perhaps in a wider dtype, found by the first elements of the tensor."""
    spec, wide = case.spec, shape_of(parent.spec)[1]
    columns = shape_of(spec)[1]
    if columns > wide:
        return
    pattern = _as_in(parent, case.bits[: min(_PATTERN, columns)], spec.dtype)
    if pattern is None:
        return
    have = parent.bits
    starts = np.flatnonzero(have[: len(have) - len(pattern) + 1] == pattern[0])
    for offset in range(1, len(pattern)):
        starts = starts[have[starts + offset] == pattern[offset]]
    for start in starts[:4].tolist():
        found = _load(parent, Term(start, wide), Term(0, 1))
        yield propose(spec, (parent,), to_dtype(found, parent.spec.dtype, spec.dtype))


def _as_in(parent: Parent, bits: Uints, dtype: str) -> Uints | None:
    """Elements in a parent's dtype; None if it is not known to hold them."""
    source = parent.spec.dtype
    if source == dtype:
        return bits
    if (source, dtype) not in _WIDER:
        return None
    single = bits if dtype == "F32" else cast(bits.view(np.float64), "F64", "F32").view(np.uint32)
    return single if source == "F32" else cast(single.view(np.float32), "F32", source)


def _load(parent: Parent, rows: Term, columns: Term) -> Steps:
    return load(0, parent.spec.dtype, rows, columns)


def _permuted(case: Case, parent: Parent) -> Iterator[Proposal]:
    """Rows and columns in another order, found by sums over each that do not depend on the other's order."""
    spec = case.spec
    rows, columns = shape_of(spec)
    if shape_of(parent.spec) != (rows, columns):
        return
    new, old = _mixed(case.bits).reshape(rows, columns), _mixed(parent.bits).reshape(rows, columns)
    row_map = _match(new.sum(axis=1, dtype=np.uint64), old.sum(axis=1, dtype=np.uint64))
    column_map = _match(new.sum(axis=0, dtype=np.uint64), old.sum(axis=0, dtype=np.uint64))
    if row_map is None or column_map is None:
        return
    literals: list[Literal] = []
    terms = []
    for found, step in ((row_map, columns), (column_map, 1)):
        if np.array_equal(found, np.arange(len(found))):
            terms.append(Term(0, step))
        else:
            terms.append(Term(0, step, 1, len(literals)))
            literals.append(Literal("U32", found.astype(np.uint32)))
    yield propose(spec, (parent,), _load(parent, *terms), literals=literals)


def _mixed(bits: Uints) -> Keys:
    """A hash of each element."""
    keys = bits.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(29)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(32)
    return keys


def _match(new: Keys, old: Keys) -> npt.NDArray[np.intp] | None:
    """For each key the place of an equal one among the old ones; None if some have none."""
    order = np.argsort(old, kind="stable")
    place = np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)
    found: npt.NDArray[np.intp] = order[place]
    return found if np.array_equal(old[found], new) else None
