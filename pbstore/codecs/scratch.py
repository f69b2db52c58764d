"""Memory of coders, used again by its thread and by those after it: new pages cost more than most steps."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

TakeMemory: TypeAlias = Callable[[int], memoryview]
"""Gives memory of so many bytes, with undefined content."""
_LEAST_BYTES = 1 << 16
LARGE_BYTES = 1 << 22
_MOST_SPARE = 4
_local = threading.local()
_spare: list[dict[str, npt.NDArray[np.uint8]]] = []


class _Held:
    """Arrays of one thread; they go to a later one when it has ended."""

    def __init__(self) -> None:
        self.arrays: dict[str, npt.NDArray[np.uint8]] = {}
        with suppress(IndexError):
            self.arrays = _spare.pop()

    def __del__(self, spare: list[dict[str, npt.NDArray[np.uint8]]] = _spare, most: int = _MOST_SPARE) -> None:
        """Leave the arrays behind; the names of this module may be gone by then."""
        if len(spare) < most:
            spare.append(self.arrays)


def scratch(name: str, count: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of `count` undefined elements, this thread's own until it asks for `name` again."""
    held: _Held | None = getattr(_local, "held", None)
    if held is None:
        held = _local.held = _Held()
    dtype = np.dtype(kind)
    num_bytes = count * dtype.itemsize
    found = held.arrays.get(name)
    if found is None or len(found) < num_bytes:
        found = held.arrays[name] = np.empty(max(num_bytes, _LEAST_BYTES), np.uint8)
    return found[:num_bytes].view(dtype)


def new_pages(num_bytes: int) -> memoryview:
    """Memory that goes back to the system when it is let go of, which malloc keeps for itself."""
    if num_bytes <= LARGE_BYTES:
        return np.empty(num_bytes, np.uint8).data
    pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
