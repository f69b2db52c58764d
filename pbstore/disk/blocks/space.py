"""What a store occupies on the disk, measured part by part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pbstore.disk.files.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Bytes that a store's files occupy, as `du` counts them; without SQLite's passing ones."""

    total_bytes: int = 0
    packs_bytes: int = 0
    index_bytes: int = 0
    """The index; its log, which comes and goes, is not counted."""


def file_bytes(path: Path) -> int:
    """What one file occupies."""
    return path.lstat().st_blocks * 512


def disk_use(layout: Layout, bytes_of: Callable[[Path], int] = file_bytes) -> DiskUse:
    """Measure the files of a store."""
    total = packs = held = 0
    for path in store_files(layout):
        try:
            size = bytes_of(path)
        except FileNotFoundError:  # collected meanwhile
            continue
        total += size
        packs += size if path.parent == layout.packs else 0
        held += size if path == layout.index else 0
    return DiskUse(total_bytes=total, packs_bytes=packs, index_bytes=held)


def store_files(layout: Layout) -> Iterator[Path]:
    """All files of a store but those that SQLite keeps only while it is open."""
    passing = {f"{layout.index.name}-wal", f"{layout.index.name}-shm"}
    return (path for path in layout.root.rglob("*") if path.name not in passing and path.is_file())
