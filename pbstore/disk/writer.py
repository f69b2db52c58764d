"""Appending to the newest pack inside one transaction of the index."""

import os
import sqlite3
from pathlib import Path

from pbstore.blocks import StoredBlock
from pbstore.disk import fsio, index, pack
from pbstore.disk.pack import Record


class PackWriter:
    """Appends blocks and commits them: packs first, then the index. Used under the writer's lock only."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, pack_bytes: int) -> None:
        self._folder = folder
        self._connection = connection
        self._pack_bytes = pack_bytes
        self._number = 0
        self._fd = -1
        self._end = 0
        self._folder_changed = False
        self._seal_before = 0

    def begin(self) -> None:
        """Start a transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    def append(self, block: StoredBlock) -> tuple[int, Record]:
        """Write a block's record; returns the pack and the record. Durable after `commit` only."""
        if self._fd < 0:
            self._open()
        elif self._end >= self._pack_bytes:
            self.seal()
            self._open()
        record = pack.append(self._fd, self._end, block)
        self._end = record.end
        return self._number, record

    def start_new_pack(self) -> int:
        """Let the next block start a new pack, so that older packs can be emptied; returns its number."""
        self.seal()
        self._seal_before = self._newest() + 1
        return self._seal_before

    def seal(self) -> None:
        """Make the open pack durable and close it; its length goes into the open transaction."""
        if self._fd < 0:
            return
        try:
            fsio.fsync(self._fd, "pack")
            if self._folder_changed:
                fsio.fsync_folder(self._folder)
                self._folder_changed = False
            self._connection.execute("UPDATE packs SET end = ? WHERE number = ?", (self._end, self._number))
        finally:
            self._close()

    def commit(self) -> None:
        """Make everything since `begin` durable: blocks, then the index."""
        self.seal()
        index.commit(self._connection)

    def rollback(self) -> None:
        """Forget everything since `begin`; what was appended behind the pack's end is overwritten."""
        self._close()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _newest(self) -> int:
        return int(self._connection.execute("SELECT COALESCE(MAX(number), 0) FROM packs").fetchone()[0])

    def _open(self) -> None:
        row = self._connection.execute(
            "SELECT number, end FROM packs ORDER BY number DESC LIMIT 1"
        ).fetchone()
        if row is not None and row[1] < self._pack_bytes and row[0] >= self._seal_before:
            self._number, self._end = row
            self._fd = os.open(pack.pack_path(self._folder, self._number), os.O_RDWR | os.O_CLOEXEC)
            os.ftruncate(self._fd, self._end)
            return
        self._number = self._next_number()
        self._fd = pack.create(pack.pack_path(self._folder, self._number), self._number)
        self._end, self._folder_changed = pack.PACK_HEADER_BYTES, True
        self._connection.execute("INSERT INTO packs VALUES (?, ?, 0, 0)", (self._number, self._end))

    def _next_number(self) -> int:
        """A number that no pack has had, so that a reader never mistakes one pack for another."""
        number = max(self._newest(), int(index.get_meta(self._connection, "last_pack") or 0)) + 1
        index.set_meta(self._connection, "last_pack", str(number))
        return number

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
