"""Memory of coders: used again by its thread, for new pages cost more than most steps; or given back."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pbstore.blocks import LARGE_BYTES

TakeMemory: TypeAlias = Callable[[int], memoryview]
"""Gives memory of so many bytes, with undefined content."""
_LEAST_BYTES = 1 << 16
_local = threading.local()


def scratch(name: str, count: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of `count` undefined elements, this thread's own until it asks for `name` again."""
    held: dict[tuple[str, npt.DTypeLike], npt.NDArray[Any]] | None = getattr(_local, "held", None)
    if held is None:
        held = _local.held = {}
    found = held.get((name, kind))
    if found is None or len(found) < count:
        found = np.empty(max(count, _LEAST_BYTES // np.dtype(kind).itemsize), kind)
        held[name, kind] = found
    return found[:count]


def new_pages(num_bytes: int) -> memoryview:
    """Memory that goes back to the system when it is let go of, which malloc keeps for itself."""
    if num_bytes <= LARGE_BYTES:
        return np.empty(num_bytes, np.uint8).data
    pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
