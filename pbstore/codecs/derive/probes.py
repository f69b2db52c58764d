"""Which of many tensors one may be a merge of, by a few exact elements of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.derive.draft import F64, as_floats
from pbstore.codecs.derive.narrow import cast
from pbstore.codecs.sketch import probed
from pbstore.codecs.types import DTYPE_BITS, HEAD_BYTES, Buffer, TensorSpec

T = TypeVar("T")
_FITS = 1e-3
"""Part of a difference that other differences may leave unexplained in float32."""
_LOW_FITS = 0.4
"""The same where the merge was rounded to 16 bits."""
_MUCH_BETTER = 0.25
"""One tensor is enough where a second one leaves more than this part of what it leaves."""
_SAME = 2e-2
_CHANCE, UNKNOWN = 0.5, 2.0
"""Unlikeness from which on two probes are alike by chance only, and what is said of these."""
_LEAST_HITS, _HALF = 3, 0.5
_ROUGH = ("I8", "U8", "F8_E4M3", "F8_E5M2")
_KINDS = ("F32", "BF16", "F16", "F64")
_LEAST_ITEM = 4
"""Of shorter elements any tensor holds any."""
_KEY_BITS, _TILE = 16, 1 << 16


def values_of(probe: bytes, dtype: str) -> F64 | None:
    """Elements of a probe; None if it is none of floats."""
    return _floats(probe, dtype) if dtype in _KINDS else None


def _floats(probe: bytes, dtype: str) -> F64 | None:
    """Elements of a probe as numbers, None if it is damaged."""
    body, item = probe[HEAD_BYTES:], DTYPE_BITS[dtype] // 8
    return as_floats(np.frombuffer(body, UINT[item]), dtype) if body and len(body) % item == 0 else None


def unlikeness(one: bytes, dtype: str, other: bytes | None, other_dtype: str) -> float:
    """How far one probe is from a multiple of another: 0 is one; 2 if it is none, or that is not known.

    What was set to zero does not count. Rows of a tensor that was cut lie elsewhere in a relative: their
    probes say nothing.
    """
    if other is None or {dtype, other_dtype} - {*_KINDS, *_ROUGH}:
        return UNKNOWN
    first, second = _floats(one, dtype), _floats(other, other_dtype)
    if first is None or second is None or len(first) != len(second):
        return UNKNOWN
    kept = first != 0
    if np.count_nonzero(kept) >= _LEAST_HITS:
        first, second = first[kept], second[kept]
    with np.errstate(all="ignore"):
        size = float((first @ first) * (second @ second))
        found = 1 - float(first @ second) ** 2 / size if 0 < size < np.inf else UNKNOWN
    return found if found < _CHANCE else UNKNOWN


def holding(raw: Buffer, dtype: str, others: Sequence[tuple[bytes | None, str]]) -> list[bool]:
    """Of which others a tensor may hold elements, wherever they stand; of what has no probe, it may.

    Elements are looked for as they are, in the tensor's dtype, and halved, as doubled layers have them.

    Args:
        raw: The tensor's bytes.
        dtype: Its dtype.
        others: Probes of others, and their dtypes.
    """
    bits = np.frombuffer(raw, UINT[DTYPE_BITS[dtype] // 8])
    looked_for = [_as_in(one, other_dtype, dtype) for one, other_dtype in others]
    every = [some for some in looked_for if some is not None]
    if bits.itemsize < _LEAST_ITEM or not every:
        return [True] * len(others)
    held = _held(bits, np.unique(np.concatenate(every)))
    return [some is None or int(np.count_nonzero(np.isin(some, held))) >= _LEAST_HITS for some in looked_for]


def _as_in(one: bytes | None, source: str, dtype: str) -> Uints | None:
    """Elements of a probe, and their halves, as bits of a dtype; None if they are not to be looked for."""
    values = None if one is None or {source, dtype} - set(_KINDS) else values_of(one, source)
    if values is None:
        return None
    return _bits_in(np.concatenate([values[values != 0], values[values != 0] / 2]), dtype)


def _bits_in(values: F64, dtype: str) -> Uints:
    """Elements as bits of a dtype."""
    if dtype == "F64":
        return values.view(np.uint64)
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
    found = single if dtype == "F32" else cast(single, "F32", dtype)
    bits: Uints = found.view(UINT[DTYPE_BITS[dtype] // 8])
    return bits


def begins_a_row(raw: Buffer, spec: TensorSpec, one: bytes, other: TensorSpec) -> bool:
    """Whether a row of a tensor begins with the first elements of another one, cast to its dtype.

    Args:
        raw: The tensor's bytes.
        spec: Its dtype and shape.
        one: Probe of the other one.
        other: Its dtype and shape.
    """
    source = other.dtype
    if {source, spec.dtype} - {*_KINDS, *_ROUGH}:
        return False
    head = np.frombuffer(one[:HEAD_BYTES], UINT[DTYPE_BITS[source] // 8])
    wanted = _bits_in(as_floats(head, source), spec.dtype)
    table = np.frombuffer(raw, UINT[spec.item_bytes]).reshape(-1, spec.shape[-1])
    found = np.flatnonzero(table[:, 0] == wanted[0])
    return bool(np.any(np.all(table[found, : len(wanted)] == wanted, axis=1)))


def lies_along(raw: Buffer, spec: TensorSpec, one: bytes, other: TensorSpec) -> bool:
    """Whether rows of a tensor are, cast to its dtype, rows of another, all moved by as many.

    What the other one has behind the greatest power of two of its elements has no probe, and is not known.

    Args:
        raw: The tensor's bytes.
        spec: Its dtype and shape, with two axes at least.
        one: Probe of the other one.
        other: Its dtype and shape; rows are as long.
    """
    if {other.dtype, spec.dtype} - {*_KINDS, *_ROUGH}:
        return False
    values = _floats(one, other.dtype)
    if values is None:
        return False
    width = spec.shape[-1]
    telling = values != 0
    values, (rows, columns) = values[telling], np.divmod(probed(other)[: len(telling)][telling], width)
    if not len(values):
        return False
    table = np.frombuffer(raw, UINT[spec.item_bytes]).reshape(-1, width)
    found = [
        np.flatnonzero(table[:, column] == bits) - row
        for row, column, bits in zip(rows, columns, _bits_in(values, spec.dtype), strict=True)
    ]
    counts = np.unique(np.concatenate(found), return_counts=True)[1]
    expected = len(values) * min(1.0, spec.num_elements / (1 << (other.num_elements.bit_length() - 1)))
    return bool(np.any(counts >= max(_LEAST_HITS, _HALF * expected)))


def _held(bits: Uints, wanted: Uints) -> Uints:
    """Those of some elements that a tensor holds."""
    known = np.zeros(1 << _KEY_BITS, np.bool_)
    known[_key(wanted)] = True
    found = [np.empty(0, bits.dtype)]
    for begin in range(0, len(bits), _TILE):
        some = bits[begin : begin + _TILE]
        found.append(some[known[_key(some)]])
    return np.intersect1d(np.concatenate(found), wanted)


def _key(bits: Uints) -> Uints:
    """A few bits of a hash of each element."""
    kind, width = bits.dtype.type, 8 * bits.itemsize
    odd = kind(0x9E3779B97F4A7C15 >> (64 - width) | 1)
    keys: Uints = (bits * odd) >> kind(width - _KEY_BITS)
    return keys


def rounded(values: F64, dtype: str) -> F64:
    """What is left of elements in a dtype."""
    if dtype == "F64":
        return values
    single = values.astype(np.float32)
    return single.astype(np.float64) if dtype == "F32" else as_floats(cast(single, "F32", dtype), dtype)


@np.errstate(all="ignore")
def likely(wanted: F64, base: F64, others: Sequence[tuple[T, F64]], dtype: str) -> list[T]:
    """At most two tensors whose differences to a base explain that of a wanted one; none if none do.

    Args:
        wanted: Elements of the tensor, (n,).
        base: The same elements of the base.
        others: The same of others.
        dtype: Of the tensor.
    """
    known = [(one, values - base) for one, values in others if len(values) == len(base)]
    known = [(one, step) for one, step in known if np.any(step) and np.all(np.isfinite(step))]
    moved = wanted - rounded(base, dtype)
    total = float(moved @ moved)
    if not known or not total or not np.isfinite(total):
        return []
    fits = _FITS if dtype in ("F32", "F64") else _LOW_FITS
    chosen: list[tuple[T, F64]] = []
    rest, sizes_left = moved, []
    for _ in range(min(2, len(known))):
        steps = np.stack([step for _, step in known])
        sizes = np.einsum("ij,ij->i", steps, steps)
        gains = (steps @ rest) ** 2 / np.where(sizes > 0, sizes, 1)
        chosen.append(known[int(np.argmax(gains))])
        basis = np.stack([step for _, step in chosen], axis=1)
        try:
            factors, *_ = np.linalg.lstsq(basis, moved, rcond=None)
        except np.linalg.LinAlgError:  # numbers too far apart
            return []
        rest = moved - basis @ factors
        sizes_left.append(float(rest @ rest) / total)
    for count, left in enumerate(sizes_left, 1):
        if left <= _FITS or (left <= fits and sizes_left[-1] >= _MUCH_BETTER * left):
            return [one for one, _ in chosen[:count]]
    return _masked(wanted, moved, known)


def _masked(wanted: F64, moved: F64, known: Sequence[tuple[T, F64]]) -> list[T]:
    """The tensor whose difference is a multiple of the wanted one's wherever that is not zero."""
    clear = np.abs(moved) > 2.0**-20 * np.abs(wanted)
    if np.count_nonzero(clear) < _LEAST_HITS or np.all(clear):
        return []
    for one, step in known:
        ratio = moved[clear] / step[clear]
        middle = np.median(ratio)
        if np.isfinite(middle) and np.mean(np.abs(ratio / middle - 1) < _SAME) > 0.8:
            return [one]
    return []
