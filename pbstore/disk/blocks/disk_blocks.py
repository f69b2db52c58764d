"""Blocks on the disk: put, get, export, import and delete, each atomic and durable."""

import errno
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from pbstore.blocks import StoredBlock
from pbstore.coding import decode_block
from pbstore.disk.blocks import compact, gather, recover, snapshot
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.blocks.writer import PackWriter
from pbstore.disk.files import fsio, lock, room
from pbstore.disk.files.layout import SHEAF_VERSION, Layout, Settings, settings_text
from pbstore.disk.index import audit, database, locations, packs, sheaves
from pbstore.errors import BlockInUseError, CapacityError, IntegrityError, PBStoreError
from pbstore.hashing import BlockId, Buffer, hash_block
from pbstore.store import raw_block, with_all_needs

SNAPSHOT_BYTES = 1 << 20
"""An index from this length on is kept a copy of, when a store is closed that was written to."""
SNAPSHOT_AGE_S = 86_400.0
"""But not before the last copy is so old."""


class DiskBlocks(BlockReader):
    """The block-level half of a store on the disk.

    Any number of threads and processes may read; one at a time writes. Each writing method is atomic: after
    an error, an interrupt or a kill, the store is as it was before or as it is after.
    """

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        lock_wait_s: float = 60.0,
        *,
        read_only: bool = False,
        durable: bool = True,
    ) -> None:
        super().__init__(layout, settings, read_only=read_only, durable=durable)
        self._lock_wait_s = lock_wait_s
        self._mutex = threading.RLock()
        self._open: Transaction | None = None
        self._making_room = self._wrote = False
        self._filed = 0
        """Models filed since manifests were last gathered."""
        self.on_full: Callable[[int], None] | None = None
        """Called with the payload bytes that are missing, before a CapacityError: an edge node's eviction."""
        if read_only:
            database.look(self.connection)
        elif not recover.index_is_usable(layout):
            with self._locked():
                recover.ensure_index(layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close(tidily=not sys.is_finalizing())  # at the end of Python nothing can be imported any more

    def close(self, *, tidily: bool = True) -> None:
        """Close files and connections; the store cannot be used afterwards."""
        if connections := getattr(self, "_connections", None):
            if tidily:
                self._tidy_at_close()
            connections.close()
            if tidily and not self.read_only and self.layout.index.exists():
                with suppress(OSError):  # its passing files may have taken the room
                    room.keep_reserve(self.layout, room.Sizes.of(self.layout), self.free_bytes())
        if reader := getattr(self, "_reader", None):
            reader.close()

    def put(self, raw: Buffer) -> BlockId:
        """Store raw bytes as a raw block; nothing happens if they are there already."""
        block_id = hash_block(raw)
        if not self.has(block_id):
            with self.writing() as tx:
                tx.keep(raw_block(raw, block_id))
        return block_id

    def import_block(self, stored: StoredBlock) -> BlockId:
        """Store a block that another store exported, after decoding it once.

        Raises:
            BlockMissingError: If a block that it needs is not there.
            BlockCorruptError: If it does not decode to its id.
            CapacityError: If it does not fit.
        """
        if not self.has(stored.block_id):
            with self.writing() as tx:  # so that making room for it does not take what it needs
                tx.spared.update(stored.needs)
                stored = with_all_needs(self, stored)
                tx.spared.update(stored.needs)
                decode_block(stored, [self.get(base) for base in stored.bases])
                tx.keep(stored)
        return stored.block_id

    def delete_block(self, block_id: BlockId) -> None:
        """Delete a block that no manifest and no other block needs.

        Raises:
            BlockInUseError: If one does.
        """
        with self.writing() as tx:
            tx.check_index()
            location = self.locate(block_id)
            if location.refs:
                raise BlockInUseError(block_id, f"{location.refs} model(s)")
            if users := locations.dependents(tx.connection, block_id):
                raise BlockInUseError(block_id, f"block {users[0][:12]}")
            tx.drop(location)

    def _ensure_room(self, tx: Transaction, wanted_bytes: int) -> None:
        """Check that so many payload bytes more fit; ask `on_full` to make room if not.

        What is in the trash goes first.

        Raises:
            CapacityError: If they do not.
        """
        capacity = self.settings.capacity_bytes
        if capacity is None:
            return
        missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0:  # nothing is evicted on the word of a counter
            packs.count(tx.connection)
            missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0:
            self._take_from_trash(tx, missing)
            missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0 and self.on_full is not None and not self._making_room:
            self._making_room = True
            try:
                self.on_full(missing)
            finally:
                self._making_room = False
        if (used := self.used_bytes) + wanted_bytes > capacity:
            raise CapacityError(wanted_bytes, used, capacity)
        compact.keep_within(self, tx, capacity + max(capacity // 8, 4 << 20) - wanted_bytes)

    def _take_from_trash(self, tx: Transaction, wanted_bytes: int) -> None:
        """Let go of removed models, the oldest first, until so much room is free."""

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the store's disk."""
        return fsio.free_bytes(self.layout.root)

    def _tidy_at_close(self) -> None:
        """Write an index that has doubled anew, if nobody else writes: its pages are two thirds full."""
        if not self._wrote or self._open is not None:
            return
        with suppress(PBStoreError, OSError, ValueError):  # ValueError: it is closed already
            self._gather()
            if database.is_untidy(self.connection, growth=2.0, few=128):
                with lock.exclusive(self.layout.lock, 0.0):
                    if self.has_room(2 * database.size_bytes(self.connection)):
                        database.write_anew(self.connection)
            size = database.size_bytes(self.connection)
            if size >= SNAPSHOT_BYTES and self._snapshot_age_s() > SNAPSHOT_AGE_S and self.has_room(2 * size):
                self.take_snapshot()

    def _snapshot_age_s(self) -> float:
        try:
            return time.time() - self.layout.snapshot.stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def take_snapshot(self) -> int:
        """Keep a copy of the index, so that a lost one comes back at once, with pins and uses.

        A store with a long index does so by itself once a day.

        Returns:
            The length of the copy, bytes.
        """
        if self.read_only:
            raise PermissionError(errno.EROFS, f"store {self.path} was opened for reading only")
        with self._mutex:
            if self._open is None:  # or it is outdated when they are gathered
                self._gather()
        with fsio.durability(self._durable):
            return snapshot.write(self.layout, self.connection)

    def tidy_index(self) -> None:
        """Outside `writing`: write the index anew if that gives much room back, and nobody is in the way."""
        with self._mutex, suppress(PBStoreError, OSError):
            if self._open is None and database.is_untidy(self.connection):
                with self._locked(), fsio.durability(self._durable):
                    if self.has_room(2 * database.size_bytes(self.connection)):
                        database.write_anew(self.connection)

    def rebuild_index(self) -> None:
        """Build the index again from packs and manifests."""
        with self._mutex, self._locked():
            self._connections.reset()
            recover.rebuild_index(self.layout)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Hold the writer's lock and one transaction; calls inside join it."""
        if self.read_only:
            raise PermissionError(errno.EROFS, f"store {self.path} was opened for reading only")
        with self._mutex:
            if self._open is not None:
                self._open.depth += 1
                try:
                    yield self._open
                finally:
                    self._open.depth -= 1
                return
            with self._locked(), fsio.durability(self._durable), self._transaction() as tx:
                yield tx
            self._filed += tx.filed_models
            if self._filed >= gather.FROM:
                self._gather()

    def _gather(self) -> None:
        """Let manifests come into sheaves, if many have files of their own and nobody else writes."""
        self._filed = 0
        with suppress(PBStoreError, OSError):
            if len(sheaves.loose(self.connection)) >= gather.FROM and self.has_room(2 * gather.MOST_BYTES):
                with (
                    lock.exclusive(self.layout.lock, 0.0),
                    fsio.durability(self._durable),
                    self._transaction() as tx,
                ):
                    gather.gather(self, tx)

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """Keep others from writing; a store that is open for reading only keeps nobody."""
        with self._mutex:
            if self._open is not None or self.read_only:
                yield
                return
            with self._locked():
                yield

    def _locked(self) -> AbstractContextManager[None]:
        return lock.exclusive(self.layout.lock, self._lock_wait_s)

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        self._connections.renew()
        connection = self.connection
        database.roll_back(connection)  # what an interrupt left open
        database.add_missing(connection)
        recover.finish_intent(self.layout, connection)
        writer = self._writer = PackWriter(self.layout, connection, self.settings.pack_bytes)
        tx = Transaction(self, connection, writer, self._ensure_room)
        try:
            audit.watch(connection)
            writer.begin()
            if sheaves.are_there(connection) and self.settings.version < SHEAF_VERSION:
                self.settings = replace(self.settings, version=SHEAF_VERSION)
            database.note_settings(connection, settings_text(self.settings))
            self._open = tx
            yield tx
            changes = audit.take(connection)
            writer.commit()
            audit.append(self.layout.audit, changes)
            self._wrote = True
        except BaseException:
            for number in writer.rollback():
                self.forget_pack(number)
            raise
        finally:
            self._open = self._writer = None
            tx.close()
            with suppress(OSError, IntegrityError):
                room.keep_reserve(self.layout, database.sizes(connection), self.free_bytes())
