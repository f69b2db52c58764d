"""Appending to the newest pack inside one transaction of the index."""

import errno
import os
import sqlite3
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from pbstore.blocks import StoredBlock
from pbstore.disk.blocks import manifests_found
from pbstore.disk.files import fsio, manifest_texts, pack, room, sheaf
from pbstore.disk.files.layout import TRASH_SUFFIX, Layout
from pbstore.disk.files.pack import Record
from pbstore.disk.index import database, intents, model_rows, packs, sheaves
from pbstore.disk.index.intents import Intent
from pbstore.errors import IndexCorruptError

_OPEN_FILES = 64
EARLY_BYTES = 4 << 20
"""So many bytes are sent to the disk while the next ones are made."""


class Mark(NamedTuple):
    """A point in a transaction that can be gone back to: manifests that come, go, and leave their sheaves."""

    placed: dict[Path, None]
    removed: dict[Path, None]
    leaving: dict[str, str]


class PackWriter:
    """Appends blocks, files manifests, and commits them: packs and manifests first, then the index.

    Used under the writer's lock only.
    """

    def __init__(self, layout: Layout, connection: sqlite3.Connection, pack_bytes: int) -> None:
        self._layout = layout
        self._connection = connection
        self._pack_bytes = pack_bytes
        self._number = 0
        self._fd = -1
        self._end = self._sent_end = 0
        self._sending: Future[None] | None = None
        self._folders: set[Path] = set()
        """Folders with entries that are not yet forced to the disk."""
        self._placed: dict[Path, None] = {}
        """Manifests that come into place with the commit."""
        self._removed: dict[Path, None] = {}
        """Manifests that go with it."""
        self._leaving: dict[str, str] = {}
        """Manifests whose copy in a sheaf is no longer true, and the file in which it is said to lie."""
        self._seal_before = 0
        self._cut = False
        self._created: list[int] = []
        self._committed: dict[int, int] = {}
        """Packs that this transaction appends to, and where they ended before it."""
        self._is_full = False
        self._marks = 0

    def begin(self) -> None:
        """Start a transaction; on a disk that is nearly full nothing can be appended in it."""
        self._is_full = room.is_cramped(self._layout, database.sizes(self._connection))
        if self._is_full:
            database.shorten_log(self._connection)
        database.begin(self._connection)
        if intents.get_intent(self._connection) is not None:  # carried out, but perhaps in memory only
            self._folders.add(self._layout.manifests)
            database.set_meta(self._connection, intents.INTENT, None)

    def append(self, block: StoredBlock) -> tuple[int, Record]:
        """Write a block's record; returns the pack and the record. Durable after `commit` only."""
        if self._is_full:
            raise OSError(errno.ENOSPC, f"the disk of {self._layout.root} is nearly full: nothing was added")
        if self._fd < 0:
            self.cut_tails()
            self._open()
        elif self._end >= self._pack_bytes:
            self.seal()
            self._open()
        record = pack.append(self._fd, self._end, block)
        self._end = record.end
        if self._end - self._sent_end >= EARLY_BYTES and (self._sending is None or self._sending.done()):
            self._await_sent()
            self._sending, self._sent_end = fsio.start_fdatasync(self._fd), self._end
        return self._number, record

    def place_manifest(self, path: Path, text: bytes, place: str | None = None) -> None:
        """Write a manifest that comes into its place with the commit; the model's row is the caller's.

        `place` is where one of that name lay until now.
        """
        if self._marks:
            raise RuntimeError("no manifest is filed between a mark and its end: that is not taken back")
        if place is not None and path not in self._placed:
            self._leaving[path.name] = place
        self._placed[path] = None  # before it is there: a rollback takes it away
        self._removed.pop(path, None)
        self._folders.add(path.parent)
        fd = os.open(self._layout.waiting(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            fsio.write_all(fd, [text], 0)
        finally:
            os.close(fd)

    def remove_manifest(self, path: Path, place: str | None = None) -> None:
        """Take a manifest away with the commit; `place` is where it lies."""
        if place is not None and path not in self._placed:
            self._leaving[path.name] = place
        self._placed.pop(path, None)  # what waits for its place goes with the commit, or is taken back
        self._removed[path] = None

    def mark(self) -> Mark:
        """Begin a part of the transaction that can be taken back alone."""
        database.set_savepoint(self._connection)
        self._marks += 1
        return Mark(self._placed.copy(), self._removed.copy(), self._leaving.copy())

    def forget_mark(self) -> None:
        """Let what was done since the newest mark be a part of the transaction like the rest."""
        self._marks -= 1
        database.release_savepoint(self._connection)

    def go_back(self, mark: Mark) -> None:
        """Take back what was done since the newest mark; records that were appended stay, without rows."""
        self._marks -= 1
        database.go_back_to_savepoint(self._connection)
        self._placed, self._removed, self._leaving = mark
        known = packs.ends(self._connection)
        for number in sorted(self._committed):  # what is in the files has not changed
            end = self._end if number == self._number and self._fd >= 0 else self._path(number).stat().st_size
            if number in known:
                packs.set_end(self._connection, number, end)
            else:
                packs.insert(self._connection, number, end)
                packs.note_last(self._connection, packs.last_number(self._connection))

    def has_room(self, wanted_bytes: int) -> bool:
        """Whether so many bytes may be appended."""
        return not self._is_full and room.has_room(
            self._layout, database.sizes(self._connection), wanted_bytes
        )

    @property
    def leaving(self) -> set[str]:
        """Files of manifests that go with the commit, or have gone with an earlier one."""
        return {path.name for path in self._removed}

    def start_new_pack(self) -> int:
        """Let the next block start a new pack, so that older packs can be emptied; returns its number."""
        self.seal()
        newest = packs.newest(self._connection)
        self._seal_before = (newest[0] if newest else 0) + 1
        return self._seal_before

    def seal(self) -> None:
        """Make the open pack and new manifests durable; the pack's length goes into the open transaction."""
        files: dict[int, str] = {}
        try:
            for path in self._placed:
                files[os.open(self._layout.waiting(path), os.O_RDONLY | os.O_CLOEXEC)] = "manifest"
                if len(files) >= _OPEN_FILES:
                    self._force(files)
            if self._fd >= 0:
                self._await_sent()
                packs.set_end(self._connection, self._number, self._end)
                files[self._fd], self._fd = "pack", -1
            fsio.fsync_together(files, self._folders)
            self._folders.clear()
        finally:
            for fd in files:
                os.close(fd)
            self._close_pack()

    def _cut_sheaves(self) -> None:
        """Write sheaves anew without the manifests that no longer belong in them."""
        leaving, self._leaving = self._leaving, {}
        for file, names in self._sheaves_of(leaving).items():
            path = self._layout.manifests / file
            left = self._newest(path).without(names)
            if left is None:
                self.remove_manifest(path)
                sheaves.note(self._connection, file, None)
            else:
                self.place_manifest(path, left)
                sheaves.note(self._connection, file, blake3(left).hexdigest())

    def _sheaves_of(self, leaving: Mapping[str, str]) -> dict[str, set[str]]:
        """Which manifests lie in which sheaf; where one is not where it is said to lie, all are looked at."""
        concerned: dict[str, set[str]] = {}
        lost = set()
        for name, place in leaving.items():
            if sheaf.is_sheaf(place) and name in self._newest(self._layout.manifests / place):
                concerned.setdefault(place, set()).add(name)
            elif sheaf.is_sheaf(place) or not (self._layout.manifests / name).exists():
                lost.add(name)
        for path, name in manifest_texts.in_sheaves(self._layout) if lost else ():
            if name in lost:
                concerned.setdefault(path.name, set()).add(name)
        return concerned

    def _newest(self, path: Path) -> sheaf.Sheaf:
        """A sheaf as this transaction leaves it; an empty one if there is none."""
        for place in ([self._layout.waiting(path)] if path in self._placed else []) + [path]:
            with suppress(FileNotFoundError):
                return sheaf.read(place)
        return sheaf.Sheaf(b"")

    @staticmethod
    def _force(files: dict[int, str]) -> None:
        """Force some files to the disk and close them."""
        fsio.fsync_together(files, set())
        while files:
            os.close(files.popitem()[0])

    def commit(self) -> None:
        """Make everything since `begin` durable: blocks and manifests, then the index."""
        for path in self._removed:
            self._layout.waiting(path).unlink(missing_ok=True)
        self._cut_sheaves()
        self.seal()
        if self._placed or self._removed:
            place, remove = ([path.name for path in paths] for paths in (self._placed, self._removed))
            intents.set_intent(self._connection, Intent(place=tuple(place), remove=tuple(remove)))
        database.commit(self._connection)
        self._created.clear()
        self._committed.clear()
        placed, self._placed = self._placed, {}
        removed, self._removed = self._removed, {}
        for path in placed:
            fsio.step("rename")
            self._layout.waiting(path).replace(path)
        for path in removed:
            fsio.step("unlink")
            path.unlink(missing_ok=True)

    def rollback(self) -> list[int]:
        """Forget everything since `begin`, and cut off what was appended behind the packs' ends.

        Returns:
            Numbers of the packs that were begun: others may get them.
        """
        self._close_pack()
        waiting = {**self._placed, **self._removed}
        self._placed, self._removed, self._marks = {}, {}, 0
        self._leaving.clear()
        self._seal_before = 0
        self._cut = False
        if self._connection.in_transaction:
            database.roll_back(self._connection)
            for path in waiting:
                with suppress(OSError):
                    self._layout.waiting(path).unlink()
        for number, end in self._committed.items():
            with suppress(OSError):  # then the next writer cuts it off
                os.truncate(self._path(number), end)
        self._committed.clear()
        created, self._created = self._created, []
        return created

    def cut_tails(self) -> None:
        """Take away records that were never committed: an index that is built anew would take them for true.

        Packs that are not in the index are emptied, not deleted: this process may have them open.

        Raises:
            IndexCorruptError: If the index is older than the packs: it does not know a manifest in place.
        """
        if self._cut:
            return
        self._cut = True
        cuts: list[tuple[Path, int]] = []
        newest = packs.newest(self._connection)
        if newest is not None and self._path(newest[0]).exists():
            cuts.append((self._path(newest[0]), newest[1]))
        number = packs.last_number(self._connection) + 1
        while self._path(number).exists():
            cuts.append((self._path(number), 0))
            number += 1
        cuts = [(path, end) for path, end in cuts if path.stat().st_size > end]
        if not cuts:
            return
        filed = model_rows.files(self._connection)
        filed.update(path.name for path in self._removed)
        unknown = manifests_found.unknown(self._layout, filed)
        if any(loaded is not None for file, loaded in unknown if not file.endswith(TRASH_SUFFIX)):
            raise IndexCorruptError("it is older than the packs and manifests")
        for path, end in cuts:
            packs.check_end(self._connection, int(path.stem), end)
            os.truncate(path, end)

    def _path(self, number: int) -> Path:
        return pack.pack_path(self._layout.packs, number)

    def _open(self) -> None:
        row = packs.newest(self._connection)
        if row is not None and not self._reaches(*row):  # lost, or cut off
            row = None
        if row is not None and row[1] < self._pack_bytes and row[0] >= self._seal_before:
            self._number, self._end = row
            self._committed.setdefault(self._number, self._end)
            self._fd = os.open(self._path(self._number), os.O_RDWR | os.O_CLOEXEC)
        else:
            self._number = self._next_number()
            self._created.append(self._number)
            self._committed[self._number] = 0
            self._fd = pack.create(self._path(self._number), self._number)
            self._end = pack.PACK_HEADER_BYTES
            self._folders.add(self._layout.packs)
            packs.insert(self._connection, self._number, self._end)
        self._sent_end = self._end

    def _reaches(self, number: int, end: int) -> bool:
        """Whether a pack's file is there and as long as it should be."""
        try:
            return self._path(number).stat().st_size >= end
        except FileNotFoundError:
            return False

    def _next_number(self) -> int:
        """A number that no pack has had, so that a reader never mistakes one pack for another."""
        number = packs.last_number(self._connection) + 1
        packs.note_last(self._connection, number)
        return number

    def _await_sent(self) -> None:
        """Wait for the bytes that are on their way to the disk, and hear of errors."""
        if self._sending is not None:
            self._sending.result()
            self._sending = None

    def _close_pack(self) -> None:
        if self._sending is not None:
            self._sending.exception()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._sending = -1, None
