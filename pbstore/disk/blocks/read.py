"""Reading blocks on the disk: where they lie, their bytes, and what a record says of itself."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from pbstore.blocks import RAW, ZSTD, BlockInfo, StoredBlock
from pbstore.buffers import Buffers
from pbstore.coding import check_hash, decode_block, decode_checked_parts, decode_with_needs, with_needs
from pbstore.disk.blocks import space
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.blocks.writer import PackWriter
from pbstore.disk.files import fsio, room
from pbstore.disk.files.layout import Layout, Settings
from pbstore.disk.files.pack import MAX_OVERHEAD, Record, pack_path, payload_check
from pbstore.disk.files.reader import OpenPack, PackReader
from pbstore.disk.index import database, intents, locations
from pbstore.disk.index.connections import Connections
from pbstore.disk.index.locations import Location
from pbstore.errors import BlockCorruptError, BlockMissingError, IndexCorruptError
from pbstore.hashing import BlockId, Buffer

NOWHERE: Mapping[BlockId, Location] = MappingProxyType({})
AtHand: TypeAlias = Callable[[BlockId], Buffer | None]


def nothing(block_id: BlockId) -> None:
    """Nothing is at hand."""


class BlockReader:
    """The reading half of `DiskBlocks`: for any number of threads and processes."""

    trusts_index = False
    """Whether the index was just made from the store's own, so that it needs no look at packs."""

    def __init__(self, layout: Layout, settings: Settings, *, read_only: bool, durable: bool) -> None:
        self.layout = layout
        self.settings = settings
        self._connections = Connections(layout.index, read_only=read_only, durable=durable)
        self._reader = PackReader(layout.packs)
        self._writer: PackWriter | None = None
        """Of the open transaction."""
        self.checked: tuple[int, int] | None = None
        """Connection, and version of the index, that `Transaction.check_index` has found right."""
        self.buffers = Buffers()
        """Memory into which models are read; kept between them."""
        self.read_only, self._durable = read_only, durable

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
        return locations.used_bytes(self.connection)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection; inside `writing` it sees what is not yet committed."""
        return self._connections.mine()

    def block_ids(self) -> Iterator[BlockId]:
        """Ids of all blocks, in no particular order."""
        return (BlockId(key.hex()) for key in locations.keys(self.connection))

    def has(self, block_id: BlockId) -> bool:
        """Whether the block is there."""
        return locations.has(self.connection, block_id)

    def which(self, block_ids: Sequence[BlockId]) -> set[BlockId]:
        """Those of some blocks that are there."""
        return locations.keys_in(self.connection, "blocks", "id", block_ids)

    def info(self, block_id: BlockId) -> BlockInfo:
        """Sizes, codec and needs of a block."""
        return self.locate(block_id).info

    def get(self, block_id: BlockId, *, workers: int = 1, at_hand: AtHand = nothing) -> Buffer:
        """Raw bytes of a block, checked against its id.

        Args:
            block_id: The block.
            workers: Threads that decode it.
            at_hand: Gives right raw bytes of a block on which this one is based, if the caller has them: they
                are not decoded once more.
        """
        raw = self.get_unchecked(block_id, workers, at_hand=at_hand)
        check_hash(block_id, raw)
        return raw

    def get_unchecked(
        self,
        block_id: BlockId,
        workers: int = 1,
        known: Mapping[BlockId, Location] = NOWHERE,
        at_hand: AtHand = nothing,
        out: memoryview | None = None,
    ) -> Buffer:
        """Raw bytes of a block, for a caller who checks a hash over them anyway; `known` as `write_block`.

        What is given is `out`, memory of their length, unless they are there without decoding.
        """
        location = known.get(block_id) or self.locate(block_id)
        if location.record.codec in (RAW, ZSTD):  # what comes out may be the payload itself
            with suppress(FileNotFoundError):  # collected between the look-up and the read
                payload = self._reader.read(location.pack, location.record)
                return decode_block(StoredBlock.of(location.record, payload), (), check=False)
        held: list[memoryview] = []

        wanted, needed = self._borrow_all(block_id, known, held, at_hand)

        def take(num_bytes: int) -> memoryview:
            held.append(self.buffers.take(num_bytes))
            return held[-1]

        raw = decode_with_needs(wanted, needed, take, workers, out)
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
        self,
        block_id: BlockId,
        known: Mapping[BlockId, Location],
        held: list[memoryview],
        at_hand: AtHand = nothing,
    ) -> tuple[StoredBlock, dict[BlockId, StoredBlock]]:
        """A block and what it needs, as `_borrow` gives them; what is at hand needs nothing."""

        def read(one: BlockId) -> StoredBlock:
            raw = None if one == block_id else at_hand(one)
            if raw is None:
                return self._borrow(one, known, held)
            return StoredBlock(block_id=one, raw_bytes=len(raw), codec=RAW, payload=raw)

        return with_needs(block_id, read)

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
        return StoredBlock.of(location.record, held[-1])

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
        raw = decode_block(StoredBlock.of(location.record, payload), (), workers=workers, out=out)
        if raw is out:  # else it may lie in the payload
            self.buffers.give(payload)
        return memoryview(raw)

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """The block as it is stored, to be sent elsewhere; its payload is checked."""
        location, stored = self._read_located(block_id)
        _check_payload(location, stored)
        return stored

    def find(self, block_id: BlockId) -> Location | None:
        """Where a block lies, None if it is not there."""
        return locations.find(self.connection, block_id)

    def dependents(self, block_id: BlockId) -> tuple[BlockId, ...]:
        """Blocks that need this one."""
        return locations.dependents(self.connection, block_id)

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

    def open_pack(self, location: Location) -> OpenPack:
        """The pack of a block, open; the block's payload is found right by `check_raw`, not here.

        Raises:
            FileNotFoundError: If it was collected meanwhile; look the block up again.
        """
        return self._reader.open(location.pack)

    def check_raw(self, location: Location) -> None:
        """Read a raw block and check its hash, in little memory.

        Raises:
            FileNotFoundError: If it was collected meanwhile; look the block up again.
            IntegrityError: If it does not hash to its id, or is cut short.
        """
        for _ in self._reader.checked_parts(location.pack, location.record):
            pass

    def forget_gone_packs(self) -> None:
        """Let go of packs that a gc has deleted; for those who keep a store open for long."""
        self._reader.forget_gone()

    def locate(self, block_id: BlockId) -> Location:
        """Where a block lies.

        Raises:
            BlockMissingError: If it is not there.
        """
        location = locations.find(self.connection, block_id)
        if location is None:
            raise BlockMissingError(block_id)
        return location

    def locations(self, problems: list[str] | None = None) -> Iterator[Location]:
        """All blocks in the order in which they lay on the disk; others may write meanwhile.

        What is wrong with rows that say nothing sensible goes into `problems`; without it, it is raised.
        """
        ids = locations.keys_in_order(self.connection)
        for start in range(0, len(ids), 32):
            block_id = BlockId(ids[start : start + 32].hex())
            try:
                location = self.find(block_id)
            except IndexCorruptError as error:
                if problems is None:
                    raise
                problems.append(f"block {block_id[:12]}: {error}")
                continue
            if location is not None:
                yield location

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

    def forget_pack(self, number: int) -> None:
        """Close a pack that is about to be deleted or to be begun anew."""
        self._reader.forget(number)

    def punch_pack(self, number: int, live: Sequence[Record], end: int) -> bool:
        """Give back what lies between the live records of a pack; see `room.punch`."""
        self.forget_pack(number)  # nobody may have it open, and whoever checked it has read from it
        return room.punch(self.layout, number, live, end)

    def has_room(self, wanted_bytes: int) -> bool:
        """Whether the disk has room for so many bytes more."""
        if self._writer is not None:
            return self._writer.has_room(wanted_bytes)
        return room.has_room(self.layout, database.sizes(self.connection), wanted_bytes)

    def leaving_manifests(self) -> set[str]:
        """Files of manifests that are still in place and whose models are removed."""
        intent = intents.get_intent(self.connection)
        leaving = set() if self._writer is None else self._writer.leaving
        return leaving | set(intent.remove if intent is not None else ())

    def disk_bytes(self) -> int:
        """What the store's files occupy on the disk, as `du` counts it; without SQLite's passing ones."""
        return space.disk_use(self.layout).total_bytes

    def disk_use(self) -> DiskUse:
        """What the store's files occupy on the disk, part by part; the index's log is emptied first."""
        if not self.read_only:
            database.shorten_log(self.connection)
        return space.disk_use(self.layout)

    def check_block(self, location: Location) -> None:
        """Read a block once, and check its payload and its bytes.

        Raises:
            IntegrityError: If one of them does not hash to what it should.
        """
        stored = StoredBlock.of(location.record, self._reader.read(location.pack, location.record))
        _check_payload(location, stored)
        _, needed = with_needs(
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
        return location, StoredBlock.of(location.record, payload)


def _check_payload(location: Location, stored: StoredBlock) -> None:
    if payload_check(stored.payload) != location.record.check:
        raise BlockCorruptError(stored.block_id, "its payload does not match its checksum")
