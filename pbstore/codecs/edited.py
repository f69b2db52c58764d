"""Opaque bytes as an edit of others: runs of the old ones, wherever they moved, and what is new between.

Old bytes are known by words of eight at multiples of eight; every place of the new ones is looked up, so that
an insertion of any length costs its own bytes and a word on each side.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pbstore.codecs.predict import LITERAL, Runs, make_runs
from pbstore.codecs.streams import Bytes

LEAST_BYTES, MOST_BYTES = 256, 1 << 18
"""Bytes of a block for which this pays: less than a record takes, and the longest piece of a text."""
_WORD = 8
_LEAST_RUN = 24
_MOST_LOOKS = 1024
_FIRST_WINDOW = 256


def edited(raw: memoryview, base: memoryview) -> Runs | None:
    """Bytes as runs of a base; None if they have none in common."""
    if min(len(raw), len(base)) < _LEAST_RUN:
        return None
    new, old = np.frombuffer(raw, np.uint8), np.frombuffer(base, np.uint8)
    found = _common(new, old)
    if not found:
        return None
    runs, position = [], 0
    for start, source, length in found:
        if start > position:
            runs.append((LITERAL, 0, start - position))
        runs.append((0, source, length))
        position = start + length
    if position < len(new):
        runs.append((LITERAL, 0, len(new) - position))
    return Runs((base,), 1, make_runs(runs))


def _common(new: Bytes, old: Bytes) -> list[tuple[int, int, int]]:
    """Start in the new bytes, start in the old ones, and length of common runs, ascending and apart."""
    source = _sources(new, old)
    known = np.flatnonzero(source >= 0)
    found: list[tuple[int, int, int]] = []
    end = shift = look = 0
    for _ in range(_MOST_LOOKS):
        at = int(np.searchsorted(known, look))
        if at == len(known):
            break
        place = int(known[at])
        begin = _nearest(new, old, place, int(source[place]), place + shift)
        length = _same(new[place:], old[begin:])
        back = _same(new[end:place][::-1], old[:begin][::-1])
        if length + back >= _LEAST_RUN:
            found.append((place - back, begin - back, length + back))
            end, shift = place + length, begin - place
            look = end
        else:
            look = place + 1
    return found


def _sources(new: Bytes, old: Bytes) -> npt.NDArray[np.int64]:
    """For each place of the new bytes a place of the old ones with the same word, -1 where there is none."""
    words = old[: len(old) // _WORD * _WORD].view(np.uint64)
    order = np.argsort(words, kind="stable")
    ranked = words[order]
    found = np.full(len(new), -1, np.int64)
    for start in range(_WORD):
        some = np.frombuffer(new, np.uint64, (len(new) - start) // _WORD, start)
        place = np.minimum(np.searchsorted(ranked, some), len(ranked) - 1)
        found[start : start + _WORD * len(some) : _WORD] = np.where(
            ranked[place] == some, _WORD * order[place], -1
        )
    return found


def _nearest(new: Bytes, old: Bytes, place: int, source: int, expected: int) -> int:
    """The place of the old bytes where the last run would go on, if it has the same word."""
    inside = 0 <= expected <= len(old) - _WORD
    same = inside and np.array_equal(new[place : place + _WORD], old[expected : expected + _WORD])
    return expected if same else source


def _same(one: Bytes, other: Bytes) -> int:
    """How many bytes two runs begin with alike."""
    size = min(len(one), len(other))
    ends = [0]
    while ends[-1] < size:
        ends.append(min(size, max(_FIRST_WINDOW, 4 * ends[-1])))
    for begin, end in pairwise(ends):
        differ = one[begin:end] != other[begin:end]
        if differ.any():
            return begin + int(differ.argmax())
    return size
