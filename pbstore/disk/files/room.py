"""Room on a full disk: a reserve for the index, and holes in packs where nothing lives.

Whoever takes something away must write to the index first, and that needs room. So a file holds some back.
Where the disk is nearly full, a writer deletes it and appends nothing, and it comes back when there is room.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from pbstore.disk.files import fsio
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import PACK_HEADER_BYTES, RECORD_ALIGN, Record, align, pack_numbers, pack_path

LEAST_RESERVE, MOST_RESERVE = 192 << 10, 8 << 20
RESERVE_SHARE = 512
"""The reserve is as long as the index, but not longer than `LEAST_RESERVE` or this part of the packs: a
transaction that removes a model writes many pages of the index anew, at most all."""
SHARED_BYTES = 32 << 10
"""What SQLite needs beside its log, bytes."""
MARGIN = 256 << 10
"""Free bytes beside the reserve below which a disk is nearly full."""


class Sizes(NamedTuple):
    """How long a store's parts are."""

    index_bytes: int
    pack_bytes: int

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """As the files are."""
        packs = (pack_path(layout.packs, number) for number in pack_numbers(layout.packs))
        return cls(layout.index.stat().st_size, sum(path.stat().st_size for path in packs))


def is_cramped(layout: Layout, sizes: Sizes) -> bool:
    """Whether the disk is so full that only the reserve lets the index be written; then it is freed."""
    if has_room(layout, sizes, 0):
        return False
    free_reserve(layout.reserve)
    return True


def has_room(layout: Layout, sizes: Sizes, wanted_bytes: int) -> bool:
    """Whether so many bytes more leave room for the index and a margin."""
    return is_enough(fsio.free_bytes(layout.root), sizes, wanted_bytes)


def is_enough(free_bytes: int, sizes: Sizes, wanted_bytes: int) -> bool:
    """Whether so many free bytes are enough for so many more, the index and a margin."""
    return free_bytes >= wanted_bytes + wanted_reserve(sizes) + MARGIN


def wanted_reserve(sizes: Sizes) -> int:
    """How long the reserve should be, bytes."""
    most = max(LEAST_RESERVE, min(MOST_RESERVE, sizes.pack_bytes // RESERVE_SHARE))
    return align(min(sizes.index_bytes + SHARED_BYTES, most), 4096)


def free_reserve(path: Path) -> bool:
    """Give the reserve's room back; False if there is none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def keep_reserve(layout: Layout, sizes: Sizes, free_bytes: int) -> None:
    """Hold room back, as far as there is some on the store's disk."""
    wanted = wanted_reserve(sizes)
    have = layout.reserve.stat().st_size if layout.reserve.exists() else 0
    if wanted <= 2 * have <= 8 * wanted or free_bytes < wanted:
        return
    with suppress(OSError):
        fd = os.open(layout.reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(fd, min(have, wanted))
            fsio.allocate(fd, wanted)
        finally:
            os.close(fd)


def punch(layout: Layout, number: int, live: Sequence[Record], end: int) -> bool:
    """Give back what lies between the live records of a pack; the caller knows that nobody needs it.

    Args:
        layout: The store's paths.
        number: Of the pack.
        live: Its records that must stay.
        end: Of the pack.

    Returns:
        Whether it was done: not while somebody has the pack open, nor where the file system cannot.
    """
    fd = os.open(pack_path(layout.packs, number), os.O_RDWR | os.O_CLOEXEC)
    try:
        if not fsio.lock_alone(fd):
            return False
        return all(fsio.punch_hole(fd, start, stop - start) for start, stop in _gaps(live, end))
    finally:
        os.close(fd)


def would_punch(layout: Layout, number: int, live: Sequence[Record], end: int) -> int | None:
    """Bytes that `punch` would give back; None while somebody has the pack open."""
    with pack_path(layout.packs, number).open("rb") as file:
        if not fsio.lock_alone(file.fileno()):
            return None
        return sum(fsio.held_bytes(file.fileno(), start, stop) for start, stop in _gaps(live, end))


def _gaps(live: Sequence[Record], end: int) -> Iterator[tuple[int, int]]:
    position = PACK_HEADER_BYTES
    for record in sorted(live, key=lambda record: record.offset):
        if record.offset > position:
            yield position, record.offset
        position = max(position, align(record.end, RECORD_ALIGN))
    if position < end:
        yield position, end
