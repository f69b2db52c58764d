"""Memory that a thread uses again and again: fresh pages cost more than most steps of a coder."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

_LEAST_BYTES = 1 << 20
_local = threading.local()


def scratch(name: str, count: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of `count` undefined elements, this thread's own until it asks for `name` again."""
    held: dict[str, npt.NDArray[np.uint8]] | None = getattr(_local, "held", None)
    if held is None:
        held = _local.held = {}
    dtype = np.dtype(kind)
    num_bytes = count * dtype.itemsize
    found = held.get(name)
    if found is None or len(found) < num_bytes:
        found = held[name] = np.empty(max(num_bytes, _LEAST_BYTES), np.uint8)
    return found[:num_bytes].view(dtype)
