"""A store on this disk as a source and as a sink: what nodes give one another, and where it goes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.disk.index import locations
from pbstore.disk.models import Models
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockMissingError, IntegrityError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest
from pbstore.pool import Pool
from pbstore.serve.fetch import take
from pbstore.serve.library import Library, StoreLibrary
from pbstore.serve.wire.frames import Partial
from pbstore.store import raw_block

P = ParamSpec("P")
R = TypeVar("R")


class LibrarySource:
    """A library's models and blocks, as another node asks for them; the library stays its owner's.

    A block that is damaged here counts as one that is not here.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    @property
    def name(self) -> str:
        """See `Source`."""
        return str(self._library.store.path) if isinstance(self._library, StoreLibrary) else "here"

    async def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return await self._library.names()

    async def manifest(self, name: str) -> Manifest:
        """See `Source`."""
        return (await self._library.revision(name)).manifest

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """See `Source`."""
        if isinstance(self._library, StoreLibrary):
            return await self._library.call(infos_of, self._library.store.disk, block_ids)
        here = await self._library.has(block_ids)
        return {one: await self._library.info(one) for one in block_ids if one in here}

    async def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `Source`."""
        for block_id in block_ids:
            with suppress(BlockMissingError, IntegrityError):
                stored = await self._library.export(block_id)
                yield stored

    async def raw_blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `GivesRaw`."""
        for block_id in block_ids:
            with suppress(BlockMissingError, IntegrityError):
                yield await raw_of(self._library, block_id)

    async def close(self) -> None:
        """See `Source`."""


async def raw_of(library: Library, block_id: BlockId) -> StoredBlock:
    """A block of a library in its raw form."""
    size = (await library.info(block_id)).raw_bytes
    parts = library.read_block(block_id, 0, size) if size else None
    raw = b"" if parts is None else b"".join([bytes(part) async for part in parts])
    return raw_block(raw, block_id)


def infos_of(models: Models, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
    """Those of some blocks that are in a store."""
    found = locations.find_many(models.connection, block_ids)
    return {block_id: found[block_id].info for block_id in block_ids if block_id in found}


class StoreSink:
    """A store that takes what comes from elsewhere; the store stays its owner's."""

    def __init__(self, store: DiskBlockStore) -> None:
        self._store = store
        self._pool = Pool(1, "serve-put")

    @property
    def name(self) -> str:
        """See `Sink`."""
        return str(self._store.path)

    async def has(self, block_ids: Collection[BlockId]) -> set[BlockId]:
        """See `Sink`."""
        return await self._call(self._store.disk.which, tuple(block_ids))

    async def put_blocks(self, blocks: Sequence[StoredBlock]) -> None:
        """See `Sink`.

        Raises:
            BlockMissingError: If a block that one of them needs is not there.
            BlockCorruptError: If one does not decode to its id; those before it are kept.
            CapacityError: If they do not fit.
        """
        await self._call(self._put, blocks)

    async def put_manifest(self, manifest: Manifest) -> None:
        """See `Sink`."""
        await self._call(self._store.put_manifest, manifest)

    async def close(self) -> None:
        """See `Sink`."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def _put(self, blocks: Sequence[StoredBlock]) -> None:
        disk = self._store.disk
        known = disk.which([stored.block_id for stored in blocks])
        new = [stored for stored in blocks if stored.block_id not in known]
        good: list[take.Checked] = []
        try:
            good.extend(take.all_checked(new, self._store.get))
        finally:
            if good:
                with disk.writing() as tx:
                    take.keep(disk, tx, good)
