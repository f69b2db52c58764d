"""Hashes of files that are not here: upstream's word for them, or, of small ones, computed from the bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable

from pbstore.errors import ModelMissingError
from pbstore.hashing import Buffer
from pbstore.manifest import FileEntry
from pbstore.serve.fetch.http_source import HttpNode
from pbstore.serve.fetch.neighbours import Neighbours
from pbstore.serve.fetch.source import SourceError
from pbstore.serve.library import Revision, StoreLibrary
from pbstore.serve.library.hash_book import content_key
from pbstore.serve.wire.hub import FileHashes, git_blob_sha1

Read = Callable[[FileEntry, int, int], AsyncIterator[Buffer]]
RevisionOf = Callable[[str], Awaitable[Revision]]


class NodeHashes:
    """Hashes of files as a node with misses knows them.

    A Git hash is computed from the file, which is small. A Xet hash would take all of a large file: it is
    what upstream says, and empty where nobody says it; clients then do without Xet.
    """

    def __init__(self, inner: StoreLibrary, neighbours: Neighbours, read: Read) -> None:
        self._inner, self._neighbours, self._read = inner, neighbours, read

    async def of(
        self, revision: Revision, file: FileEntry, *, plain: bool, ask: bool = True, via: tuple[str, ...] = ()
    ) -> FileHashes:
        """Hashes of a file; those that are wanted, as far as they can be had.

        Args:
            revision: The model.
            file: A file of it.
            plain: Whether its Git hash is wanted, else its Xet hash.
            ask: Whether others may be asked.
            via: Nodes that ask through this one.
        """
        if plain and self._neighbours.hub is not None:
            listed = self._neighbours.hub.hashes(file)
            if listed is not None and listed.git_sha1:
                return listed
        key = await self._inner.call(content_key, file)
        known = await self._inner.call(self._inner.book.get, key)
        if known is not None and (known.git_sha1 if plain else known.xet):
            return known
        if plain:
            data = [bytes(part) async for part in self._read(file, 0, file.size_bytes)]
            new = FileHashes(git_sha1=git_blob_sha1(b"".join(data)))
        else:
            ids = {piece.block_id for piece in file.pieces}
            if await self._inner.has(ids) == ids:
                return await self._inner.hashes(revision, file, plain=False)
            new = FileHashes(xet=await self._ask(revision, file, via) if ask else "")
        await self._inner.call(self._inner.book.put, key, new)
        await self._inner.call(self._inner.book.note_place, key, revision.name, file.path)
        return await self._inner.call(self._inner.book.get, key) or new

    async def file_of(self, xet: str, revision_of: RevisionOf) -> FileEntry | None:
        """A file of a Xet hash that was given out."""
        for key in await self._inner.call(self._inner.book.keys_of, xet):
            for name, path in await self._inner.call(self._inner.book.places_of, key):
                try:
                    file = (await revision_of(name)).by_path.get(path)
                except (ModelMissingError, SourceError):
                    continue
                if file is not None and content_key(file) == key:
                    return file
        return await self._inner.file_of(xet)

    async def _ask(self, revision: Revision, file: FileEntry, via: tuple[str, ...]) -> str:
        await self._neighbours.meet()
        for source in self._neighbours.sources(via):
            if isinstance(source, HttpNode):
                try:
                    if xet := await source.xet_hash(revision.commit, revision.name, file.path):
                        return xet
                except (ModelMissingError, SourceError):
                    continue
        return ""
