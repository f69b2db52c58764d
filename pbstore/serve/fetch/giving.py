"""What a node gives other nodes: what it has, and for those that ask it to, what it gets from upstream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial as partial_of

from pbstore.blocks import BlockInfo, StoredBlock
from pbstore.errors import BlockMissingError, IntegrityError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import FileEntry, Manifest
from pbstore.serve.fetch.ahead import Ahead
from pbstore.serve.fetch.lanes import UNKNOWN_BYTES
from pbstore.serve.fetch.local import LibrarySource, raw_of
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.fetch.source import Asked, Source, SourceError
from pbstore.serve.fetch.take import Checked
from pbstore.serve.library import Library, Revision
from pbstore.serve.wire.frames import Partial
from pbstore.serve.wire.hub import FileHashes
from pbstore.store import raw_block


class NodeSource:
    """A node as another node asks it.

    It never asks its peers on behalf of another node, and nobody that the question came through: so every
    question ends.
    """

    def __init__(self, node: NodeLibrary, asked: Asked) -> None:
        self._node, self._asked = node, asked
        self._here = LibrarySource(node.inner)

    @property
    def name(self) -> str:
        """See `Source`."""
        return "here"

    async def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return await self._node.names()

    async def manifest(self, name: str) -> Manifest:
        """See `Source`."""
        try:
            return await self._here.manifest(name)
        except ModelMissingError:
            return await self._node.manifest(name, self._asked.via, fetch=await self._may_fetch())

    async def infos(self, block_ids: Sequence[BlockId]) -> dict[BlockId, BlockInfo]:
        """See `Source`; with what others have, if it may be fetched."""
        found = await self._here.infos(block_ids)
        missing = [one for one in block_ids if one not in found]
        if missing and await self._may_fetch():
            await self._scout(missing)
            told = {one: self._node.told(one) for one in missing}
            found |= {one: info for one, info in told.items() if info is not None}
            unknown = [one for one in missing if one not in found]
            if unknown and not self._asked.via:
                found |= await self._node.told_by_fetching_peers(unknown)
        return found

    def blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `Source`."""
        return self._blocks(block_ids, raw=False)

    def raw_blocks(
        self, block_ids: Sequence[BlockId], partial: Partial | None = None
    ) -> AsyncGenerator[StoredBlock, None]:
        """See `GivesRaw`."""
        return self._blocks(block_ids, raw=True)

    async def _blocks(self, block_ids: Sequence[BlockId], *, raw: bool) -> AsyncGenerator[StoredBlock, None]:
        node = self._node
        with node.keeper.holding(block_ids):
            here = await node.inner.has(block_ids)
            node.keeper.used(one for one in block_ids if one in here)
            missing = list(dict.fromkeys(one for one in block_ids if one not in here))
            ahead: Ahead | None = None
            if missing and await self._may_fetch():
                await self._scout(missing)
                get = partial_of(self._get, coded=not raw)
                ahead = Ahead(get, [(one, self._expected_bytes(one)) for one in missing])
            try:
                for block_id in block_ids:
                    stored = await self._one(block_id, ahead, raw=raw)
                    if stored is not None:
                        yield stored
            finally:
                if ahead is not None:
                    ahead.close()

    async def close(self) -> None:
        """See `Source`."""

    async def _one(self, block_id: BlockId, ahead: Ahead | None, *, raw: bool) -> StoredBlock | None:
        with suppress(BlockMissingError, IntegrityError):
            return await (raw_of(self._node.inner, block_id) if raw else self._node.inner.export(block_id))
        if ahead is None:
            return None
        try:
            block = await ahead.take(block_id)
        except (BlockMissingError, IntegrityError, SourceError):
            return None
        return raw_block(block.raw, block_id) if raw else block.stored

    async def _may_fetch(self) -> bool:
        """Whether others may be asked: for a client all of them, for another node upstream only."""
        if not self._asked.fetch:
            return False
        return not self._asked.via or await self._node.may_fetch_for(self._asked.via)

    async def _scout(self, block_ids: Sequence[BlockId]) -> None:
        if self._asked.via:
            await self._node.upstream.scout(block_ids)
        else:
            await self._node.scout(block_ids)

    async def _get(self, block_id: BlockId, *, coded: bool) -> Checked:
        if self._asked.via:
            return await self._node.upstream.get(block_id, self._asked.via, coded=coded)
        return await self._node.fetcher.get(block_id, coded=coded)

    def _expected_bytes(self, block_id: BlockId) -> int:
        info = self._node.told(block_id)
        return UNKNOWN_BYTES if info is None else info.raw_bytes


async def hashes_for(library: Library, asked: Asked, revision: Revision, file: FileEntry) -> FileHashes:
    """Hashes of a file, for who asks."""
    if not isinstance(library, NodeLibrary):
        return await library.hashes(revision, file, plain=False)
    ask = asked.fetch and await library.may_fetch_for(asked.via)
    return await library.known_hashes.of(revision, file, plain=False, ask=ask, via=asked.via)


def giver(library: Library, asked: Asked) -> Source:
    """What a library gives to who asks."""
    return NodeSource(library, asked) if isinstance(library, NodeLibrary) else LibrarySource(library)
