"""Blocks on the disk: put, get, export, import and delete, each atomic and durable."""

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from pbstore.blocks import CAST, RAW, RECAST, BlockInfo, StoredBlock
from pbstore.buffers import Buffers
from pbstore.codecs.choose import ZSTD
from pbstore.coding import STEPS, check_hash, decode_block, decode_checked_parts
from pbstore.disk.blocks import recount, recover
from pbstore.disk.blocks.writer import PackWriter
from pbstore.disk.files import fsio, lock, room
from pbstore.disk.files.layout import Layout, Settings, settings_text
from pbstore.disk.files.pack import MAX_OVERHEAD, Record, pack_path, payload_check
from pbstore.disk.files.reader import PackReader
from pbstore.disk.index import locations as index
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index import sketches as similar
from pbstore.disk.index.connections import Connections
from pbstore.disk.index.locations import Location
from pbstore.disk.upkeep import collect
from pbstore.errors import (
    BlockCorruptError,
    BlockInUseError,
    BlockMissingError,
    CapacityError,
    IntegrityError,
    PBStoreError,
    UnsafeDeletionError,
)
from pbstore.hashing import BlockId, Buffer, hash_block
from pbstore.store import linked, raw_block, with_all_needs

NOWHERE: Mapping[BlockId, Location] = MappingProxyType({})


class DiskBlocks:
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
        self.layout = layout
        self.settings = settings
        self._lock_wait_s = lock_wait_s
        self._mutex = threading.RLock()
        self._depth = 0
        self._connections = Connections(layout.index, read_only=read_only, durable=durable)
        self._reader = PackReader(layout.packs)
        self._writer: PackWriter | None = None
        self._making_room = self._wrote = False
        self._checked: tuple[int, int] | None = None
        """Connection, and version of the index, that `check_index` has found right."""
        self.on_full: Callable[[int], None] | None = None
        """Called with the payload bytes that are missing, before a CapacityError: an edge node's eviction."""
        self.spared: set[BlockId] = set()
        """Blocks that an open add counts on: a gc that makes room for it leaves them and what they need."""
        self.buffers = Buffers()
        """Memory into which models are read; kept between them."""
        self.read_only, self._durable = read_only, durable
        if read_only:
            self.connection.execute("SELECT COUNT(*) FROM packs").fetchone()
        elif not recover.index_is_usable(layout):
            with self._locked():
                recover.ensure_index(layout)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.layout.root

    @property
    def capacity_bytes(self) -> int | None:
        """Most payload bytes that fit, None without a limit."""
        return self.settings.capacity_bytes

    @property
    def used_bytes(self) -> int:
        """Payload bytes of all blocks."""
        return index.used_bytes(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close files and connections; the store cannot be used afterwards."""
        if connections := getattr(self, "_connections", None):
            self._tidy_at_close()
            connections.close()
            if not self.read_only and self.layout.index.exists():
                with suppress(OSError):  # its passing files may have taken the room
                    room.keep_reserve(self.layout, room.Sizes.of(self.layout))
        if reader := getattr(self, "_reader", None):
            reader.close()

    def block_ids(self) -> Iterator[BlockId]:
        """Ids of all blocks, in no particular order."""
        rows = self.connection.execute("SELECT id FROM blocks").fetchall()
        return (BlockId(key.hex()) for (key,) in rows)

    def has(self, block_id: BlockId) -> bool:
        """Whether the block is there."""
        query = "SELECT 1 FROM blocks WHERE id = ?"
        return self.connection.execute(query, (bytes.fromhex(block_id),)).fetchone() is not None

    def which(self, block_ids: Sequence[BlockId]) -> set[BlockId]:
        """Those of some blocks that are there."""
        return index.keys_in(self.connection, "blocks", "id", block_ids)

    def info(self, block_id: BlockId) -> BlockInfo:
        """Sizes, codec and needs of a block."""
        return self.locate(block_id).info

    def get(self, block_id: BlockId, *, workers: int = 1) -> Buffer:
        """Raw bytes of a block, checked against its id; `workers` threads decode it."""
        raw = self.get_unchecked(block_id, workers)
        check_hash(block_id, raw)
        return raw

    def get_unchecked(
        self, block_id: BlockId, workers: int = 1, known: Mapping[BlockId, Location] = NOWHERE
    ) -> Buffer:
        """Raw bytes of a block, for a caller who checks a hash over them anyway; `known` as `write_block`."""
        location = known.get(block_id) or self.locate(block_id)
        if location.record.codec in (RAW, ZSTD):  # what comes out may be the payload itself
            with suppress(FileNotFoundError):  # collected between the look-up and the read
                payload = self._reader.read(location.pack, location.record)
                return decode_block(self._stored(location, payload), (), check=False)
        held: list[memoryview] = []

        def decode(stored: StoredBlock) -> Buffer:
            """The block's bytes, those of a base in memory that is given back."""
            bases = [decode(needed[base]) for base in stored.bases]
            out = None
            if stored is not wanted:
                held.append(out := self.buffers.take(stored.raw_bytes))
            return decode_block(stored, bases, check=False, workers=workers, out=out)

        wanted, needed = self._borrow_all(block_id, known, held)
        raw = decode(wanted)
        if wanted.codec in (RAW, ZSTD):  # stored anew since it was located: the bytes may be the payload's
            raw = bytearray(raw)
        for memory in held:  # not after an error: a thread might still write to it
            self.buffers.give(memory)
        return raw

    def write_block(
        self, block_id: BlockId, fd: int, offset: int, known: Mapping[BlockId, Location] = NOWHERE
    ) -> None:
        """Write a block's raw bytes into an open file, in little memory.

        Whole pages of a raw block that come to lie on pages of the file are shared with the pack (reflink)
        where the file system can. `known` says where the block and what it needs lay a moment ago: it saves
        the look-ups.

        Raises:
            BlockCorruptError: If they do not hash to the block's id; the file then has other bytes there.
        """
        location = known.get(block_id) or self.locate(block_id)
        if location.record.codec == RAW:
            with suppress(FileNotFoundError):  # collected between the look-up and the first read
                if self._reader.clone(location.pack, location.record, fd, offset):
                    return
        for part in self._parts(block_id, known):
            fsio.write_at(fd, part, offset)
            offset += len(part)

    def _parts(self, block_id: BlockId, known: Mapping[BlockId, Location]) -> Iterator[Buffer]:
        """Raw bytes of a block, checked, in runs that are valid until the next is asked for."""
        location = known.get(block_id) or self.locate(block_id)
        if location.record.codec == RAW:
            with suppress(FileNotFoundError):  # collected between the look-up and the first read
                yield from self._reader.checked_parts(location.pack, location.record)
                return
        held: list[memoryview] = []
        try:
            try:
                stored, needed = self._borrow_all(block_id, known, held)
            except (BlockMissingError, FileNotFoundError):  # stored anew since `known` was read
                stored, needed = self._borrow_all(block_id, NOWHERE, held)
            yield from decode_checked_parts(stored, needed)
        finally:
            for payload in held:
                self.buffers.give(payload)

    def _borrow_all(
        self, block_id: BlockId, known: Mapping[BlockId, Location], held: list[memoryview]
    ) -> tuple[StoredBlock, dict[BlockId, StoredBlock]]:
        """A block and what it needs, as `_borrow` gives them."""
        return _with_needs(block_id, lambda one: self._borrow(one, known, held))

    def _borrow(
        self, block_id: BlockId, known: Mapping[BlockId, Location], held: list[memoryview]
    ) -> StoredBlock:
        """A block whose payload lies in memory from `buffers`, which is noted in `held`."""
        location = known.get(block_id) or self.locate(block_id)
        for last in (False, True):
            held.append(self.buffers.take(location.record.stored_bytes))
            try:
                self._reader.read_into(location.pack, location.record, held[-1])
                break
            except FileNotFoundError:  # collected between the look-up and the read
                if last:
                    raise
                location = self.locate(block_id)
        return self._stored(location, held[-1])

    def get_alone(self, location: Location, workers: int = 1) -> memoryview:
        """Raw bytes of a block that needs no other, checked; for any thread, also before it is committed.

        They lie in memory from `buffers`: give it back there, or let go of it.
        """
        payload = self.buffers.take(location.record.stored_bytes)
        self._reader.read_into(location.pack, location.record, payload)
        if location.record.codec == RAW:
            check_hash(location.record.block_id, payload)
            return payload
        out = self.buffers.take(location.record.raw_bytes)
        raw = decode_block(self._stored(location, payload), (), workers=workers, out=out)
        if raw is out:  # else it may lie in the payload
            self.buffers.give(payload)
        return memoryview(raw)

    def put(self, raw: Buffer) -> BlockId:
        """Store raw bytes as a raw block; nothing happens if they are there already."""
        block_id = hash_block(raw)
        if not self.has(block_id):
            self.keep(raw_block(raw, block_id))
        return block_id

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """The block as it is stored, to be sent elsewhere; its payload is checked."""
        location, stored = self._read_located(block_id)
        _check_payload(location, stored)
        return stored

    def import_block(self, stored: StoredBlock) -> BlockId:
        """Store a block that another store exported, after decoding it once.

        Raises:
            BlockMissingError: If a block that it needs is not there.
            BlockCorruptError: If it does not decode to its id.
            CapacityError: If it does not fit.
        """
        if not self.has(stored.block_id):
            with self.writing():  # so that making room for it does not take what it needs
                self.spared.update(stored.needs)
                stored = with_all_needs(self, stored)
                self.spared.update(stored.needs)
                decode_block(stored, [self.get(base) for base in stored.bases])
                self.keep(stored)
        return stored.block_id

    def delete_block(self, block_id: BlockId) -> None:
        """Delete a block that no manifest and no other block needs.

        Raises:
            BlockInUseError: If one does.
        """
        with self.writing() as connection:
            self.check_index()
            location = self.locate(block_id)
            if location.refs:
                raise BlockInUseError(block_id, f"{location.refs} model(s)")
            if users := index.dependents(connection, block_id):
                raise BlockInUseError(block_id, f"block {users[0][:12]}")
            self.drop(location)

    def drop(self, location: Location) -> None:
        """Inside `writing`: delete a block; the caller knows that nobody needs it."""
        similar.forget(self.connection, location.record.block_id)
        index.delete(self.connection, location)

    def check_index(self) -> None:
        """Inside `writing`: compare the index with manifests and packs, once as long as nobody else writes.

        Raises:
            UnsafeDeletionError: If they disagree in more than counts, which are corrected.
        """
        (version,) = self.connection.execute("PRAGMA data_version").fetchone()
        checked = (id(self.connection), version)
        if self._checked != checked:
            recount.witness(self, recount.recount(self))
            self._checked = checked

    def leaving_manifests(self) -> set[str]:
        """Files of manifests that are still in place and whose models are removed."""
        intent = catalog.get_intent(self.connection)
        leaving = set() if self._writer is None else self._writer.leaving
        return leaving | set(intent.remove if intent is not None else ())

    def replace_form(self, location: Location, stored: StoredBlock) -> None:
        """Inside `writing`: store a block in another form; the caller has checked that it decodes.

        Casts of it come to name what it needs now. What they name is enough at every moment: whatever part of
        the records reaches the disk, an index can be built from it.
        """
        stored = self._with_needs_of_now(stored)
        casts = index.casts_of(self.connection, stored.block_id)
        if not set(stored.needs) <= set(location.record.needs):
            self._link(casts, stored.block_id, (*stored.needs, *location.record.needs))
        self._replace(location, stored)
        self._link(casts, stored.block_id, stored.needs)

    def _link(self, casts: Sequence[BlockId], base: BlockId, further: Sequence[BlockId]) -> None:
        """Inside `writing`: let casts of a block name what it needs."""
        needs = tuple(dict.fromkeys((base, *further)))
        for block_id in casts:
            location = self.locate(block_id)
            if location.record.needs != needs:
                try:
                    stored = self._export_true(location)
                except (IntegrityError, OSError):  # a damaged one stays as it is
                    continue
                self._replace(location, linked(stored, needs))

    def _replace(self, location: Location, stored: StoredBlock) -> None:
        number, record = self._pack_writer.append(stored)
        index.replace(self.connection, location, number, record)

    def _with_needs_of_now(self, stored: StoredBlock) -> StoredBlock:
        """Inside `writing`: a block whose base, if it is a cast, may have been stored anew since."""
        if stored.codec not in (CAST, RECAST):
            return stored
        return linked(stored, (*stored.bases, *self.locate(stored.bases[0]).record.needs))

    def find(self, block_id: BlockId) -> Location | None:
        """Where a block lies, None if it is not there."""
        return index.find(self.connection, block_id)

    def dependents(self, block_id: BlockId) -> tuple[BlockId, ...]:
        """Blocks that need this one."""
        return index.dependents(self.connection, block_id)

    def view(self, block_id: BlockId) -> memoryview | None:
        """A raw block's bytes in a read-only map, unchecked; None if the block is stored in another form."""
        for last in (False, True):
            location = self.locate(block_id)
            if location.record.codec != "raw":
                return None
            try:
                return self._reader.view(location.pack, location.record)
            except FileNotFoundError:
                if last:
                    raise
        return None

    def locate(self, block_id: BlockId) -> Location:
        """Where a block lies.

        Raises:
            BlockMissingError: If it is not there.
        """
        location = index.find(self.connection, block_id)
        if location is None:
            raise BlockMissingError(block_id)
        return location

    def keep(self, stored: StoredBlock) -> Record:
        """Append a block that the caller has checked, within the capacity."""
        with self.writing() as connection:
            known = index.find(connection, stored.block_id)
            if known is not None:
                return known.record
            pack, record = self.append_record(stored)
            index.insert(connection, pack, record)
            return record

    def append_record(self, stored: StoredBlock) -> tuple[int, Record]:
        """Inside `writing`: append a block's record, within the capacity; its row is the caller's."""
        self.ensure_room(stored.stored_bytes)
        return self._pack_writer.append(self._with_needs_of_now(stored))

    def ensure_room(self, wanted_bytes: int) -> None:
        """Inside `writing`: check that so many payload bytes more fit; ask `on_full` to make room if not.

        What is in the trash goes first.

        Raises:
            CapacityError: If they do not.
        """
        capacity = self.settings.capacity_bytes
        if capacity is None:
            return
        missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0:  # nothing is evicted on the word of a counter
            index.count_packs(self.connection)
            missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0:
            self.take_from_trash(missing)
            missing = self.used_bytes + wanted_bytes - capacity
        if missing > 0 and self.on_full is not None and not self._making_room:
            self._making_room = True
            try:
                self.on_full(missing)
            finally:
                self._making_room = False
        if (used := self.used_bytes) + wanted_bytes > capacity:
            raise CapacityError(wanted_bytes, used, capacity)
        collect.keep_within(self, self.connection, capacity + max(capacity // 8, 4 << 20) - wanted_bytes)

    def take_from_trash(self, wanted_bytes: int) -> None:
        """Inside `writing`: let go of removed models, the oldest first, until so much room is free."""

    def read_record(self, location: Location) -> bytes:
        """Payload of a record, live or dead, that is still in its pack."""
        return self._reader.read(location.pack, location.record)

    def record_header(self, location: Location) -> bytes:
        """Bytes of a record up to its payload, from the pack."""
        record = location.record
        return self._reader.header(location.pack, record.offset, min(record.overhead_bytes, MAX_OVERHEAD))

    def readable_pack(self, number: int) -> Path:
        """File of a pack, to be read."""
        return pack_path(self.layout.packs, number)

    def has_room(self, wanted_bytes: int) -> bool:
        """Whether the disk has room for so many bytes more."""
        if self._writer is not None:
            return self._writer.has_room(wanted_bytes)
        return room.has_room(self.layout, index.sizes(self.connection), wanted_bytes)

    def _tidy_at_close(self) -> None:
        """Write an index that has doubled anew, if nobody else writes: its pages are two thirds full."""
        if not self._wrote or self._depth:
            return
        with suppress(PBStoreError, OSError, ValueError):  # ValueError: it is closed already
            if index.is_untidy(self.connection, growth=2.0, few=128):
                with lock.exclusive(self.layout.lock, 0.0):
                    if self.has_room(2 * index.size_bytes(self.connection)):
                        index.write_anew(self.connection)

    def tidy_index(self) -> None:
        """Outside `writing`: write the index anew if that gives much room back, and nobody is in the way."""
        with self._mutex, suppress(PBStoreError, OSError):
            if not self._depth and index.is_untidy(self.connection):
                with self._locked(), fsio.durability(self._durable):
                    if self.has_room(2 * index.size_bytes(self.connection)):
                        index.write_anew(self.connection)

    def cut_tails(self) -> None:
        """Inside `writing`: give back what a killed writer appended and never committed."""
        self._pack_writer.cut_tails()

    def start_new_pack(self) -> None:
        """Inside `writing`: let the next block start a new pack."""
        self._pack_writer.start_new_pack()

    def move(self, location: Location) -> Record:
        """Inside `writing`: copy a block's record to the newest pack, after checking it.

        Raises:
            IntegrityError: If its payload is damaged, or if the record and the index disagree.
        """
        stored = self._export_true(location)
        pack, record = self._pack_writer.append(stored)
        index.replace(self.connection, location, pack, record)
        return record

    def _export_true(self, location: Location) -> StoredBlock:
        """A block as it is stored, if it may be stored elsewhere as the index describes it.

        If the record's header is whole it says the same; if it is damaged, the block decodes to its id.
        """
        if not recount.same_header(self, location):
            if recount.contradicts(self, location):
                raise UnsafeDeletionError(recount.says_other(location))
            self.check_block(location)
        return self.export_block(location.record.block_id)

    def forget_pack(self, number: int) -> None:
        """Close a pack that is about to be deleted."""
        self._reader.forget(number)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the writer's lock and one transaction; calls inside join it."""
        if self.read_only:
            raise PermissionError(errno.EROFS, f"store {self.path} was opened for reading only")
        with self._mutex:
            if self._depth:
                self._depth += 1
                try:
                    yield self.connection
                finally:
                    self._depth -= 1
                return
            with self._locked(), fsio.durability(self._durable), self._transaction() as connection:
                yield connection

    def _locked(self) -> AbstractContextManager[None]:
        return lock.exclusive(self.layout.lock, self._lock_wait_s)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connections.renew()
        connection = self.connection
        index.roll_back(connection)  # what an interrupt left open
        index.add_missing(connection)
        recover.finish_intent(self.layout, connection)
        self._writer = PackWriter(self.layout, connection, self.settings.pack_bytes)
        try:
            self._writer.begin()
            index.note_settings(connection, settings_text(self.settings))
            self._depth = 1
            yield connection
            self._writer.commit()
            self._wrote = True
        except BaseException:
            for number in self._writer.rollback():
                self._reader.forget(number)
            raise
        finally:
            self._depth = 0
            self._writer = None
            self.spared.clear()
            with suppress(OSError, IntegrityError):
                room.keep_reserve(self.layout, index.sizes(connection))

    def commit_so_far(self) -> None:
        """Make what the open transaction has written durable, and go on in a new one."""
        self._pack_writer.commit()
        self._pack_writer.begin()

    @property
    def is_outermost(self) -> bool:
        """Inside `writing`: whether no other call waits for what this one makes of the transaction."""
        return self._depth == 1

    def undo_so_far(self) -> None:
        """Take back what the open transaction has written since the last commit, and go on in a new one."""
        for number in self._pack_writer.rollback():
            self._reader.forget(number)
        self._pack_writer.begin()

    @property
    def _pack_writer(self) -> PackWriter:
        if self._writer is None:
            raise RuntimeError("only inside `writing`")
        return self._writer

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; inside `writing` it sees what is not yet committed."""
        return self._connections.mine()

    def check_block(self, location: Location) -> None:
        """Read a block once, and check its payload and its bytes.

        Raises:
            IntegrityError: If one of them does not hash to what it should.
        """
        stored = self._stored(location, self._reader.read(location.pack, location.record))
        _check_payload(location, stored)
        _, needed = _with_needs(
            stored.block_id, lambda one: stored if one == stored.block_id else self._read(one)
        )
        for _ in decode_checked_parts(stored, needed):
            pass

    def _read(self, block_id: BlockId) -> StoredBlock:
        return self._read_located(block_id)[1]

    def _read_located(self, block_id: BlockId) -> tuple[Location, StoredBlock]:
        location = self.locate(block_id)
        try:
            payload = self._reader.read(location.pack, location.record)
        except FileNotFoundError:  # collected between the look-up and the read
            location = self.locate(block_id)
            payload = self._reader.read(location.pack, location.record)
        return location, self._stored(location, payload)

    def _stored(self, location: Location, payload: Buffer) -> StoredBlock:
        record = location.record
        return StoredBlock(
            block_id=record.block_id,
            raw_bytes=record.raw_bytes,
            codec=record.codec,
            payload=payload,
            needs=record.needs,
        )


def _with_needs(
    block_id: BlockId, read: Callable[[BlockId], StoredBlock]
) -> tuple[StoredBlock, dict[BlockId, StoredBlock]]:
    """A block and all that it needs, also where a base has been stored anew with other needs since.

    Raises:
        BlockCorruptError: If its last base is more than `STEPS` steps away, or is the block itself.
    """
    stored = read(block_id)
    needed: dict[BlockId, StoredBlock] = {}
    blocks = [stored]
    for _ in range(STEPS):
        bases = dict.fromkeys(base for block in blocks for base in block.bases)
        needed.update({base: read(base) for base in bases if base not in needed})
        blocks = [needed[base] for base in bases]
    if any(block.bases for block in blocks):
        raise BlockCorruptError(block_id, f"it is more than {STEPS} steps away from its last base")
    return stored, needed


def _check_payload(location: Location, stored: StoredBlock) -> None:
    if payload_check(stored.payload) != location.record.check:
        raise BlockCorruptError(stored.block_id, "its payload does not match its checksum")
