"""Chunks of models that nobody pushed, so that pushing a fine-tune of them costs what is new in it."""

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import PBStoreError
from pbstore.manifest import FileEntry
from pbstore.serve.library import StoreLibrary
from pbstore.serve.push.book import PushBook
from pbstore.serve.wire.hub import is_plain
from pbstore.serve.wire.xet import chunk_hash, tree_hash
from pbstore.serve.wire.xet_chunks import chunks
from pbstore.serve.wire.xet_upload import ChunkInfo

log = logging.getLogger(__name__)
_LOOK_S = 5.0
"""How often new models are looked for, s."""
_MOST_CHUNKS = 512
"""Chunks of what is called a xorb: at most 64 MiB, as a client expects."""


class ChunkIndex:
    """Cuts files of a store as clients would, and files the chunks in the book; nothing is stored.

    Args:
        store: Has the models.
        library: Reads them.
        book: Takes the chunks.
    """

    def __init__(self, store: DiskBlockStore, library: StoreLibrary, book: PushBook) -> None:
        self._store, self._library, self._book = store, library, book
        self._stop = threading.Event()

    def add(self, name: str) -> int:
        """File the chunks of a model's large files; how many files were new."""
        settings, count = self._library.settings, 0
        for file in self._store.manifest(name).files:
            content = self._library.note_file(name, file)
            plain = is_plain(file.path, file.size_bytes, settings.plain_bytes)
            if not plain and not self._book.has_content(content) and not self._stop.is_set():
                self._add_file(content, file)
                count += 1
        return count

    @asynccontextmanager
    async def running(self, context: object) -> AsyncIterator[None]:
        """File the chunks of all models, also of those that come; for `create_app(beside=...)`."""
        thread = threading.Thread(target=self._run, name="serve-chunks", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        done: set[str] = set()
        while not self._stop.is_set():
            for name in self._store.models():
                try:
                    key = self._store.disk.model_row(name).manifest_hash
                    if key not in done:
                        done.add(key)
                        self.add(name)
                except (PBStoreError, OSError) as error:  # removed meanwhile, or damaged: who asks is told
                    log.info("chunks of %s: %s", name, error)
            self._stop.wait(_LOOK_S)

    def _add_file(self, content: bytes, file: FileEntry) -> None:
        every = [ChunkInfo(chunk_hash(chunk), len(chunk)) for chunk in chunks(self._parts(file))]
        offset = 0
        for start in range(0, len(every), _MOST_CHUNKS):  # a file is known whole or not at all
            group = every[start : start + _MOST_CHUNKS]
            xorb = tree_hash([(chunk.digest, chunk.raw_bytes) for chunk in group])
            self._book.add_placed(xorb, group, content, offset)
            offset += sum(chunk.raw_bytes for chunk in group)

    def _parts(self, file: FileEntry) -> Iterator[bytes]:
        """A file's bytes, until the server stops."""
        for part in self._library.bytes_of(file, 0, file.size_bytes):
            if self._stop.is_set():
                raise InterruptedError("the server stops")
            yield part
