"""Memory that is used again: reading into new pages takes four times as long, in some machines forty.

Numpy is imported when memory of 64 KiB or more is taken: a look at models reads less.
"""

import threading
from typing import Any

from pbstore.blocks import LARGE_BYTES

KEPT_BYTES = 96 << 20
"""Most memory that is kept while nobody uses it."""
_LEAST_BYTES = 1 << 16


class Buffers:
    """A pool of memory, up to `LARGE_BYTES` in sizes of powers of two; safe to use from several threads.

    A virtual machine that hands unused memory back to its host gets new pages at 0.5 to 1 GB/s only: large
    memory is kept, too, and what is free makes room for what is wanted.
    """

    def __init__(self) -> None:
        self._free: dict[int, dict[int, Any]] = {}
        """By size and `id`: one structure, which is whole wherever an interrupt hits."""
        self._mutex = threading.Lock()

    def take(self, num_bytes: int) -> memoryview:
        """Memory of exactly so many bytes, with undefined content."""
        if num_bytes < _LEAST_BYTES:
            return memoryview(bytearray(num_bytes))
        import numpy as np

        from pbstore.codecs.scratch import new_pages

        small = num_bytes <= LARGE_BYTES
        size = 1 << max(num_bytes - 1, _LEAST_BYTES - 1).bit_length() if small else num_bytes
        with self._mutex:
            found = self._pop(size if small else self._best_fit(size))
            if found is None and not small:
                self._make_room(size)
        if found is None:
            found = np.empty(size, np.uint8) if small else np.frombuffer(new_pages(size), np.uint8)
        data: memoryview = found.data
        return data[:num_bytes]

    def give(self, memory: memoryview) -> None:
        """Take memory back that nobody reads or writes any more; memory of others is let go.

        Raises:
            ValueError: If it was given back before: two would get it.
        """
        array = memory.obj
        if isinstance(array, bytes | bytearray):
            return
        import numpy as np

        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or not array.flags.writeable:
            return
        size = len(array)
        if size < _LEAST_BYTES or (size <= LARGE_BYTES and size & (size - 1)):
            return
        with self._mutex:
            if id(array) in self._free.get(size, ()):
                raise ValueError(f"memory of {len(memory)} bytes was given back twice")
            if self._free_bytes() + size <= KEPT_BYTES:
                self._free.setdefault(size, {})[id(array)] = array

    def _free_bytes(self) -> int:
        return sum(size * len(held) for size, held in self._free.items())

    def _best_fit(self, size: int) -> int:
        """Size of the smallest free memory of `size` to twice as many bytes; 0 if there is none."""
        return min(
            (free for free, held in self._free.items() if held and size <= free <= 2 * size), default=0
        )

    def _make_room(self, size: int) -> None:
        """Let go of the largest free memory until so much more is within what may be kept."""
        for largest in sorted(self._free, reverse=True):
            while self._free_bytes() + size > KEPT_BYTES and self._pop(largest) is not None:
                pass

    def _pop(self, size: int) -> Any:  # noqa: ANN401 - an array of numpy, or None
        """Free memory of a size, which is not free any more; None if there is none."""
        held = self._free.get(size)
        if not held:
            return None
        _, found = held.popitem()
        if not held:
            del self._free[size]
        return found
