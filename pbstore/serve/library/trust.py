"""Raw blocks that were found right, so that a hot range is read without hashing its whole block each time."""

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from pbstore.disk.files.reader import OpenPack
from pbstore.disk.index.locations import Location

_MOST = 1 << 20
"""Blocks that are remembered at a time."""


class Trust(NamedTuple):
    """When a block was found right, and how its pack was then."""

    checked_s: float
    changed_ns: int
    pack_bytes: int


class TrustedBlocks:
    """Where blocks lay when they were checked: by pack file, place, time of change, and for a while only.

    A pack that has grown since was appended to, as packs are; one that was changed without growing (a hole
    was punched, or somebody wrote into it) has its blocks checked again.
    """

    def __init__(self, trust_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._trust_s, self._clock = trust_s, clock
        self._found: dict[tuple[int, int, int], Trust] = {}
        self._mutex = threading.Lock()

    def find(self, location: Location, file: OpenPack) -> Trust | None:
        """What a block was trusted on there, if nothing speaks against it since."""
        status = os.fstat(file.fd)
        key = (location.pack, location.record.payload_offset, status.st_ino)
        with self._mutex:
            noted = self._found.get(key)
        return noted if noted is not None and self.holds(noted, status) else None

    def holds(self, trust: Trust, status: os.stat_result) -> bool:
        """Whether nothing speaks against a trust; `status` is of the pack now."""
        checked_s, changed_ns, pack_bytes = trust
        if self._clock() - checked_s > self._trust_s:
            return False
        return status.st_mtime_ns == changed_ns or status.st_size > pack_bytes

    def trust(self, location: Location, status: os.stat_result) -> Trust:
        """Note that a block was found right; `status` is of the pack before the block was read."""
        key = (location.pack, location.record.payload_offset, status.st_ino)
        found = Trust(self._clock(), status.st_mtime_ns, status.st_size)
        with self._mutex:
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[key] = found
        return found
