"""A dry run is the run, on a copy of the store that has no payloads.

The copy has the store's index, its manifests (as links for reading), and packs of the same lengths that are
holes. Whatever is done to it runs through the same code as in the store; new records get their place and
their header, and a hole for the payload. A block's bytes are read from the store itself, for no form changes
them. So the copy takes little room, the store is not written to (it may lie on a read-only disk), and what
the copy would occupy on the disk is what the store will.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from pbstore.blocks import StoredBlock
from pbstore.disk.blocks.read import NOWHERE
from pbstore.disk.blocks.space import DiskUse, disk_use, store_files
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import fsio, room
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import Record, pack_path
from pbstore.disk.index import database, readonly
from pbstore.disk.index.locations import Location
from pbstore.disk.models import Models
from pbstore.hashing import BlockId, Buffer

DISK_BLOCK = 4096
"""A file occupies whole blocks of so many bytes. Where the file system spends further ones on a list of the
file's parts (ext4 does from the fifth part on), nobody can say so before: a block for a file that changes."""


class Rehearsal(Models):
    """A copy of a store in which a step is tried; see the module."""

    _real: Models
    _known: dict[Path, tuple[int, int]]
    """File of the copy -> length and bytes on the disk that its original has."""
    _punched: dict[Path, int]
    """Pack of the copy -> bytes that holes in its original would give back."""

    @classmethod
    def of(cls, real: Models, folder: Path) -> Self:
        """Make a copy in an empty folder."""
        layout = Layout(folder)
        known = _copy_files(real, layout)
        rehearsal = cls(layout, real.settings, durable=False)
        rehearsal._real, rehearsal._known, rehearsal._punched = real, known, {}
        rehearsal.take_from_trash = real.take_from_trash
        return rehearsal

    def disk_use(self) -> DiskUse:
        """What the store would occupy on the disk."""
        database.shorten_log(self.connection)
        return disk_use(self.layout, self._bytes_of)

    def _bytes_of(self, path: Path) -> int:
        """What the file's original occupied, and as many whole blocks as it is longer or shorter now."""
        old_length, old_bytes = self._known.get(path, (0, 0))
        grown = _whole_blocks(path.stat().st_size) - _whole_blocks(old_length)
        return old_bytes + grown - self._punched.get(path, 0)

    def punch_pack(self, number: int, live: Sequence[Record], end: int) -> bool:
        """See `BlockReader`; counted in the store's own pack, which is left as it is."""
        path = pack_path(self.layout.packs, number)
        if path not in self._known:
            return super().punch_pack(number, live, end)
        self._real.forget_pack(number)
        given = room.would_punch(self._real.layout, number, live, end)
        self._punched[path] = given or 0
        return given is not None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """See `DiskBlocks`; payloads become holes."""
        with fsio.holes(), super().writing() as tx:
            yield tx

    def _tidy_at_close(self) -> None:
        """Not in a copy."""

    def has_room(self, wanted_bytes: int) -> bool:
        """See `DiskBlocks`; on the store's disk."""
        return room.is_enough(self.free_bytes(), database.sizes(self.connection), wanted_bytes)

    def free_bytes(self) -> int:
        """See `DiskBlocks`; on the store's disk, less what the copy has grown by."""
        grown = disk_use(self.layout, self._bytes_of).total_bytes - sum(
            spent for _, spent in self._known.values()
        )
        return fsio.free_bytes(self._real.layout.root) - grown

    def get_unchecked(
        self, block_id: BlockId, workers: int = 1, known: Mapping[BlockId, Location] = NOWHERE
    ) -> Buffer:
        """See `DiskBlocks`."""
        return self._real.get_unchecked(block_id, workers)

    def get_alone(self, location: Location, workers: int = 1) -> memoryview:
        """See `DiskBlocks`."""
        return memoryview(self._real.get(location.record.block_id, workers=workers))

    def record_header(self, location: Location) -> bytes:
        """See `DiskBlocks`."""
        if self._is_original(location):
            return self._real.record_header(location)
        return super().record_header(location)

    def readable_pack(self, number: int) -> Path:
        """See `DiskBlocks`; the store's own file where it has the pack."""
        path = super().readable_pack(number)
        return self._real.readable_pack(number) if path in self._known else path

    def check_block(self, location: Location) -> None:
        """See `DiskBlocks`; what was stored anew has been checked."""
        if self._is_original(location):
            self._real.check_block(location)

    def read_record(self, location: Location) -> bytes:
        """A payload of the right length; its bytes do not matter."""
        return bytes(location.record.stored_bytes)

    def export_block(self, block_id: BlockId) -> StoredBlock:
        """The block with its payload, checked, if the store has it in this form, else with one as long."""
        location = self.locate(block_id)
        original = self._real.find(block_id)
        if original is not None and original.record.check == location.record.check:
            return StoredBlock.of(location.record, self._real.export_block(block_id).payload)
        return StoredBlock.of(location.record, bytes(location.record.stored_bytes))

    def _is_original(self, location: Location) -> bool:
        original = self._real.find(location.record.block_id)
        return (
            original is not None
            and original.pack == location.pack
            and original.record.offset == location.record.offset
        )


@contextmanager
def rehearsal(models: Models) -> Iterator[Rehearsal]:
    """A copy of a store's committed state, to try a step in."""
    with tempfile.TemporaryDirectory(prefix="pbcast-plan-") as folder:
        copy = Rehearsal.of(models, Path(folder))
        try:
            yield copy
        finally:
            copy.close()


def _copy_files(real: Models, layout: Layout) -> dict[Path, tuple[int, int]]:
    known: dict[Path, tuple[int, int]] = {}
    folders: set[Path] = set()
    for path in store_files(real.layout):
        target = layout.root / path.relative_to(real.layout.root)
        if target.parent not in folders:
            folders.add(target.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
        if path == real.layout.index:
            _copy_index(real, target)
        try:
            status = path.stat()
        except FileNotFoundError:  # collected meanwhile
            continue
        known[target] = (status.st_size, status.st_blocks * 512)
        if path == real.layout.index:
            length = target.stat().st_size  # longer, if the log is not in the index yet
            spent = status.st_blocks * 512 if length == status.st_size else _whole_blocks(length)
            known[target] = (length, spent)
        elif path.parent == real.layout.manifests:
            target.symlink_to(path.absolute())
        elif path.parent == real.layout.packs:
            _make_hole(target, status.st_size)
        else:
            target.write_bytes(path.read_bytes())
    layout.packs.mkdir(exist_ok=True)
    layout.manifests.mkdir(exist_ok=True)
    return known


def _copy_index(real: Models, target: Path) -> None:
    """Copy the committed index, page by page: the same steps then make it grow as they make the original."""
    with (
        closing(_fresh_connection(real)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)


def _fresh_connection(real: Models) -> sqlite3.Connection:
    if real.read_only:
        return readonly.open_index(real.layout.index)[0]
    return database.connect(real.layout.index)


def _whole_blocks(length: int) -> int:
    return -(-length // DISK_BLOCK) * DISK_BLOCK


def _make_hole(path: Path, length: int) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), length)
