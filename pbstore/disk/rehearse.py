"""A dry run is the run, on a copy of the store that has no payloads.

The copy has the store's index, its manifests (as links for reading), and packs of the same lengths that are
holes. Whatever is done to it runs through the same code as in the store; new records get their place and
their header, and a hole for the payload. A block's bytes are read from the store itself, for no form changes
them. So the copy takes little room, the store is not written to (it may lie on a read-only disk), and what
the copy would occupy on the disk is what the store will.

A copy is of one committed state, and holds no lock: others may write while it is made and used. It is made
again where somebody committed while the store's files were listed and its index copied, or where a file that
the copy reads has gone since; at last while the writer's lock is held.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from pbstore.blocks import StoredBlock
from pbstore.disk.blocks.read import NOWHERE, AtHand, nothing
from pbstore.disk.blocks.space import DiskUse, disk_use, store_files
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import fsio, room
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import Record, pack_path
from pbstore.disk.index import database, intents, packs, readonly, sheaves
from pbstore.disk.index.locations import Location
from pbstore.disk.index.sqlite import FAILURES
from pbstore.disk.models import Models
from pbstore.errors import IndexCorruptError, PBStoreError, PlanOutdatedError
from pbstore.hashing import BlockId, Buffer

DISK_BLOCK = 4096
"""A file occupies whole blocks of so many bytes. Where the file system spends further ones on a list of the
file's parts (ext4 does from the fifth part on), nobody can say so before: a block for a file that changes."""


TRIES = 4
"""Copies of a store that others write to; the last one is made under the writer's lock."""
Result = TypeVar("Result")


class Rehearsal(Models):
    """A copy of a store in which a step is tried; see the module."""

    _real: Models
    _known: dict[str, tuple[int, int]]
    """File of the copy -> length and bytes on the disk that its original has."""
    _known_bytes: int
    """Bytes on the disk of all originals."""
    _punched: dict[str, int]
    """Pack of the copy -> bytes that holes in its original would give back."""
    _sources: list[Path]
    """Files of the store that the copy reads."""
    state: str
    """`database.state` of what was copied."""

    @classmethod
    def of(cls, real: Models, folder: Path) -> Self:
        """Make a copy in an empty folder.

        Raises:
            StoreLockedError: If others write all the time, and the lock cannot be had either.
            PlanOutdatedError: If they do, and this process may not write to the store.
        """
        layout = Layout(folder)
        files, state = _still(real, lambda: _copy_index(real, layout))
        known = _copy_files(real, layout, files)
        rehearsal = cls(layout, real.settings, durable=False)
        rehearsal._real, rehearsal._known, rehearsal._punched = real, known, {}
        rehearsal._known_bytes = sum(spent for _, spent in known.values())
        rehearsal._sources = list(_files_read(real, rehearsal))
        rehearsal.take_from_trash, rehearsal.state = real.take_from_trash, state
        return rehearsal

    @property
    def has_lost(self) -> bool:
        """Whether a file that the copy reads has gone from the store."""
        return not all(path.exists() for path in self._sources)

    @property
    def is_outdated(self) -> bool:
        """Whether the store has another committed state by now, or has lost a file of this one."""
        return self.has_lost or _state(self._real) != self.state

    def disk_use(self) -> DiskUse:
        """What the store would occupy on the disk."""
        database.shorten_log(self.connection)
        return disk_use(self.layout, self._bytes_of)

    def _bytes_of(self, entry: "os.DirEntry[str]") -> int:
        """What the file's original occupied, and as many whole blocks as it is longer or shorter now."""
        old_length, old_bytes = self._known.get(entry.path, (0, 0))
        if entry.is_symlink():
            return old_bytes
        grown = _whole_blocks(entry.stat().st_size) - _whole_blocks(old_length)
        return old_bytes + grown - self._punched.get(entry.path, 0)

    def punch_pack(self, number: int, live: Sequence[Record], end: int) -> bool:
        """See `BlockReader`; counted in the store's own pack, which is left as it is."""
        path = str(pack_path(self.layout.packs, number))
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
        grown = disk_use(self.layout, self._bytes_of).total_bytes - self._known_bytes
        return fsio.free_bytes(self._real.layout.root) - grown

    def get_unchecked(
        self,
        block_id: BlockId,
        workers: int = 1,
        known: Mapping[BlockId, Location] = NOWHERE,
        at_hand: AtHand = nothing,
        out: memoryview | None = None,
    ) -> Buffer:
        """See `DiskBlocks`."""
        return self._real.get_unchecked(block_id, workers, at_hand=at_hand, out=out)

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
        return self._real.readable_pack(number) if str(path) in self._known else path

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


def rehearse(models: Models, step: Callable[[Rehearsal], Result]) -> tuple[Result, str]:
    """Try a step in a copy of a store's committed state.

    Returns:
        What the step gave, and the state that it is of.
    """
    for attempt in range(TRIES):
        is_last = attempt == TRIES - 1
        with (
            models.held_still() if is_last else nullcontext(),
            tempfile.TemporaryDirectory(prefix="pbcast-plan-") as folder,
            closing(Rehearsal.of(models, Path(folder))) as copy,
        ):
            try:
                result = step(copy)
            except (PBStoreError, OSError):
                if is_last or not copy.is_outdated:
                    raise
            else:
                if is_last or not copy.has_lost:
                    return result, copy.state
    raise PlanOutdatedError(str(models.path))


def _still(real: Models, copy_index: Callable[[], str]) -> tuple["list[os.DirEntry[str]]", str]:
    """List a store's files and copy its index at a moment when nobody commits: the files and the state."""
    for attempt in range(TRIES):
        with real.held_still() if attempt == TRIES - 1 else nullcontext():
            before = _state(real)
            files = [entry for entry in store_files(real.layout) if _is_there(entry)]
            if copy_index() == before:
                return files, before
    raise PlanOutdatedError(str(real.path))


def _is_there(entry: "os.DirEntry[str]") -> bool:
    """Whether a file is there; from then on its entry knows its size."""
    try:
        entry.stat()
    except FileNotFoundError:
        return False
    return True


def _state(real: Models) -> str:
    with closing(_fresh_connection(real)) as connection:
        return database.state(connection)


def _files_read(real: Models, copy: Models) -> Iterator[Path]:
    """Files of the store that a copy reads: packs, and the manifests that its index tells of."""
    yield from map(partial(pack_path, real.layout.packs), packs.ends(copy.connection))
    intent = intents.get_intent(copy.connection)
    placed = () if intent is None else intent.place
    waiting = [real.layout.waiting(real.layout.manifests / file).name for file in placed]
    for file in {*sheaves.places(copy.connection), *waiting}:
        if os.path.lexists(copy.layout.manifests / file):
            yield real.layout.manifests / file


def _copy_files(real: Models, layout: Layout, files: "list[os.DirEntry[str]]") -> dict[str, tuple[int, int]]:
    known: dict[str, tuple[int, int]] = {}
    start, origin, folders = len(str(real.layout.root)), real.layout.root.absolute(), set()
    for entry in files:  # thousands: so in texts, not in paths
        place, status = entry.path[start:], entry.stat()
        size, spent = status.st_size, status.st_blocks * 512
        target = f"{layout.root}{place}"
        folder = place[: -len(entry.name) - 1]
        if folder not in folders:
            folders.add(folder)
            Path(f"{layout.root}{folder}").mkdir(parents=True, exist_ok=True)
        if entry.path == str(real.layout.index):
            length = Path(target).stat().st_size  # longer, if the log is not in the index yet
            size, spent = length, spent if length == size else _whole_blocks(length)
        elif folder == f"/{real.layout.manifests.name}":
            Path(target).symlink_to(f"{origin}{place}")
        elif folder == f"/{real.layout.packs.name}":
            _make_hole(target, size)
        elif not _copied(entry.path, target):
            continue
        known[target] = (size, spent)
    layout.packs.mkdir(exist_ok=True)
    layout.manifests.mkdir(exist_ok=True)
    return known


def _copied(path: str, target: str) -> bool:
    try:
        shutil.copyfile(path, target)
    except FileNotFoundError:  # none that a plan reads
        return False
    return True


def _copy_index(real: Models, layout: Layout) -> str:
    """Copy the committed index, page by page: the same steps then make it grow as they make the original.

    Returns:
        Its state; empty if others wrote to it meanwhile, so that the copy is of no use.
    """
    stamp = readonly.stamp_of(real.layout.index)
    layout.index.unlink(missing_ok=True)
    try:
        with (
            closing(_fresh_connection(real)) as source,
            closing(sqlite3.connect(layout.index)) as copy,
        ):
            source.backup(copy)
            return database.state(copy)
    except (IndexCorruptError, *FAILURES):
        if real.read_only and readonly.stamp_of(real.layout.index) != stamp:  # read without any lock
            return ""
        raise


def _fresh_connection(real: Models) -> sqlite3.Connection:
    if real.read_only:
        return readonly.open_index(real.layout.index)[0]
    return database.connect(real.layout.index)


def _whole_blocks(length: int) -> int:
    return -(-length // DISK_BLOCK) * DISK_BLOCK


def _make_hole(path: str, length: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(fd, length)
    finally:
        os.close(fd)
