"""A dry run of adding models: the run itself, in a copy of the store in which new blocks have their payloads.

What the store has is read from the store; what is new lies in the copy alone, so that it can be a base of
what comes behind it, as in the run. The copy lies beside the store and needs as much room as the new blocks.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pbstore.disk.blocks.disk_blocks import DiskBlocks
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import Record
from pbstore.disk.files.reader import PackReader
from pbstore.disk.index import packs
from pbstore.disk.models import Models
from pbstore.disk.opening import open_store
from pbstore.disk.rehearse import Rehearsal
from pbstore.disk.store import DiskBlockStore
from pbstore.folders.nesting import OwnStore
from pbstore.folders.scratch import scratch

PREFIX = ".pbcast-plan-"
"""How the folders of copies begin."""


class _Overlay(PackReader):
    """Reads records that the store has from the store, and further ones from the copy."""

    def __init__(self, real: Path, copy: Path, ends: Mapping[int, int]) -> None:
        """`ends` says where each of the store's packs ends by the index: what lies behind means nothing."""
        super().__init__(copy)
        self._real, self._ends = PackReader(real), ends

    def read(self, pack: int, record: Record) -> bytes:
        """See `PackReader`."""
        return self._real.read(pack, record) if self._is_old(pack, record.end) else super().read(pack, record)

    def read_into(self, pack: int, record: Record, out: memoryview) -> None:
        """See `PackReader`."""
        if self._is_old(pack, record.end):
            return self._real.read_into(pack, record, out)
        return super().read_into(pack, record, out)

    def clone(self, pack: int, record: Record, fd: int, offset: int) -> bool:
        """Never: nothing is checked out of a copy."""
        return False

    def header(self, pack: int, offset: int, length: int) -> bytes:
        """See `PackReader`."""
        if self._is_old(pack, offset + length):
            return self._real.header(pack, offset, length)
        return super().header(pack, offset, length)

    def view(self, pack: int, record: Record) -> memoryview:
        """See `PackReader`."""
        return self._real.view(pack, record) if self._is_old(pack, record.end) else super().view(pack, record)

    def checked_parts(self, pack: int, record: Record) -> Iterator[memoryview]:
        """See `PackReader`."""
        if self._is_old(pack, record.end):
            return self._real.checked_parts(pack, record)
        return super().checked_parts(pack, record)

    def close(self) -> None:
        """See `PackReader`."""
        self._real.close()
        super().close()

    def _is_old(self, pack: int, end: int) -> bool:
        return end <= self._ends.get(pack, 0)


class Trial(Rehearsal):
    """A copy of a store to which models can be added; see the module."""

    trusts_index = True  # the copy's packs are holes, and what is in the index was just copied

    # unlike in a rehearsal, what is new is written and read as in any store
    writing = DiskBlocks.writing
    get_unchecked = DiskBlocks.get_unchecked
    get_alone = DiskBlocks.get_alone
    record_header = DiskBlocks.record_header
    read_record = DiskBlocks.read_record
    export_block = DiskBlocks.export_block

    @classmethod
    def of(cls, real: Models, folder: Path) -> Self:
        """Make a copy in an empty folder."""
        trial = super().of(real, folder)
        ends = packs.ends(trial.connection)
        trial._reader = _Overlay(real.layout.packs, trial.layout.packs, ends)
        return trial

    @property
    def own(self) -> OwnStore:
        """The store itself: what a source must not hold of it is the same in the dry run."""
        return self._real.own

    def disk_bytes(self) -> int:
        """What the store would occupy on the disk."""
        return self.disk_use().total_bytes


@contextmanager
def trial(path: Path) -> Iterator[DiskBlockStore]:
    """A copy of the store in a folder, or of a new one if there is none, that goes in the end."""
    with scratch(_beside(path), PREFIX) as folder:
        there = Layout(path).settings.exists() or (path.exists() and any(path.iterdir()))
        copied = folder / "copy"
        copied.mkdir()
        with open_store(path if there else folder / "new") as real, Trial.of(real.disk, copied) as copy:
            yield DiskBlockStore(copy)


def _beside(path: Path) -> Path:
    """The folder that a store lies in or will lie in, or the one for temporary files."""
    beside = next(one for one in path.absolute().parents if one.is_dir())
    return beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
