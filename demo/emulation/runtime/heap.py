"""Keeps the memory of a process with dozens of threads together."""

import ctypes
from contextlib import suppress

_ARENA_MAX = -8
"""M_ARENA_MAX (malloc.h of the GNU C library)."""
ARENAS = 2


def few_arenas() -> None:
    """Let malloc keep few arenas: by default each of up to eight a core keeps what its threads have freed.

    Nothing happens where the C library has no such thing.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)
