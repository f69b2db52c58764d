"""Memory that is used again: reading into new pages takes four times as long."""

import threading

import numpy as np
import numpy.typing as npt

from pbstore.codecs.scratch import new_pages

KEPT_BYTES = 48 << 20
"""Most memory that is kept while nobody uses it."""
_LEAST_BYTES, _MOST_BYTES = 1 << 16, 1 << 22
"""Larger memory is not kept: it comes in huge pages, which are fast when they are new, too."""


class Buffers:
    """A pool of memory in sizes of powers of two; safe to use from several threads."""

    def __init__(self) -> None:
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}
        self._free_bytes = 0
        self._mutex = threading.Lock()

    def take(self, num_bytes: int) -> memoryview:
        """Memory of exactly so many bytes, with undefined content."""
        size = 1 << max(num_bytes - 1, _LEAST_BYTES - 1).bit_length()
        if size > _MOST_BYTES:
            return new_pages(num_bytes)
        with self._mutex:
            free = self._free.get(size)
            if free:
                self._free_bytes -= size
                return free.pop().data[:num_bytes]
        return np.empty(size, np.uint8).data[:num_bytes]

    def give(self, memory: memoryview) -> None:
        """Take memory back that nobody reads or writes any more; memory of others is let go.

        Raises:
            ValueError: If it was given back before: two would get it.
        """
        array = memory.obj
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            return
        if not _LEAST_BYTES <= len(array) <= _MOST_BYTES or len(array) & (len(array) - 1):
            return
        with self._mutex:
            if any(array is held for held in self._free.get(len(array), ())):
                raise ValueError(f"memory of {len(memory)} bytes was given back twice")
            if self._free_bytes + len(array) <= KEPT_BYTES:
                self._free.setdefault(len(array), []).append(array)
                self._free_bytes += len(array)
