"""What a store occupies on the disk, measured part by part."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pbstore.disk.files.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Bytes that a store's files occupy, as `du` counts them; without SQLite's passing ones."""

    total_bytes: int = 0
    packs_bytes: int = 0
    index_bytes: int = 0
    """The index; its log, which comes and goes, is not counted."""


def file_bytes(entry: "os.DirEntry[str]") -> int:
    """What one file occupies."""
    return entry.stat(follow_symlinks=False).st_blocks * 512


def disk_use(layout: Layout, bytes_of: "Callable[[os.DirEntry[str]], int]" = file_bytes) -> DiskUse:
    """Measure the files of a store."""
    total = packs = held = 0
    packs_folder, index = f"{layout.packs}{os.sep}", str(layout.index)
    for entry in store_files(layout):
        try:
            size = bytes_of(entry)
        except FileNotFoundError:  # collected meanwhile
            continue
        total += size
        packs += size if entry.path.startswith(packs_folder) else 0
        held += size if entry.path == index else 0
    return DiskUse(total_bytes=total, packs_bytes=packs, index_bytes=held)


def store_files(layout: Layout) -> "Iterator[os.DirEntry[str]]":
    """All files of a store but those that SQLite keeps only while it is open."""
    passing = {f"{layout.index.name}-wal", f"{layout.index.name}-shm"}
    return (entry for entry in _entries(str(layout.root)) if entry.name not in passing)


def _entries(folder: str) -> "Iterator[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield entry
