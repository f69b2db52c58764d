"""Parts of files as one run of memory, behind one another, without a copy.

A map of one's own for each use: two maps of the same part of a file have their own pages as soon as somebody
writes. Python's mmap cannot map to a given address, so that room is kept by a map of nothing, over which the
C library maps the parts; they go with that map.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

PAGE = mmap.PAGESIZE
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_NO_RESERVE = {"linux": 0x4000, "darwin": 0x40}.get(sys.platform, 0)
"""Room is counted when it is written to, not when it is mapped."""
_FIXED = 0x10
_ROOM = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
_OVER = mmap.MAP_PRIVATE | _FIXED | _NO_RESERVE


class Span(NamedTuple):
    """Bytes [offset, offset + length) of an open file."""

    fd: int
    offset: int
    length: int


def side_by_side(spans: Sequence[Span]) -> memoryview | None:
    """Private, writable memory of spans behind one another.

    Returns:
        The memory, no page of which is memory of anything else; None where a span does not end, or the next
        one does not start, with a page, where a file ends before a span does, or no more maps are given.
    """
    lead, total = spans[0].offset % PAGE, sum(span.length for span in spans)
    inside = all(span.offset + span.length <= os.fstat(span.fd).st_size for span in spans)
    if not total or not inside or not _fit(spans):  # a page behind the end of a file is a signal that kills
        return None
    try:
        room = mmap.mmap(-1, lead + total, flags=_ROOM, prot=_READ_WRITE)
    except (OSError, ValueError, OverflowError):
        return None
    address = ctypes.addressof(ctypes.c_char.from_buffer(room)) + lead
    for span in spans:
        if not _map_at(address, span):
            return None
        address += span.length
    return memoryview(room)[lead : lead + total]


def _fit(spans: Sequence[Span]) -> bool:
    end = spans[0].offset + spans[0].length
    for span in spans[1:]:
        if end % PAGE or span.offset % PAGE:
            return False
        end = span.offset + span.length
    return True


def _map_at(address: int, span: Span) -> bool:
    lead = span.offset % PAGE
    wanted = address - lead
    found = _library_mmap()(wanted, span.length + lead, _READ_WRITE, _OVER, span.fd, span.offset - lead)
    return bool(found == wanted)


@cache
def _library_mmap() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_longlong,
    ]
    return function
