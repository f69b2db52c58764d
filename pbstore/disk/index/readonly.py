"""Reading needs no writing: opening the index of a store that nobody here can write to.

SQLite wants to write beside a database even to read it, unless it is told that nobody changes it. That is
true of a snapshot on a read-only disk, and not of a store that another host or mount writes to. So what was
opened as unchanging carries a stamp of the files, and is opened anew when they differ.
"""

import os
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

from pbstore.disk.files.layout import Layout
from pbstore.disk.index.sqlite import FAILURES, Connection, named
from pbstore.errors import StoreLockedError

TRIES = 20
"""Copies of an index that is being written to before giving up."""
Stamp = tuple[tuple[int, int, int] | None, ...]


def can_write(layout: Layout) -> bool:
    """Whether this process may write to a store: to its folders, its index and its lock."""
    needed = (layout.root, layout.packs, layout.manifests, layout.index, layout.lock)
    return all(os.access(path, os.W_OK) for path in needed if os.path.lexists(path))


def stamp_of(index: Path) -> Stamp:
    """Inode, length and time of change of an index and of its log; None for a file that is not there."""
    return tuple(_stamp(path) for path in (index, _log_of(index)))


def open_index(index: Path) -> tuple[sqlite3.Connection, Stamp | None]:
    """Open an index for reading, write nothing beside it.

    Returns:
        The connection, and the stamp of the files that it shows; None if it follows what others write.

    Raises:
        PermissionError: If the index is not there or may not be read.
        StoreLockedError: If the index changes too often to be copied.
    """
    stamp = stamp_of(index)
    log = stamp[1]
    if log is None or not log[1]:
        return _connect(index, "ro&immutable=1"), stamp
    try:  # the log has commits; its own index may be there, too
        connection = _connect(index, "ro")
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    except (PermissionError, OSError):
        return _open_copy(index)
    return connection, None


def _open_copy(index: Path) -> tuple[sqlite3.Connection, Stamp]:
    """Copy an index and its log, carry out the log in the copy, and open that."""
    for _ in range(TRIES):
        stamp = stamp_of(index)
        with tempfile.TemporaryDirectory(prefix="pbcast-index-") as folder:
            copy = Path(folder) / index.name
            shutil.copyfile(index, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(_log_of(index), _log_of(copy))
            if stamp_of(index) == stamp:
                writer = _connect(copy, "rw")
                writer.execute("PRAGMA journal_mode=DELETE").fetchall()
                writer.close()
                connection = _connect(copy, "ro&immutable=1")
                connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # opens the file
                return connection, stamp
    raise StoreLockedError(str(index.parent), 0)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
    except FAILURES as error:
        raise named(error) from None


def _log_of(index: Path) -> Path:
    return index.with_name(f"{index.name}-wal")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
