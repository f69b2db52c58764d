"""An object store as a source and as a sink: the same steps as between nodes, without a server in between."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.errors import BlockMissingError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.pool import Pool
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.errors import LeaseLostError, OriginError, RecordError, UnfitEndpointError
from pbstore.serve.origin.marks import marked_keys
from pbstore.serve.origin.objects import SCHEMES, Objects, open_objects
from pbstore.serve.origin.pack import Form
from pbstore.serve.origin.probe import require_fit
from pbstore.serve.origin.records import PACKS
from pbstore.serve.origin.writer import Writer
from pbstore.serve.wire.frames import Partial

P = ParamSpec("P")
R = TypeVar("R")
LOOK_S = 10.0
"""Least time between two looks for blocks that are not known, s."""


def is_origin(url: str) -> bool:
    """Whether a URL is one of an object store, not of a node."""
    return url.partition(":")[0] in SCHEMES


class ObjectStore:
    """Models of an origin; its endpoint is tried out before it is written to.

    Blocks that are given to it are durable when `put_manifest` returns, not before: small ones go together.

    Args:
        place: URL, or objects that are open.
        threads: Requests at a time.
    """

    def __init__(self, place: str | Objects, threads: int = 4) -> None:
        self._objects = open_objects(place) if isinstance(place, str) else place
        self._catalog = Catalog(self._objects)
        self._pool = Pool(threads, "serve-origin")
        self._writing = Pool(1, "serve-origin-put")
        self._writer: Writer | None = None
        self._fit = False
        self._looked_s = -LOOK_S

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._objects.url

    async def names(self) -> tuple[str, ...]:
        """See `Source`."""
        records = await self._call(self._pool, self._catalog.names)
        return tuple(sorted(name for name, record in records.items() if not record.removed))

    async def manifest(self, name: str) -> Manifest:
        """See `Source`."""
        return await self._call(self._pool, self._manifest, name)

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """See `Source`."""
        forms = await self._call(self._pool, self._forms, block_ids)
        return {block_id: form.info for block_id, form in forms.items()}

    async def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `Source`."""
        left = list(dict.fromkeys(block_ids))
        for _ in range(2):  # again if a collection took a pack: the blocks may lie in another one
            forms = await self._call(self._pool, self._forms, left)
            reading = self._catalog.read_blocks([forms[one] for one in left if one in forms])
            mutex = threading.Lock()  # a task that is cancelled leaves its thread at work
            try:
                while (stored := await self._call(self._pool, _next, reading, mutex)) is not None:
                    yield stored
                    left.remove(stored.block_id)
                return
            except BlockMissingError:
                await self._call(self._pool, self._look_again)
            finally:
                await self._call(self._pool, _close, reading, mutex)

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """See `Sink`."""
        return await self._call(self._writing, self._has, tuple(block_ids))

    async def put_blocks(self, blocks: Sequence[StoredBlock]) -> None:
        """See `Sink`; they are durable when `put_manifest` returns."""
        await self._call(self._writing, self._put_blocks, blocks)

    async def put_manifest(self, manifest: Manifest) -> None:
        """See `Sink`."""
        await self._call(self._writing, self._put_manifest, manifest)

    async def close(self) -> None:
        """See `Source`; what was not published is left to a collection."""
        if self._writer is not None:
            await self._call(self._writing, self._end_writing)
        self._writing.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._catalog.close()

    async def _call(self, pool: Pool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, partial(function, *args, **kwargs))
        except (UnfitEndpointError, LeaseLostError, RecordError):
            raise
        except OriginError as error:
            raise SourceError(self.name, error.why) from error

    def _manifest(self, name: str) -> Manifest:
        for last in (False, True):  # once more if its content was replaced, and collected, in between
            record = self._catalog.record(name)
            try:
                self._catalog.read_tables(record.packs)
                return self._catalog.manifest(record)
            except FileNotFoundError as error:
                if last:
                    raise SourceError(self.name, f"{name}: {str(error).splitlines()[0]}") from None
        raise ModelMissingError(name)

    def _forms(self, block_ids: Sequence[BlockId]) -> dict[BlockId, Form]:
        forms = self._resolved(block_ids)
        if len(forms) < len(set(block_ids)) and time.monotonic() > self._looked_s + LOOK_S:
            self._look_again()
            forms = self._resolved(block_ids)
        return forms

    def _resolved(
        self, block_ids: Sequence[BlockId], packs: Collection[str] | None = None
    ) -> dict[BlockId, Form]:
        found = {block_id: self._catalog.resolve(block_id, packs) for block_id in block_ids}
        return {block_id: chosen[block_id] for block_id, chosen in found.items() if chosen is not None}

    def _look_again(self) -> set[str]:
        """Read which packs there are; those that can be counted on for a while."""
        self._looked_s = time.monotonic()
        marked = marked_keys(self._objects)
        listed = {one.key for one in self._objects.list(PACKS)}
        self._catalog.forget(self._catalog.known_packs() - listed)
        self._catalog.read_tables(sorted(listed - marked), skip_gone=True)
        return listed - marked

    def _has(self, block_ids: Sequence[BlockId]) -> set[BlockId]:
        if self._writer is not None:
            return self._writer.has(block_ids)
        return set(self._resolved(block_ids, self._look_again()))

    def _put_blocks(self, blocks: Sequence[StoredBlock]) -> None:
        self._open_writer().put_blocks(blocks)

    def _put_manifest(self, manifest: Manifest) -> None:
        self._open_writer().commit(manifest)
        self._end_writing()

    def _open_writer(self) -> Writer:
        if not self._fit:
            require_fit(self._objects)
            self._fit = True
        if self._writer is None:
            self._writer = Writer(self._catalog)
        return self._writer

    def _end_writing(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _next(reading: Generator[StoredBlock, None, None], mutex: threading.Lock) -> StoredBlock | None:
    with mutex:
        return next(reading, None)


def _close(reading: Generator[StoredBlock, None, None], mutex: threading.Lock) -> None:
    with mutex:
        reading.close()
