"""Raw blocks that were found right, so that a hot range is read without hashing its whole block each time."""

import os
import threading
import time
from collections.abc import Callable

from pbstore.disk.files.reader import OpenPack
from pbstore.disk.index.locations import Location

_MOST = 1 << 20
"""Blocks that are remembered at a time."""


class TrustedBlocks:
    """Where blocks lay when they were checked: by pack file, place, time of change, and for a while only.

    A pack that has grown since was appended to, as packs are; one that was changed without growing (a hole
    was punched, or somebody wrote into it) has its blocks checked again.
    """

    def __init__(self, trust_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._trust_s, self._clock = trust_s, clock
        self._found: dict[tuple[int, int, int], tuple[float, int, int]] = {}
        self._mutex = threading.Lock()

    def is_trusted(self, location: Location, file: OpenPack) -> bool:
        """Whether a block was found right there, and nothing speaks against it since."""
        status = os.fstat(file.fd)
        key = (location.pack, location.record.payload_offset, status.st_ino)
        with self._mutex:
            noted = self._found.get(key)
        if noted is None or self._clock() - noted[0] > self._trust_s:
            return False
        _, changed_ns, size = noted
        return status.st_mtime_ns == changed_ns or status.st_size > size

    def trust(self, location: Location, status: os.stat_result) -> None:
        """Note that a block was found right; `status` is of the pack before the block was read."""
        key = (location.pack, location.record.payload_offset, status.st_ino)
        with self._mutex:
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[key] = (self._clock(), status.st_mtime_ns, status.st_size)
