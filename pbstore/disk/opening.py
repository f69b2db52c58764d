"""Opening a store, making it if the folder is missing or empty."""

import errno
from dataclasses import replace
from pathlib import Path

from pbstore.disk.files.layout import Layout, prepare, read_settings, write_settings
from pbstore.disk.index.readonly import can_write
from pbstore.disk.models import Models
from pbstore.disk.store import DiskBlockStore


def open_store(
    path: str | Path,
    capacity_bytes: int | None = None,
    *,
    pack_bytes: int | None = None,
    trash_days: float | None = None,
    lock_wait_s: float = 60.0,
    read_only: bool = False,
    durable: bool = True,
) -> DiskBlockStore:
    """Open the store in a folder; make one if the folder is missing or empty.

    Args:
        path: The store's folder.
        capacity_bytes: Most payload bytes that fit. None keeps what the store was made with.
        pack_bytes: Length at which a pack is closed, bytes; only for a new store.
        trash_days: For how many days a gc leaves removed models alone. 0 for no trash;
            None keeps what is set, 7 at first.
        read_only: Touch nothing. So is a store opened that this process cannot write to: on a read-only disk,
            or of another user. What others write to it meanwhile is seen.
        durable: Wait for the disk at every commit. False for scratch stores: they survive the death of a
            process, but not of the machine, and are many times faster for small writes.
        lock_wait_s: How long a writer waits for another one, s.

    Raises:
        NotAStoreError: If the folder holds something else, or a store of an unknown version.
        PermissionError: If a setting is to be changed and the store cannot be written to.
        ValueError: If a number is out of range.
    """
    layout = Layout(Path(path))
    if read_only or (layout.settings.exists() and not can_write(layout)):
        return _open_for_reading(layout, capacity_bytes, trash_days)
    layout, settings = prepare(Path(path), capacity_bytes, pack_bytes)
    changed = replace(
        settings,
        capacity_bytes=settings.capacity_bytes if capacity_bytes is None else capacity_bytes,
        trash_days=settings.trash_days if trash_days is None else trash_days,
    )
    if changed != settings:
        settings = changed
        write_settings(layout, settings)
    return DiskBlockStore(Models(layout, settings, lock_wait_s, durable=durable))


def _open_for_reading(layout: Layout, capacity_bytes: int | None, trash_days: float | None) -> DiskBlockStore:
    settings = read_settings(layout)
    wanted = (capacity_bytes, trash_days)
    held = (settings.capacity_bytes, settings.trash_days)
    if any(value not in (None, now) for value, now in zip(wanted, held, strict=True)):
        raise PermissionError(errno.EROFS, f"store {layout.root} cannot be written to: its settings stay")
    return DiskBlockStore(Models(layout, settings, read_only=True))
