"""A store on the disk as a library: files are read in parts, and no byte of an unchecked block goes out."""

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from pbstore.blocks import RAW, BlockInfo, StoredBlock
from pbstore.disk.index.locations import Location
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import ModelMissingError, PBStoreError
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry
from pbstore.pool import Pool
from pbstore.serve.library.decoded import DecodedBlocks
from pbstore.serve.library.flights import Flights
from pbstore.serve.library.hash_book import HashBook, content_key
from pbstore.serve.library.hasher import Hasher
from pbstore.serve.library.library import MAIN, Extent, History, Revision, commit_of
from pbstore.serve.library.places import Places
from pbstore.serve.library.quick import QuickAnswers
from pbstore.serve.library.reading import RawBlock, Reading, Source
from pbstore.serve.library.spans import Span, groups_of, runs_of, spans_of
from pbstore.serve.library.trust import TrustedBlocks
from pbstore.serve.library.window import Room, Window
from pbstore.serve.settings import ServeSettings
from pbstore.serve.wire.hub import FileHashes, is_plain

P = ParamSpec("P")
R = TypeVar("R")
_MOST_REVISIONS = 64
"""Parsed manifests that are kept."""
_LOOK_FOR_NEW_S = 5.0
"""How often new models are looked for, to hash their files, s."""
_SHARED_BYTES = 4 << 20
"""From this size on all cores decode a block together: it is sent only when it is whole."""
_LOOK_FOR_GONE_S = 30.0
"""How often packs that a gc deleted are let go of, s."""


class StoreLibrary:
    """A `Library` over a `DiskBlockStore`; the store stays its owner's, who closes it after this."""

    def __init__(self, store: DiskBlockStore, settings: ServeSettings | None = None) -> None:
        self.store = store
        self.settings = settings or ServeSettings()
        self._pool = Pool(self.settings.readers, "serve-read")
        self._cores = Pool(self.settings.decoders, "serve-decode")
        self.room = Room(self.settings.all_ahead_bytes)
        self._opening: Flights[BlockId, Source] = Flights()
        self._decoded = DecodedBlocks(self.settings.decoded_bytes)
        self._trusted = TrustedBlocks(self.settings.trust_s)
        self._revisions: OrderedDict[tuple[str, str], Revision] = OrderedDict()
        self._one_at_a_time = tuple(threading.Lock() for _ in range(64))
        """Who opens a block holds the lock of its id: nobody decodes or checks the same block beside it."""
        self._mutex = threading.Lock()
        self._hasher = Hasher(self._all_of, self._book_path())
        self._looked_at = time.monotonic()
        self.quick = QuickAnswers(lambda: self.store.disk.connection)
        """Of the event loop."""

    @property
    def book(self) -> HashBook:
        """Hashes of files that are known."""
        return self._hasher.book

    async def close(self) -> None:
        """See `Library`."""
        for pool in (self._pool, self._cores):
            pool.shutdown(wait=False, cancel_futures=True)
        self._hasher.close()

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of the store in one of the reading threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    async def names(self) -> tuple[str, ...]:
        """See `Library`."""
        return await self.call(self.store.models)

    async def revision(self, name: str, revision: str = MAIN) -> Revision:
        """See `Library`."""
        version = self.quick.version()
        address = name if revision == MAIN else f"{name}@{revision}"
        found: Revision | None = self.quick.get(address)
        if found is None:
            found = await self.call(self._revision, address)
            self.quick.put(address, found, version)
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

    def read_spans(self, spans: Iterable[Span]) -> AsyncIterator[Buffer]:
        """`read`, of parts of blocks."""
        return self._read(spans)

    async def extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """See `Library`."""
        found = self.known_extents(file, start, stop)
        if found is not None:
            return found
        version = self.quick.version()
        blocks = await self.call(self._raw_blocks, spans_of(file, start, stop))
        if blocks is None:
            return None
        places = self._places(file)
        places.note(start, blocks)
        self.quick.put(id(file), places, version)
        return places.extents(start, stop, self._is_trusted)

    def is_current(self, name: str, file: FileEntry) -> bool:
        """Whether a file is still what a model's name means, as long as the index is what it was."""
        return True

    def block_ids(self, file: FileEntry, start: int, stop: int) -> list[BlockId]:
        """The blocks of bytes `start` to `stop` of a file whose places are known."""
        return self._places(file).block_ids(start, stop)

    def known_extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """Where bytes `start` to `stop` of a file lie, if that is known without a look at the disk."""
        self.quick.version()
        return self._places(file).extents(start, stop, self._is_trusted)

    def _places(self, file: FileEntry) -> Places:
        known: Places | None = self.quick.get(id(file))
        return known if known is not None and known.file is file else Places(file)

    async def hashes(self, revision: Revision, file: FileEntry, *, plain: bool) -> FileHashes:
        """See `Library`."""
        place, version = (revision.commit, file.path, plain), self.quick.version()
        quick: FileHashes | None = self.quick.get(place)
        if quick is not None:
            return quick
        key = await self.call(content_key, file)
        found = await self.call(self._hasher.known, key, revision.address, file.path)
        if found is None or not (found.git_sha1 if plain else found.xet):
            found = await self._hasher.compute(key, file, plain=plain)
        if found.git_sha1 if plain else found.xet:
            self.quick.put(place, found, version)
        return found

    async def file_of(self, xet: str) -> FileEntry | None:
        """See `Library`."""
        return await self.call(self._file_of, xet)

    async def hash_ahead(self) -> None:
        """See `Library`."""
        done: set[str] = set()
        while True:
            for name in await self.names():
                with suppress(PBStoreError, OSError):  # removed meanwhile, or damaged: who asks is told
                    revision = await self.revision(name)
                    if revision.commit not in done:
                        done.add(revision.commit)
                        await self._hash_all(revision)
            await asyncio.sleep(_LOOK_FOR_NEW_S)

    async def _hash_all(self, revision: Revision) -> None:
        for file in revision.manifest.files:
            if not is_plain(file.path, file.size_bytes, self.settings.plain_bytes):
                await self.hashes(revision, file, plain=False)

    async def _read(self, spans: Iterable[Span]) -> AsyncIterator[Buffer]:
        """Bytes of spans in parts; the next blocks are read and decoded while one part is sent."""
        groups = ((group, sum(span.stop - span.start for span in group)) for group in self._groups(spans))
        window = Window(self._opened, self.room, self.settings.ahead_bytes, self.settings.decoders + 1)
        async with aclosing(window.results(groups)) as opened:
            async for source, start, stop in opened:
                async with aclosing(self._parts(source, start, stop)) as parts:
                    async for part in parts:
                        yield part

    def _groups(self, spans: Iterable[Span]) -> Iterator[Sequence[Span]]:
        return groups_of(spans, self.settings.part_bytes)

    async def _opened(self, group: Sequence[Span]) -> tuple[Source, int, int]:
        """What holds the bytes of a group of spans, and from where to where."""
        if len(group) > 1:
            whole = await self._on_a_core(Reading(self._open).read, group)
            return whole, 0, len(whole)
        ((block_id, start, stop),) = group
        return await self._opening.join(block_id, lambda: self._on_a_core(self._open, block_id)), start, stop

    async def _parts(self, source: Source, start: int, stop: int) -> AsyncGenerator[Buffer, None]:
        """Bytes of an open block, of a raw one the next part being read while one is sent."""
        step = self.settings.part_bytes
        cuts = [(at, min(at + step, stop)) for at in range(start, stop, step)]
        if isinstance(source, RawBlock):
            reading: Window[tuple[int, int], bytes]
            reading = Window(lambda cut: self.call(source.read, *cut), self.room, step, 2)
            async with aclosing(reading.results((cut, cut[1] - cut[0]) for cut in cuts)) as parts:
                async for part in parts:
                    yield part
            return
        for first, last in cuts:
            yield memoryview(source)[first:last]

    async def _on_a_core(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in one of the decoding threads."""
        return await asyncio.get_running_loop().run_in_executor(
            self._cores, partial(function, *args, **kwargs)
        )

    async def history(self, name: str) -> History:
        """See `Library`."""
        return await self.call(self._history, name)

    def _history(self, name: str) -> History:
        rows = self.store.disk.revisions_of(name)
        return History(
            commits=tuple((row.commit, row.added_at) for row in rows), tags=self.store.disk.tags(name)
        )

    def _revision(self, address: str) -> Revision:
        row = self.store.disk.model_row(address)
        key = (row.address, row.manifest_hash)
        with self._mutex:
            found = self._revisions.get(key)
        if found is None:
            manifest, commit = self.store.disk.manifest_of(row), commit_of(row.manifest_hash)
            found = Revision(
                commit=commit, manifest=manifest, added_at=row.added_at, is_current=row.name == manifest.name
            )
            with self._mutex:
                self._revisions[key] = found
                while len(self._revisions) > _MOST_REVISIONS:
                    self._revisions.popitem(last=False)
        return found

    def _file_of(self, xet: str) -> FileEntry | None:
        """A file of a Xet hash, first where it was seen, then anywhere."""
        keys = set(self._hasher.book.keys_of(xet))
        for key in keys:
            if (found := self.file_at(key)) is not None:
                return found
        for name in self.store.models() if keys else ():
            for file in self._revision(name).manifest.files:
                if content_key(file) in keys:
                    return file
        return None

    def file_at(self, key: bytes) -> FileEntry | None:
        """A file of a content, where one was seen; for any thread."""
        for name, path in self._hasher.book.places_of(key):
            with suppress(ModelMissingError):
                file = self._revision(name).by_path.get(path)
                if file is not None and content_key(file) == key:
                    return file
            self._hasher.book.forget_place(key, name, path)
        return None

    def note_file(self, name: str, file: FileEntry) -> bytes:
        """Remember where a file is; its content's key. For any thread."""
        key = content_key(file)
        self._hasher.known(key, name, file.path)
        return key

    def bytes_of(self, file: FileEntry, start: int, stop: int) -> Iterator[bytes]:
        """`read`, for any thread but that of the event loop."""
        reading = Reading(self._open)
        return map(reading.read, runs_of(spans_of(file, start, stop), self.settings.part_bytes))

    def _all_of(self, file: FileEntry) -> Iterator[bytes]:
        return self.bytes_of(file, 0, file.size_bytes)

    def _book_path(self) -> Path:
        """Where the hashes of files are kept: in the store if it can be written to, or in a cache."""
        if not self.store.disk.read_only:
            return self.store.path / "serve" / "hashes.sqlite"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "pbcast" / "serve" / "hashes.sqlite"

    def _is_trusted(self, block: RawBlock) -> bool:
        """Whether a block is still what it was; each pack is looked at once in a turn of the event loop."""
        status = self.quick.turn.get(block.file)
        if status is None:
            status = self.quick.turn[block.file] = os.fstat(block.file.fd)
        return self._trusted.holds(block.trust, status)

    def _raw_blocks(self, spans: Iterable[Span]) -> list[RawBlock] | None:
        """The blocks of spans, each found right; None if one is not raw."""
        found = []
        for span in spans:
            if self.store.info(span.block_id).codec != RAW:
                return None
            source = self._open(span.block_id)
            if not isinstance(source, RawBlock):
                return None
            found.append(source)
        return found

    def _open(self, block_id: BlockId) -> Source:
        """A block that was found right: where it lies if it is raw, else its bytes."""
        self._let_go_of_gone_packs()
        with self._one_at_a_time[hash(block_id) % len(self._one_at_a_time)]:
            try:
                return self._open_located(self.store.disk.locate(block_id))
            except FileNotFoundError:  # collected between the look-up and the read
                return self._open_located(self.store.disk.locate(block_id))

    def _open_located(self, location: Location) -> Source:
        block_id = location.record.block_id
        if location.record.codec == RAW:
            file = self.store.disk.open_pack(location)
            trust = self._trusted.find(location, file)
            if trust is None:
                status = os.fstat(file.fd)
                self.store.disk.check_raw(location)
                trust = self._trusted.trust(location, status)
            return RawBlock(location, file, trust)
        raw = self._decoded.get(block_id)
        if raw is None:
            large = location.record.raw_bytes >= _SHARED_BYTES
            workers = self.settings.decoders if large else 1
            raw = self.store.disk.get(block_id, workers=workers, at_hand=self._decoded.get)
            self._decoded.put(block_id, raw)
        return raw

    def _let_go_of_gone_packs(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > _LOOK_FOR_GONE_S:
            self._looked_at = now
            self.store.disk.forget_gone_packs()
