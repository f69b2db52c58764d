"""Hashes of files, computed once and kept: beside the index of a store, or in memory if nothing else can be.

The key is the content, as the list of a file's blocks says it: not the sha256, which a manifest only claims.
"""

import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from pbstore.manifest import FileEntry
from pbstore.serve.wire.hub import FileHashes

log = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
    key BLOB PRIMARY KEY, git_sha1 TEXT NOT NULL, xet TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hashes_xet ON hashes (xet) WHERE xet != '';
CREATE TABLE IF NOT EXISTS places (
    key BLOB NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (key, name, path)) WITHOUT ROWID;
"""
_WAIT_S = 10.0
"""How long one process waits for another that writes, s."""


def content_key(file: FileEntry) -> bytes:
    """What a file's bytes are known by: the BLAKE3 of the ids and sizes of its blocks, 32 bytes."""
    digest = blake3()
    for block_id, size in file.pieces:
        digest.update(bytes.fromhex(block_id) + size.to_bytes(8, "little"))
    return digest.digest()


class HashBook:
    """Hashes by content, and where each content was seen; safe to use from several threads and processes."""

    def __init__(self, path: Path | None) -> None:
        self._mutex = threading.Lock()
        self._connection = _open(path)

    def get(self, key: bytes) -> FileHashes | None:
        """Hashes of a content, None if they are not known."""
        rows = self._ask("SELECT git_sha1, xet FROM hashes WHERE key = ?", (key,))
        return FileHashes(*rows[0]) if rows else None

    def put(self, key: bytes, hashes: FileHashes) -> None:
        """Keep the hashes of a content; what is known of it already and not given stays."""
        self._tell(
            "INSERT INTO hashes VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "git_sha1 = CASE excluded.git_sha1 WHEN '' THEN git_sha1 ELSE excluded.git_sha1 END, "
            "xet = CASE excluded.xet WHEN '' THEN xet ELSE excluded.xet END",
            (key, hashes.git_sha1, hashes.xet),
        )

    def note_place(self, key: bytes, name: str, path: str) -> None:
        """Note a model and a path where a content was seen."""
        self._tell("INSERT OR IGNORE INTO places VALUES (?, ?, ?)", (key, name, path))

    def forget_place(self, key: bytes, name: str, path: str) -> None:
        """Note that a content is not there any more."""
        self._tell("DELETE FROM places WHERE key = ? AND name = ? AND path = ?", (key, name, path))

    def keys_of(self, xet: str) -> list[bytes]:
        """Contents of a Xet hash: the same bytes may be cut into blocks in several ways."""
        rows = self._ask("SELECT key FROM hashes WHERE xet = ?", (xet,)) if xet else []
        return [key for (key,) in rows]

    def places_of(self, key: bytes) -> list[tuple[str, str]]:
        """Models and paths where a content was seen."""
        return [
            (name, path) for name, path in self._ask("SELECT name, path FROM places WHERE key = ?", (key,))
        ]

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _tell(self, statement: str, values: Sequence[object]) -> None:
        """Change the book; what cannot be kept will be computed again."""
        try:
            self._ask(statement, values)
        except sqlite3.Error as error:
            log.warning("a hash was not kept: %s", error)

    def _ask(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._mutex, self._connection:
            return self._connection.execute(statement, values).fetchall()


def _open(path: Path | None) -> sqlite3.Connection:
    """The book at a path, made anew if it is damaged; one in memory if it cannot be written to."""
    if path is not None:
        for _ in range(2):
            try:
                path.parent.mkdir(exist_ok=True)
                return _connect(path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    log.warning("hashes are kept in memory only: %s: %s", path, error)
                    break
                log.warning("hashes are computed anew: %s: %s", path, error)
                _forget_file(path)
            except OSError as error:
                log.info("hashes are kept in memory only: %s", error)
                break
    return _connect(":memory:")


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the file is damaged")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return not isinstance(error, sqlite3.OperationalError)


def _forget_file(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
