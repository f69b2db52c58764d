"""Hashes of files, one file after the other, kept in a book."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pbstore.hashing import Buffer
from pbstore.manifest import FileEntry
from pbstore.pool import Pool
from pbstore.serve.library.hash_book import HashBook
from pbstore.serve.library.xet_hash import can_hash, xet_hash
from pbstore.serve.wire.hub import FileHashes, git_blob_sha1

_MOST_NOTED = 100_000
"""Places that are remembered as noted."""


class Hasher:
    """Computes what is not known yet; whoever waits may stop, and what was begun is finished and kept.

    Args:
        read: All bytes of a file, in parts, each checked.
        path: The book's file.
    """

    def __init__(self, read: Callable[[FileEntry], Iterator[Buffer]], path: Path | None) -> None:
        self.book = HashBook(path)
        self._read = read
        self._noted: set[tuple[bytes, str, str]] = set()
        self._jobs = Pool(1, "serve-hash")
        self._xet = Pool(1, "serve-xet")

    def known(self, key: bytes, name: str, path: str) -> FileHashes | None:
        """Hashes of a content that was seen at a place, None if none are known."""
        if (key, name, path) not in self._noted:
            if len(self._noted) >= _MOST_NOTED:
                self._noted.clear()
            self._noted.add((key, name, path))
            self.book.note_place(key, name, path)
        return self.book.get(key)

    async def compute(self, key: bytes, file: FileEntry, *, plain: bool) -> FileHashes:
        """Hashes of a content, behind all files that are being hashed."""
        job = partial(self._compute, key, file, plain)
        return await asyncio.get_running_loop().run_in_executor(self._jobs, job)

    def close(self) -> None:
        """Take no more files, and let go of the book when the last one is done."""
        self._jobs.submit(self.book.close)
        self._jobs.shutdown(wait=False)
        self._xet.shutdown(wait=False)

    def _compute(self, key: bytes, file: FileEntry, plain: bool) -> FileHashes:
        found = self.book.get(key) or FileHashes()
        if found.git_sha1 if plain else found.xet:
            return found
        if plain:
            new = FileHashes(git_sha1=git_blob_sha1(b"".join(self._read(file))))
        else:
            new = FileHashes(xet=xet_hash(self._read(file), self._xet) if can_hash() else "")
        self.book.put(key, new)
        return self.book.get(key) or new
