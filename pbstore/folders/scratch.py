"""Scratch folders that do not outlive their process for long: what a killed one left goes with the next."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """An empty folder in another one, locked as long as it is used, that goes in the end.

    Folders of this user with the same prefix that nobody holds are what killed processes left: they go first.

    Args:
        parent: Where it is made.
        prefix: What its name begins with; nothing else in `parent` may be called so.
    """
    for left in parent.glob(f"{prefix}*"):
        _remove(left, _hold(left))
    folder, fd = _new(parent, prefix)
    try:
        yield folder
    finally:
        _remove(folder, fd)


def _new(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        fd = _hold(folder)
        if fd is not None and folder.exists():
            return folder, fd
        _remove(folder, fd)  # another process has taken it for a leftover


def _hold(folder: Path) -> int | None:
    """Lock a folder of this user's; None if it is another one's, or another process holds it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _remove(folder: Path, fd: int | None) -> None:
    if fd is not None:
        rmtree(folder, ignore_errors=True)
        os.close(fd)
