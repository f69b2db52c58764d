"""Parts of files as one run of memory, behind one another, mapped where they can be.

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
HUGE_PAGE = 2 << 20
"""The first span starts as far behind such a page in memory as in its file: then Linux can map such pages."""
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

    A span is mapped if it starts as far behind a page's start in its file as in the memory, but for its first
    bytes where the span before ends in the same page: these, and other spans, are read.

    Returns:
        The memory, no page of which is memory of anything else; None where a file ends before a span does, or
        the system gives no more maps.
    """
    total = sum(span.length for span in spans)
    if not total or any(span.offset + span.length > os.fstat(span.fd).st_size for span in spans):
        return None  # a page behind the end of a file is a signal that kills
    unit = HUGE_PAGE if spans[0].length >= HUGE_PAGE else PAGE
    try:
        room = mmap.mmap(-1, unit + total, flags=_ROOM, prot=_READ_WRITE)
    except (OSError, ValueError, OverflowError):
        return None
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    at = lead = (spans[0].offset - start) % unit
    for span in spans:
        taken = -at % PAGE if at > lead else 0
        if (at - span.offset) % PAGE or span.length <= taken:
            taken = span.length
        elif not _map_at(start + at + taken, span, taken):
            return None
        if not _read(span.fd, span.offset, memoryview(room)[at : at + taken]):
            return None
        at += span.length
    return memoryview(room)[lead : lead + total]


def _map_at(address: int, span: Span, skipped: int) -> bool:
    """Map a span but for its first bytes, so that they lie at an address."""
    offset, length = span.offset + skipped, span.length - skipped
    before = offset % PAGE
    wanted = address - before
    found = _library_mmap()(wanted, length + before, _READ_WRITE, _OVER, span.fd, offset - before)
    return bool(found == wanted)


def _read(fd: int, offset: int, memory: memoryview) -> bool:
    """Fill memory from a file; whether it has so many bytes."""
    done = 0
    while done < len(memory):
        count = os.preadv(fd, [memory[done:]], offset + done)
        if not count:
            return False
        done += count
    return True


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
