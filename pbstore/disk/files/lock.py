"""One writer at a time. The kernel drops the lock with its process, so a kill -9 leaves nothing behind."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pbstore.errors import StoreLockedError


@contextmanager
def exclusive(path: Path, wait_s: float) -> Iterator[None]:
    """Hold an exclusive lock on a file, made if missing.

    Raises:
        StoreLockedError: If another process still holds it after `wait_s` seconds.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(fd, path, wait_s)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    pause_s = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreLockedError(str(path.parent), wait_s) from None
        time.sleep(pause_s)
        pause_s = min(0.05, pause_s * 2)
