"""Blocks that are open: a raw one where it lies, another decoded; and passes over parts of them."""

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pbstore.disk.files.reader import OpenPack
from pbstore.disk.index.locations import Location
from pbstore.errors import PackCorruptError
from pbstore.hashing import BlockId, Buffer
from pbstore.serve.library.library import Extent
from pbstore.serve.library.spans import Span
from pbstore.serve.library.trust import Trust


class RawBlock:
    """A raw block in its pack, which stays open."""

    def __init__(self, location: Location, file: OpenPack, trust: Trust) -> None:
        self.location, self.file, self.trust = location, file, trust
        self._offset = location.record.payload_offset

    def extent(self, start: int, stop: int) -> Extent:
        """Where bytes `start` to `stop` lie."""
        return Extent(self.file, self._offset + start, stop - start)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`."""
        offset = self._offset + start
        data = os.pread(self.file.fd, stop - start, offset)
        if len(data) != stop - start:
            raise PackCorruptError(self.location.pack, offset, f"payload is cut short: {len(data)} bytes")
        return data


Source: TypeAlias = RawBlock | Buffer
"""A block that was found right."""


class Reading:
    """One pass over some spans: the block that was read last stays open for its next part."""

    def __init__(self, open_block: Callable[[BlockId], Source]) -> None:
        self._open = open_block
        self._last: tuple[BlockId, Source] | None = None

    def read(self, run: Sequence[Span]) -> bytes:
        """Bytes of a run of spans."""
        return b"".join(self._part(*span) for span in run)

    def _part(self, block_id: BlockId, start: int, stop: int) -> Buffer:
        if self._last is None or self._last[0] != block_id:
            self._last = (block_id, self._open(block_id))
        source = self._last[1]
        return source.read(start, stop) if isinstance(source, RawBlock) else memoryview(source)[start:stop]
