"""Cuts of opaque bytes where their content says so: what moved by any number of bytes is cut as before.

A place is a cut if a hash of the 8 bytes before it is small. Pieces are a quarter to four times as long as
the mean, whatever the content: of files below 8 MiB 16 KiB, so that a changed word of a text costs little,
of larger ones 64 KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Read = Callable[[int, int], Bytes]
"""Gives bytes [begin, end) of what is cut; fewer if there are no more."""
WINDOW_BYTES = 1 << 20
"""Bytes that are looked at together."""
_WIDTH = 8
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SMALL_BYTES = 8 << 20
_SMALL_BITS, _LARGE_BITS = 14, 16
_LEAST, _MOST = 2, 2
"""Binary logarithms of the mean over the least, and of the most over the mean."""
CHUNKED_BYTES = 1 << 16
"""Shorter runs stay whole."""


def chunk_lengths(read: Read, num_bytes: int) -> list[int]:
    """Lengths of the pieces of some bytes, in order; they sum to the number of bytes."""
    if num_bytes < CHUNKED_BYTES:
        return [num_bytes] if num_bytes else []
    bits = _SMALL_BITS if num_bytes < _SMALL_BYTES else _LARGE_BITS
    least, most = 1 << bits - _LEAST, 1 << bits + _MOST
    lengths, start = [], 0
    for place in _places(read, num_bytes, bits):
        while place - start > most:
            lengths.append(most)
            start += most
        if place - start >= least:
            lengths.append(place - start)
            start = place
    while num_bytes - start > most:
        lengths.append(most)
        start += most
    return [*lengths, num_bytes - start] if start < num_bytes else lengths


def _places(read: Read, num_bytes: int, bits: int) -> Iterator[int]:
    """Places behind eight bytes with a small hash, ascending."""
    limit = np.uint64(1 << 64 - bits)
    for begin in range(0, num_bytes, WINDOW_BYTES):
        window = read(begin, min(begin + WINDOW_BYTES + _WIDTH - 1, num_bytes))
        found = [np.flatnonzero(words * _PRIME < limit) * _WIDTH + shift for shift, words in _shifted(window)]
        yield from (np.sort(np.concatenate(found)) + (begin + _WIDTH)).tolist() if found else ()


def _shifted(window: Bytes) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """All runs of eight bytes as numbers, by the remainder of where they start."""
    for shift in range(min(_WIDTH, len(window) - _WIDTH + 1)):
        yield shift, np.frombuffer(window, "<u8", (len(window) - shift) // _WIDTH, shift)
