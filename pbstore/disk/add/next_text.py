"""Which stored bytes new opaque ones may be an edit of: those behind the last match, as they were stored.

A changed piece of a text stands where the old one stood: behind a piece that is known. Blocks of a model lie
in a pack in the order of its files, so the record behind that piece's is the old one's, whatever the names.
"""

import os
from contextlib import suppress
from pathlib import Path

from pbstore.codecs.edited import LEAST_BYTES, MOST_BYTES
from pbstore.disk.files.pack import (
    RECORD_ALIGN,
    Record,
    align,
    decode_header,
    header_bytes,
    pack_path,
    read_exact,
)
from pbstore.disk.index import locations
from pbstore.disk.index.locations import Location
from pbstore.disk.models import Models
from pbstore.errors import PackCorruptError
from pbstore.folders.feed import FreshBlock
from pbstore.hashing import BlockId

GUESSES = 4
"""Changed pieces one behind the other that are looked for."""


class TextTrail:
    """Guesses what opaque blocks are edits of."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._at: BlockId | None = None
        self._left = 0

    def follow(self, block_id: BlockId) -> None:
        """The model has a block that is stored already."""
        self._at, self._left = block_id, GUESSES

    def guess(self, block: FreshBlock) -> BlockId | None:
        """A block that stands alone, None if there is none."""
        fits = block.spec is None and LEAST_BYTES <= len(block.raw) <= MOST_BYTES
        if not fits or self._at is None or not self._left:
            return None
        self._left -= 1
        self._at = self._behind(self._at)
        return self._at

    def _behind(self, block_id: BlockId) -> BlockId | None:
        location = self._models.find(block_id)
        record = None if location is None else _behind(self._models.layout.packs, location)
        found = None if record is None else self._models.find(record.block_id)
        if found is None or found.record.codec not in locations.ALONE:
            return None
        return found.record.block_id if found.record.raw_bytes <= MOST_BYTES else None


def _behind(packs: Path, location: Location) -> Record | None:
    """The record behind a block's in its pack; None if there is none that needs no other block."""
    offset = align(location.record.end, RECORD_ALIGN)
    with suppress(OSError, PackCorruptError):
        fd = os.open(pack_path(packs, location.pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return decode_header(read_exact(fd, offset, header_bytes(())), offset, location.pack)
        finally:
            os.close(fd)
    return None
