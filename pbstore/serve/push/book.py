"""What was pushed: chunks of xorbs, where each lies now, and files that a shard has told of."""

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pbstore.serve.wire.xet_upload import ChunkInfo, Segment, ShardFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS chunks (
    xorb BLOB NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL, raw_bytes INTEGER NOT NULL,
    offset INTEGER NOT NULL, content BLOB, PRIMARY KEY (xorb, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_digest ON chunks (digest);
CREATE INDEX IF NOT EXISTS chunks_content ON chunks (content) WHERE content IS NOT NULL;
CREATE TABLE IF NOT EXISTS files (
    sha256 TEXT PRIMARY KEY, digest BLOB NOT NULL, size_bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    sha256 TEXT NOT NULL, position INTEGER NOT NULL, xorb BLOB NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, raw_bytes INTEGER NOT NULL, PRIMARY KEY (sha256, position)) WITHOUT ROWID;
"""


class PlacedChunk(NamedTuple):
    """A chunk, and where its bytes are."""

    digest: bytes
    raw_bytes: int
    offset: int
    """In the xorb's raw bytes while it waits, else in the content."""
    content: bytes | None
    """Key of the content of the file in the store that has it; None while its xorb waits."""


class PushBook:
    """An index beside a store; safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._mutex = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)

    def has_xorb(self, xorb: bytes) -> bool:
        """Whether a xorb's chunks are known."""
        return bool(self._ask("SELECT 1 FROM chunks WHERE xorb = ? LIMIT 1", (xorb,)))

    def add_xorb(self, xorb: bytes, chunks: Sequence[ChunkInfo]) -> None:
        """File a xorb that waits."""
        rows, offset = [], 0
        for position, chunk in enumerate(chunks):
            rows.append((xorb, position, chunk.digest, chunk.raw_bytes, offset))
            offset += chunk.raw_bytes
        self._tell("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, NULL)", rows)

    def add_placed(self, xorb: bytes, chunks: Sequence[ChunkInfo], content: bytes, offset: int) -> None:
        """File a xorb that nobody pushed: chunks of a file from an offset on."""
        rows = []
        for position, chunk in enumerate(chunks):
            rows.append((xorb, position, chunk.digest, chunk.raw_bytes, offset, content))
            offset += chunk.raw_bytes
        self._tell("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", rows)

    def has_content(self, content: bytes) -> bool:
        """Whether chunks of a content are known."""
        return bool(self._ask("SELECT 1 FROM chunks WHERE content = ? LIMIT 1", (content,)))

    def chunks(self, xorb: bytes, first: int = 0, last: int = 1 << 31) -> list[PlacedChunk]:
        """Chunks of a xorb, in order."""
        rows = self._ask(
            "SELECT digest, raw_bytes, offset, content FROM chunks "
            "WHERE xorb = ? AND position >= ? AND position < ? ORDER BY position",
            (xorb, first, last),
        )
        return [PlacedChunk(*row) for row in rows]

    def xorbs_with(self, digest: bytes, most: int = 4) -> list[bytes]:
        """Xorbs that have a chunk."""
        rows = self._ask("SELECT DISTINCT xorb FROM chunks WHERE digest = ? LIMIT ?", (digest, most))
        return [xorb for (xorb,) in rows]

    def place(self, rows: Iterable[tuple[bytes, int, bytes, int]]) -> None:
        """Note where chunks lie: content and offset, by xorb and position."""
        values = [(content, offset, xorb, position) for xorb, position, content, offset in rows]
        self._tell("UPDATE chunks SET content = ?, offset = ? WHERE xorb = ? AND position = ?", values)

    def waits(self, xorb: bytes) -> bool:
        """Whether a chunk of a xorb lies nowhere else."""
        return bool(self._ask("SELECT 1 FROM chunks WHERE xorb = ? AND content IS NULL LIMIT 1", (xorb,)))

    def forget(self, xorb: bytes, *, waiting_only: bool = False) -> None:
        """Forget a xorb's chunks, or those that lie nowhere else."""
        condition = " AND content IS NULL" if waiting_only else ""
        self._tell(f"DELETE FROM chunks WHERE xorb = ?{condition}", [(xorb,)])

    def add_file(self, file: ShardFile) -> None:
        """File what a shard tells of a file."""
        size = sum(segment.raw_bytes for segment in file.segments)
        self._tell("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", [(file.sha256, file.digest, size)])
        self._tell("DELETE FROM segments WHERE sha256 = ?", [(file.sha256,)])
        rows = [
            (file.sha256, position, one.xorb, one.first, one.last, one.raw_bytes)
            for position, one in enumerate(file.segments)
        ]
        self._tell("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)", rows)

    def segments(self, sha256: str) -> list[Segment] | None:
        """Segments of a file, None if no shard told of it."""
        if not self._ask("SELECT 1 FROM files WHERE sha256 = ?", (sha256,)):
            return None
        rows = self._ask(
            "SELECT xorb, first, last, raw_bytes FROM segments WHERE sha256 = ? ORDER BY position", (sha256,)
        )
        return [Segment(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._mutex:
            self._connection.close()

    def _ask(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._mutex:
            return self._connection.execute(statement, values).fetchall()

    def _tell(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        with self._mutex, self._connection:
            self._connection.executemany(statement, rows)
