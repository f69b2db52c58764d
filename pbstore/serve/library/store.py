"""A store on the disk as a library: files are read in parts, and no byte of an unchecked block goes out."""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

from pbstore.blocks import RAW, BlockInfo, StoredBlock
from pbstore.disk.files.reader import OpenPack
from pbstore.disk.index.locations import Location
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import PackCorruptError, RevisionMissingError
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry
from pbstore.pool import Pool
from pbstore.serve.library.decoded import DecodedBlocks
from pbstore.serve.library.library import MAIN, Extent, Revision, commit_of
from pbstore.serve.library.spans import Span, runs_of, spans_of
from pbstore.serve.library.trust import TrustedBlocks
from pbstore.serve.settings import ServeSettings

P = ParamSpec("P")
R = TypeVar("R")
_MOST_REVISIONS = 64
"""Parsed manifests that are kept."""
_LOOK_FOR_GONE_S = 30.0
"""How often packs that a gc deleted are let go of, s."""


class StoreLibrary:
    """A `Library` over a `DiskBlockStore`; the store stays its owner's, who closes it after this."""

    def __init__(self, store: DiskBlockStore, settings: ServeSettings | None = None) -> None:
        self.store = store
        self.settings = settings or ServeSettings()
        self._pool = Pool(self.settings.readers, "serve-read")
        self._decoded = DecodedBlocks(self.settings.decoded_bytes)
        self._trusted = TrustedBlocks(self.settings.trust_s)
        self._revisions: OrderedDict[tuple[str, str], Revision] = OrderedDict()
        self._one_at_a_time = tuple(threading.Lock() for _ in range(64))
        """Who opens a block holds the lock of its id: nobody decodes or checks the same block beside it."""
        self._mutex = threading.Lock()
        self._looked_at = time.monotonic()

    async def close(self) -> None:
        """See `Library`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of the store in one of the reading threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    async def names(self) -> tuple[str, ...]:
        """See `Library`."""
        return await self.call(self.store.models)

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """See `Library`."""
        found = await self.call(self._revision, name)
        if revision not in (MAIN, found.commit):
            raise RevisionMissingError(name, revision)
        return found

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """See `Library`."""
        return await self.call(self.store.disk.which, tuple(block_ids))

    async def info(self, block_id: BlockId) -> BlockInfo:
        """See `Library`."""
        return await self.call(self.store.info, block_id)

    async def export(self, block_id: BlockId) -> StoredBlock:
        """See `Library`."""
        return await self.call(self.store.export_block, block_id)

    def read(self, file: FileEntry, start: int, stop: int) -> AsyncIterator[Buffer]:
        """See `Library`."""
        return self._read(spans_of(file, start, stop))

    def read_block(self, block_id: BlockId, start: int, stop: int) -> AsyncIterator[Buffer]:
        """See `Library`."""
        return self._read([Span(block_id, start, stop)])

    async def extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """See `Library`."""
        return await self.call(self._extents, tuple(spans_of(file, start, stop)))

    async def _read(self, spans: Iterable[Span]) -> AsyncIterator[Buffer]:
        """Bytes of spans, the next run being read while one is sent."""
        reading, runs = _Reading(self._open), runs_of(spans, self.settings.part_bytes)
        first = next(runs, None)
        if first is None:
            return
        ahead = asyncio.ensure_future(self.call(reading.read, first))
        try:
            for run in runs:
                data = await ahead
                ahead = asyncio.ensure_future(self.call(reading.read, run))
                yield data
            yield await ahead
        finally:
            ahead.cancel()

    def _revision(self, name: str) -> Revision:
        row = self.store.disk.model_row(name)
        key = (name, row.manifest_hash)
        with self._mutex:
            found = self._revisions.get(key)
        if found is None:
            manifest, commit = self.store.disk.manifest_of(row), commit_of(row.manifest_hash)
            found = Revision(commit=commit, manifest=manifest, added_at=row.added_at)
            with self._mutex:
                self._revisions[key] = found
                while len(self._revisions) > _MOST_REVISIONS:
                    self._revisions.popitem(last=False)
        return found

    def _extents(self, spans: Sequence[Span]) -> list[Extent] | None:
        found = []
        for block_id, start, stop in spans:
            if self.store.info(block_id).codec != RAW:
                return None
            source = self._open(block_id)
            if not isinstance(source, _RawBlock):
                return None
            found.append(source.extent(start, stop))
        return found

    def _open(self, block_id: BlockId) -> "_RawBlock | Buffer":
        """A block that was found right: where it lies if it is raw, else its bytes."""
        self._let_go_of_gone_packs()
        with self._one_at_a_time[hash(block_id) % len(self._one_at_a_time)]:
            try:
                return self._open_located(self.store.disk.locate(block_id))
            except FileNotFoundError:  # collected between the look-up and the read
                return self._open_located(self.store.disk.locate(block_id))

    def _open_located(self, location: Location) -> "_RawBlock | Buffer":
        block_id = location.record.block_id
        if location.record.codec == RAW:
            file = self.store.disk.open_pack(location)
            if not self._trusted.is_trusted(location, file):
                status = os.fstat(file.fd)
                self.store.disk.check_raw(location)
                self._trusted.trust(location, status)
            return _RawBlock(location, file)
        raw = self._decoded.get(block_id)
        if raw is None:
            raw = self.store.get(block_id)
            self._decoded.put(block_id, raw)
        return raw

    def _let_go_of_gone_packs(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > _LOOK_FOR_GONE_S:
            self._looked_at = now
            self.store.disk.forget_gone_packs()


class _RawBlock:
    """A raw block in its pack, which stays open."""

    def __init__(self, location: Location, file: OpenPack) -> None:
        self.location, self.file = location, file

    def extent(self, start: int, stop: int) -> Extent:
        """Where bytes `start` to `stop` lie."""
        offset = self.location.record.payload_offset + start
        return Extent(pack=self.file, offset=offset, length=stop - start)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`."""
        offset = self.location.record.payload_offset + start
        data = os.pread(self.file.fd, stop - start, offset)
        if len(data) != stop - start:
            raise PackCorruptError(self.location.pack, offset, f"payload is cut short: {len(data)} bytes")
        return data


class _Reading:
    """One pass over some spans: the block that was read last stays open for its next part."""

    def __init__(self, open_block: Callable[[BlockId], "_RawBlock | Buffer"]) -> None:
        self._open = open_block
        self._last: tuple[BlockId, _RawBlock | Buffer] | None = None

    def read(self, run: Sequence[Span]) -> bytes:
        """Bytes of a run of spans."""
        return b"".join(self._part(*span) for span in run)

    def _part(self, block_id: BlockId, start: int, stop: int) -> Buffer:
        if self._last is None or self._last[0] != block_id:
            self._last = (block_id, self._open(block_id))
        source = self._last[1]
        return source.read(start, stop) if isinstance(source, _RawBlock) else memoryview(source)[start:stop]
