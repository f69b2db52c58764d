"""SQLite with our errors: a damaged index, a full disk or a long wait is named as what it is."""

import errno
import sqlite3
from collections.abc import Iterable
from typing import Any, Self

from pbstore.errors import IndexCorruptError, StoreLockedError

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the second where a message of its own quotes a damaged schema."""
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BARRED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def named(error: Exception) -> Exception:
    """Our error for one of SQLite's: a long wait, a full disk, no permission, a bad disk, a damaged index."""
    text, code = str(error), getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error  # a bug of ours
    if code in _FULL:
        return OSError(errno.ENOSPC, "no space left for the store's index")
    if code & 0xFF in _BUSY:
        return StoreLockedError("index/", 30)
    if code & 0xFF in _BARRED:
        return PermissionError(errno.EACCES, f"the store's index cannot be written: {text}")
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return OSError(errno.EIO, f"the disk failed under the store's index: {text} ({error_name(error)})")
    if code & 0xFF == sqlite3.SQLITE_NOMEM:
        return MemoryError(f"the store's index: {text}")
    return IndexCorruptError(text)


def error_name(error: Exception) -> str:
    """SQLite's own name of an error, such as `SQLITE_IOERR_READ`."""
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


class Cursor(sqlite3.Cursor):
    """A cursor whose every step has our errors."""

    def execute(self, sql: str, parameters: Any = (), /) -> Self:  # noqa: ANN401
        """See `sqlite3.Cursor`."""
        try:
            return super().execute(sql, parameters)
        except FAILURES as error:
            raise named(error) from None

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """See `sqlite3.Cursor`."""
        try:
            return super().executemany(sql, parameters)
        except FAILURES as error:
            raise named(error) from None

    def fetchone(self) -> Any:  # noqa: ANN401
        """See `sqlite3.Cursor`."""
        try:
            return super().fetchone()
        except FAILURES as error:
            raise named(error) from None

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """See `sqlite3.Cursor`."""
        try:
            return super().fetchmany(size)
        except FAILURES as error:
            raise named(error) from None

    def fetchall(self) -> list[Any]:
        """See `sqlite3.Cursor`."""
        try:
            return super().fetchall()
        except FAILURES as error:
            raise named(error) from None

    def __next__(self) -> Any:  # noqa: ANN401
        try:
            return super().__next__()
        except FAILURES as error:
            raise named(error) from None


class Connection(sqlite3.Connection):
    """A connection whose cursors have our errors."""

    def cursor(self, factory: Any = Cursor) -> Any:  # noqa: ANN401
        """See `sqlite3.Connection`."""
        return super().cursor(factory)

    def executescript(self, sql: str, /) -> sqlite3.Cursor:
        """See `sqlite3.Connection`."""
        try:
            return super().executescript(sql)
        except FAILURES as error:
            raise named(error) from None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401
        """See `sqlite3.Connection`."""
        return self.cursor().execute(sql, parameters)  # type: ignore[no-any-return]

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """See `sqlite3.Connection`."""
        return self.cursor().executemany(sql, parameters)  # type: ignore[no-any-return]
