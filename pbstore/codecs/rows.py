"""Rows of one tensor found in others: what was inserted, moved, cut out or fused.

A row's key is a hash of at most eight of its elements. Keys that meet by chance do no harm: the difference to
the found row is stored, so a wrong guess costs bytes, never truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import UINT
from pbstore.codecs.predict import LITERAL, make_runs
from pbstore.codecs.types import TensorSpec

Keys = npt.NDArray[np.uint64]
_ELEMENTS = 8
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def row_keys(raw: memoryview, spec: TensorSpec) -> Keys:
    """Key of each row, (rows,); empty where the tensor has no rows to speak of."""
    row_bytes = spec.row_bytes
    if not row_bytes or len(raw) < row_bytes:
        return np.empty(0, np.uint64)
    item = spec.item_bytes
    table = np.frombuffer(raw, UINT[item]).reshape(-1, row_bytes // item)
    keys = np.full(len(table), row_bytes * 8 + item, np.uint64)
    for column in _columns(table.shape[1]):
        keys ^= table[:, column].astype(np.uint64)
        keys *= _PRIME
        keys ^= keys >> np.uint64(29)
    return keys


@lru_cache(256)
def _columns(width: int) -> list[int]:
    """Elements of a row that make its key."""
    found: list[int] = np.unique(np.linspace(0, width - 1, _ELEMENTS).astype(np.intp)).tolist()
    return found


def find_runs(
    raw: memoryview, spec: TensorSpec, bases: Sequence[tuple[memoryview, TensorSpec]]
) -> tuple[npt.NDArray[np.void], float]:
    """Map the rows of a tensor to rows of the bases.

    Args:
        raw: The tensor.
        spec: Its dtype and shape.
        bases: Tensors of the same dtype and row length.

    Returns:
        Runs for `Runs`, in bytes, and the share of rows whose key was found.
    """
    keys = row_keys(raw, spec)
    base_keys = [row_keys(data, base_spec) for data, base_spec in bases]
    starts = np.cumsum([0] + [len(found) for found in base_keys])
    if not len(keys) or not starts[-1]:
        return make_runs([(LITERAL, 0, len(raw))]), 0.0
    found = _match(keys, np.concatenate(base_keys))
    share = float(np.mean(found >= 0))
    row, owner = spec.row_bytes, np.searchsorted(starts, _fill(found), side="right") - 1
    runs = []
    for begin, end, source in _segments(_fill(found), owner):
        base = int(owner[begin])
        offset = 0 if source < 0 else (source - int(starts[base])) * row
        runs.append((LITERAL if source < 0 else base, offset, (end - begin) * row))
    return make_runs(runs), share


def _match(keys: Keys, base_keys: Keys) -> npt.NDArray[np.int64]:
    """Row of the bases with the same key, -1 for none; a row that follows its predecessor's match wins."""
    order = np.argsort(base_keys, kind="stable")
    ranked = base_keys[order]
    place = np.minimum(np.searchsorted(ranked, keys), len(ranked) - 1)
    found = np.where(ranked[place] == keys, order[place], -1).astype(np.int64)
    repeated = np.flatnonzero((found >= 0) & (np.searchsorted(ranked, keys, side="right") - place > 1))
    for i in repeated.tolist():  # equal rows in the base: keep a run going where it can
        following = found[i - 1] + 1 if i and found[i - 1] >= 0 else -1
        if 0 <= following < len(base_keys) and base_keys[following] == keys[i]:
            found[i] = following
    return found


def _fill(found: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows that changed between two matches the same distance apart map to the rows between."""
    known = np.flatnonzero(found >= 0)
    if len(known) < 2:
        return found
    filled = found.copy()
    same = (np.diff(found[known]) == np.diff(known)) & (np.diff(known) > 1)
    for left, right in zip(known[:-1][same].tolist(), known[1:][same].tolist(), strict=True):
        filled[left:right] = np.arange(found[left], found[left] + right - left)
    return filled


def _segments(found: npt.NDArray[np.int64], owner: npt.NDArray[np.intp]) -> list[tuple[int, int, int]]:
    """Maximal runs (begin, end, first source row) within one base; source -1 for no match."""
    follows = np.where(found[1:] < 0, found[:-1] < 0, found[1:] == found[:-1] + 1) & (found[:-1] >= 0)
    follows |= (found[1:] < 0) & (found[:-1] < 0)
    follows &= owner[1:] == owner[:-1]
    cuts = np.concatenate([[0], np.flatnonzero(~follows) + 1, [len(found)]])
    return [(a, b, int(found[a])) for a, b in pairwise(cuts.tolist())]
