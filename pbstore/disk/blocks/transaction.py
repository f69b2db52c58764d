"""One transaction: the only way to change what a store has; see FORMAT.md for the order of its writes."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pbstore.blocks import FOLLOWERS, StoredBlock
from pbstore.disk.blocks import recount
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.writer import PackWriter
from pbstore.disk.files.pack import Record
from pbstore.disk.index import database, locations, sketches
from pbstore.disk.index.locations import Location
from pbstore.errors import IntegrityError, UnsafeDeletionError
from pbstore.hashing import BlockId
from pbstore.store import linked


class Transaction:
    """What may be done to blocks while `DiskBlocks.writing` holds the writer's lock; of no use afterwards.

    Calls of `writing` inside it join it and get the same object.
    """

    def __init__(
        self,
        blocks: BlockReader,
        connection: sqlite3.Connection,
        writer: PackWriter,
        make_room: "Callable[[Transaction, int], None]",
    ) -> None:
        """`make_room` checks that so many payload bytes more fit."""
        self.spared: set[BlockId] = set()
        """Blocks that an open add counts on: a gc that makes room for it leaves them and what they need."""
        self.looked_at: set[BlockId] = set()
        """Blocks that an open add is reading, as parents that it may count on."""
        self.has_looked = False
        """Whether there were any since the add began."""
        self.filed_models = 0
        """Models that got a manifest in a file of its own."""
        self.depth = 1
        """Calls of `writing` that are open."""
        self._blocks = blocks
        self._connection = connection
        self._open_writer: PackWriter | None = writer
        self._make_room = make_room

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's connection: it sees what is not yet committed."""
        if self._open_writer is None:
            raise RuntimeError("the transaction is over")
        return self._connection

    @property
    def is_outermost(self) -> bool:
        """Whether no other call waits for what this one makes of the transaction."""
        return self.depth == 1

    def ensure_room(self, wanted_bytes: int) -> None:
        """Check that so many payload bytes more fit; what may go is asked to make room if not.

        Raises:
            CapacityError: If they do not.
        """
        self._make_room(self, wanted_bytes)

    def check_index(self, *, anew: bool = False) -> tuple[recount.Named, recount.Witness] | None:
        """Compare the index with manifests and packs, once as long as nobody else writes, or `anew`.

        Returns:
            What was read; None if it has been compared before.

        Raises:
            UnsafeDeletionError: If they disagree in more than counts, which are corrected.
        """
        checked = (id(self.connection), database.version(self.connection))
        if not anew and (self._blocks.checked == checked or self._blocks.trusts_index):
            return None
        named = recount.recount(self._blocks, self.connection)
        witness = recount.witness(self._blocks, named)
        self._blocks.checked = checked
        return named, witness

    def keep(self, stored: StoredBlock) -> Record:
        """Append a block that the caller has checked, within the capacity."""
        known = locations.find(self.connection, stored.block_id)
        if known is not None:
            return known.record
        pack, record = self.append_record(stored)
        locations.insert(self.connection, pack, record)
        return record

    def append_record(self, stored: StoredBlock) -> tuple[int, Record]:
        """Append a block's record, within the capacity; its row is the caller's."""
        self.ensure_room(stored.stored_bytes)
        return self._writer.append(self._with_needs_of_now(stored))

    def drop(self, location: Location) -> None:
        """Delete a block; the caller knows that nobody needs it."""
        sketches.forget(self.connection, location.record.block_id)
        locations.delete(self.connection, location)

    def replace_form(self, location: Location, stored: StoredBlock) -> None:
        """Store a block in another form; the caller has checked that it decodes.

        Casts of it, and what is derived from it, come to name what it needs now. What they name is enough at
        every moment: whatever part of the records reaches the disk, an index can be built from it.
        """
        stored = self._with_needs_of_now(stored)
        followers = locations.followers_of(self.connection, stored.block_id)
        if not set(stored.needs) <= set(location.record.needs):
            self._link(followers, stored.block_id, (*stored.needs, *location.record.needs))
        self._replace(location, stored)
        self._link(followers, stored.block_id, stored.needs)

    def _link(self, followers: Sequence[BlockId], base: BlockId, further: Sequence[BlockId]) -> None:
        """Let casts of a block, and what is derived from it, name what it needs."""
        for block_id in followers:
            location = self._blocks.locate(block_id)
            needs = self._needs_over(location.info.bases, {base: further})
            if location.record.needs != needs:
                try:
                    stored = self._export_true(location)
                except (IntegrityError, OSError):  # a damaged one stays as it is
                    continue
                self._replace(location, linked(stored, needs))

    def _replace(self, location: Location, stored: StoredBlock) -> None:
        number, record = self._writer.append(stored)
        locations.replace(self.connection, location, number, record)

    def _with_needs_of_now(self, stored: StoredBlock) -> StoredBlock:
        """A block whose bases, where they may need blocks, may have been stored anew since."""
        return linked(stored, self._needs_over(stored.bases, {})) if stored.codec in FOLLOWERS else stored

    def _needs_over(
        self, bases: Sequence[BlockId], known: Mapping[BlockId, Sequence[BlockId]]
    ) -> tuple[BlockId, ...]:
        """Bases, and what each of them needs; of some that is `known` better than from the index."""
        needs = dict.fromkeys(bases)
        for base in bases:
            further = known[base] if base in known else self._blocks.locate(base).record.needs
            needs.update(dict.fromkeys(further))
        return tuple(needs)

    def move(self, location: Location) -> Record:
        """Copy a block's record to the newest pack, after checking it.

        Raises:
            IntegrityError: If its payload is damaged, or if the record and the index disagree.
        """
        stored = self._export_true(location)
        pack, record = self._writer.append(stored)
        locations.replace(self.connection, location, pack, record)
        return record

    def _export_true(self, location: Location) -> StoredBlock:
        """A block as it is stored, if it may be stored elsewhere as the index describes it.

        If the record's header is whole it says the same; if it is damaged, the block decodes to its id.
        """
        if not recount.same_header(self._blocks, location):
            if recount.contradicts(self._blocks, location):
                raise UnsafeDeletionError(recount.says_other(location))
            self._blocks.check_block(location)
        return self._blocks.export_block(location.record.block_id)

    def cut_tails(self) -> None:
        """Give back what a killed writer appended and never committed."""
        self._writer.cut_tails()

    def start_new_pack(self) -> None:
        """Let the next block start a new pack."""
        self._writer.start_new_pack()

    def place_manifest(self, path: Path, text: bytes, place: str | None = None) -> None:
        """Let a manifest come into its place with the commit; its row is the caller's.

        `place` is that of the row that had the manifest of this name until now.
        """
        self._writer.place_manifest(path, text, place)

    def remove_manifest(self, path: Path, place: str | None = None) -> None:
        """Take a manifest away with the commit; `place` is that of its row."""
        self._writer.remove_manifest(path, place)

    def commit_so_far(self) -> None:
        """Make what the open transaction has written durable, and go on in a new one."""
        self._writer.commit()
        self._writer.begin()

    def undo_so_far(self) -> None:
        """Take back what the open transaction has written since the last commit, and go on in a new one."""
        for number in self._writer.rollback():
            self._blocks.forget_pack(number)
        self._writer.begin()

    @contextmanager
    def whole_or_not(self) -> Iterator[None]:
        """A part of the transaction that an error takes back, and the rest stays; blocks go or change in it.

        Nothing is committed and no manifest is filed in it.
        """
        mark = self._writer.mark()
        try:
            yield
        except BaseException:
            self._writer.go_back(mark)
            raise
        self._writer.forget_mark()

    def close(self) -> None:
        """Nothing more can be written: it is committed or rolled back."""
        self._open_writer = None
        self.spared.clear()
        self.looked_at.clear()

    @property
    def _writer(self) -> PackWriter:
        if self._open_writer is None:
            raise RuntimeError("the transaction is over")
        return self._open_writer
