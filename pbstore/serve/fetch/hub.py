"""A real Hub as upstream: files become blocks while they come in, and blocks come again by their places.

A Hub knows files, not blocks. So a file is read once from its start, cut where an add would cut it, and
served block by block while it comes; its last block is held back until the file's hash, as the Hub listed it,
was found right. From then on its blocks are known by their ids, and each can be fetched again by a range.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pbstore.blocks import RAW, BlockInfo, StoredBlock
from pbstore.errors import FileCorruptError, ModelMissingError, RevisionMissingError
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import FileEntry, Manifest, Piece
from pbstore.serve.fetch.hub_cut import StreamCutter
from pbstore.serve.fetch.hub_listing import HubClient, HubFile, HubListing
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library import Revision
from pbstore.serve.library.flights import Flights
from pbstore.serve.wire.frames import Partial
from pbstore.serve.wire.hub import FileHashes
from pbstore.store import raw_block

FRESH_S = 30.0
"""How long a listing is taken for current, s."""
HELD_BYTES = 128 << 20
"""Most memory for blocks that just came, for those who read the file that they are of."""
TRIES = 5
"""How often a file that breaks off is gone on with, if nothing comes in between."""
PAUSE_S = 0.2
SMALL_AT_A_TIME = 8
Keep = Callable[[Checked], Awaitable[bool]]


@dataclass(slots=True, eq=False)
class ComingFile:
    """A file of a Hub: its blocks as far as they are known, in order."""

    listing: HubListing
    listed: HubFile
    pieces: list[Piece] = field(default_factory=list)
    sha256: str = ""
    """When all of it was found right; before, what the Hub listed."""
    is_whole: bool = False
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def known_bytes(self) -> int:
        """How far its blocks are known."""
        return sum(piece.raw_bytes for piece in self.pieces)

    def entry(self) -> FileEntry:
        """The file as a manifest has it; while its blocks are not known, with one that stands for all."""
        size = self.listed.size_bytes
        stand_in = [Piece(self.stand_in, size)] if size else []
        pieces = tuple(self.pieces if self.is_whole else stand_in)
        return FileEntry(path=self.listed.path, size_bytes=size, sha256=self.sha256, pieces=pieces)

    @property
    def stand_in(self) -> BlockId:
        """An id that no block has."""
        return hash_block(f"file {self.listed.key} of {self.listed.size_bytes} bytes".encode())

    def grow(self, piece: Piece) -> None:
        """Note a further block, and wake those who wait for it."""
        self.pieces.append(piece)
        self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        self.grew.set()
        self.grew = asyncio.Event()


class HubSource:
    """A Hub as a `Source` of the blocks of files that were read, and as a place of models.

    Args:
        client: Asks the Hub.
        keep: Keeps a block that came.
    """

    def __init__(self, client: HubClient, keep: Keep) -> None:
        self._client, self._keep = client, keep
        self._models: dict[tuple[str, str], tuple[float, Revision]] = {}
        self._files: dict[str, ComingFile] = {}
        self._places: dict[BlockId, tuple[ComingFile, int, int]] = {}
        self._held: OrderedDict[BlockId, bytes] = OrderedDict()
        self._listing: Flights[tuple[str, str], Revision] = Flights()
        self._reading: Flights[str, None] = Flights()

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._client.url

    async def names(self) -> tuple[str, ...]:
        """See `Source`; of the models that were asked for."""
        return tuple(sorted({name for name, _ in self._models}))

    async def manifest(self, name: str) -> Manifest:
        """See `Source`; all files are read for it."""
        revision = await self.revision(name, "main")
        files = [self._files[entry.sha256] for entry in revision.manifest.files]
        for file in files:
            await self._whole(file)
        return Manifest(name=name, files=tuple(file.entry() for file in files))

    async def revision(self, name: str, revision: str) -> Revision:
        """A model; blocks of its large files may not be known yet, see `ComingFile`.

        Raises:
            ModelMissingError: If the Hub has none of this name.
            RevisionMissingError: If it has, but not in this revision.
            SourceError: If it cannot be reached, and the model was never seen.
        """
        seen = self._models.get((name, revision))
        if seen is not None and time.monotonic() - seen[0] < FRESH_S:
            return self._as_known_now(seen[1])
        try:
            found = await self._listing.join((name, revision), lambda: self._list(name, revision))
        except (ModelMissingError, RevisionMissingError):
            raise
        except SourceError:
            if seen is None:
                raise
            return self._as_known_now(seen[1])
        self._models[name, revision] = self._models[name, found.commit] = (time.monotonic(), found)
        return self._as_known_now(found)

    def file_of(self, entry: FileEntry) -> ComingFile | None:
        """The file that an entry stands for, if its blocks were not known when it was made."""
        file = self._files.get(entry.sha256)
        known = file is not None and entry.pieces and entry.pieces[0].block_id == file.stand_in
        return file if known else None

    def hashes(self, entry: FileEntry) -> FileHashes | None:
        """What the Hub listed of a file; None if it is not of the Hub."""
        file = self._files.get(entry.sha256)
        return None if file is None else FileHashes(git_sha1=file.listed.git_sha1)

    async def pieces_of(self, file: ComingFile, start: int, stop: int) -> AsyncIterator[tuple[Piece, int]]:
        """The blocks that bytes of a file lie in, with their offsets, each as soon as it is known.

        Raises:
            SourceError: If the Hub stops, or gives something else than it listed.
        """
        position, index = 0, 0
        reading = None if file.is_whole else asyncio.ensure_future(self._whole(file))
        try:
            while position < stop:
                if index < len(file.pieces):
                    piece = file.pieces[index]
                    if position + piece.raw_bytes > start:
                        yield piece, position
                    position, index = position + piece.raw_bytes, index + 1
                elif reading is not None:
                    await _either(file.grew, reading)
        finally:
            if reading is not None and not reading.done():
                reading.cancel()
                await asyncio.wait([reading])

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """See `Source`."""
        found = {one: self._places[one][2] for one in block_ids if one in self._places}
        return {
            one: BlockInfo(block_id=one, raw_bytes=size, stored_bytes=size, codec=RAW)
            for one, size in found.items()
        }

    async def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `Source`."""
        for block_id in block_ids:
            if block_id in self._held:
                yield raw_block(self._held[block_id], block_id)
            elif block_id in self._places:
                file, offset, size = self._places[block_id]
                data = b"".join([part async for part in self._bytes(file, offset, offset + size)])
                yield StoredBlock(block_id=block_id, raw_bytes=size, codec=RAW, payload=data)

    async def close(self) -> None:
        """See `Source`."""
        await self._client.close()

    async def _list(self, name: str, revision: str) -> Revision:
        listing = await self._client.listing(name, revision)
        files = [self._known(listing, listed) for listed in listing.files]
        slots = asyncio.Semaphore(SMALL_AT_A_TIME)

        async def read(file: ComingFile) -> None:
            async with slots:
                await self._whole(file)

        await asyncio.gather(*(read(file) for file in files if not file.sha256))
        for file in files:
            self._files[file.sha256] = file
        manifest = Manifest(name=name, files=tuple(file.entry() for file in files))
        return Revision(commit=listing.commit, manifest=manifest)

    def _known(self, listing: HubListing, listed: HubFile) -> ComingFile:
        """A listed file, with what is known of its content from before."""
        before = self._files.get(listed.key)
        if before is not None and before.listed.size_bytes == listed.size_bytes:
            if before.listed.path == listed.path:
                return before
            if before.is_whole:
                return ComingFile(listing, listed, before.pieces, before.sha256, True)
        file = ComingFile(listing, listed, sha256=listed.sha256)
        self._files[listed.key] = file
        return file

    def _as_known_now(self, revision: Revision) -> Revision:
        entries = tuple(self._files[entry.sha256].entry() for entry in revision.manifest.files)
        entries = tuple(
            entry if entry.path == old.path else old
            for entry, old in zip(entries, revision.manifest.files, strict=True)
        )
        return Revision(commit=revision.commit, manifest=Manifest(name=revision.name, files=entries))

    async def _whole(self, file: ComingFile) -> None:
        """Read a file from its start, if it was not; once for all who ask."""
        if not file.is_whole:
            await self._reading.join(file.listed.key, lambda: self._read(file))

    async def _read(self, file: ComingFile) -> None:
        size = file.listed.size_bytes
        file.pieces.clear()
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        cutter, last = StreamCutter(file.listed.path, size), b""
        async for data in self._bytes(file, 0, size):
            sha256.update(data)
            git.update(data)
            for raw in cutter.feed(data):
                if last:
                    await self._take(file, last)
                last = raw
        right = file.listed.sha256 or file.listed.git_sha1
        actual = sha256.hexdigest() if file.listed.sha256 else git.hexdigest()
        if actual != right:
            file.pieces.clear()
            raise FileCorruptError(file.listing.name, file.listed.path, right, actual)
        if last:
            await self._take(file, last)
        file.sha256, file.is_whole = sha256.hexdigest(), True
        file.wake()

    async def _take(self, file: ComingFile, raw: bytes) -> None:
        """A block of a file has come."""
        block_id = hash_block(raw)
        self._places[block_id] = (file, file.known_bytes, len(raw))
        self._held[block_id] = raw
        while sum(map(len, self._held.values())) > HELD_BYTES and len(self._held) > 1:
            self._held.popitem(last=False)
        await self._keep(Checked(raw_block(raw, block_id), raw))
        file.grow(Piece(block_id, len(raw)))

    async def _bytes(self, file: ComingFile, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes of a file; where it breaks off it is gone on with."""
        failures = 0
        while start < stop:
            try:
                async for data in self._client.bytes_of(
                    file.listing.name, file.listing.commit, file.listed.path, start, stop
                ):
                    start, failures = start + len(data), 0
                    yield data
            except SourceError:
                failures += 1
                if failures >= TRIES:
                    raise
                await asyncio.sleep(PAUSE_S * 2**failures)


async def _either(event: asyncio.Event, work: "asyncio.Task[None]") -> None:
    """Wait for one of the two; an error of the work is raised."""
    waiting: asyncio.Task[object] = asyncio.ensure_future(event.wait())
    both: list[asyncio.Task[Any]] = [waiting, work]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if work.done():
        work.result()
