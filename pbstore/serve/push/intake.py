"""Takes what a client pushes, and makes models of it.

Xorbs wait as raw bytes under `serve/push/` of the store until a commit has made a model of them. From then on
their chunks are read from the model's files: nothing is stored twice, and a later push may name them.
"""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pbstore.disk.store import DiskBlockStore
from pbstore.errors import ModelMissingError
from pbstore.manifest import FileEntry, Manifest, check_name, check_path
from pbstore.serve.library import StoreLibrary
from pbstore.serve.library.hash_book import content_key
from pbstore.serve.push.book import PlacedChunk, PushBook
from pbstore.serve.push.chunk_index import ChunkIndex
from pbstore.serve.push.replace import Replacements
from pbstore.serve.wire.xet import chunk_hash, from_hex, to_hex
from pbstore.serve.wire.xet_upload import (
    ChunkInfo,
    Segment,
    UploadError,
    build_shard,
    check_file,
    check_xorb,
    chunks_of,
    parse_shard,
)

_WAITS_S = 24 * 3600.0
"""A xorb that no commit has asked for in this time is forgotten, s."""
_KNOWN_S = 7 * 24 * 3600
"""For how long a client may take what it was told of chunks for true, s."""


class Refused(ValueError):
    """A push cannot be taken as it is."""


class Intake:
    """What was pushed to one store; its methods are for any thread but that of the event loop.

    Args:
        store: Takes the models.
        library: Reads them.
    """

    def __init__(self, store: DiskBlockStore, library: StoreLibrary) -> None:
        self._store, self._library = store, library
        self._folder = store.path / "serve" / "push"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._book = PushBook(self._folder / "book.sqlite")
        beside = store.path.absolute().parent  # a store takes no folder that lies in itself
        self._scratch = beside if os.access(beside, os.W_OK) else None
        self._models = Replacements(store, self._folder)
        self._one_at_a_time = threading.Lock()
        self._forget_old()

    def chunk_index(self) -> ChunkIndex:
        """Makes models that were not pushed known by their chunks."""
        return ChunkIndex(self._store, self._library, self._book)

    def close(self) -> None:
        """Close the book."""
        self._book.close()

    def waiting(self, suffix: str) -> Path:
        """A new file into which something is received."""
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=suffix, delete=False) as opened:
            return Path(opened.name)

    def put_xorb(self, digest: bytes, body: bytes) -> bool:
        """Take a xorb; False if it is known.

        Raises:
            UploadError: If it is damaged, or of another hash.
        """
        if self._book.has_xorb(digest):
            return False
        chunks = list(chunks_of(body))
        infos = [ChunkInfo(chunk_hash(chunk), len(chunk)) for chunk in chunks]
        check_xorb(digest, infos)
        path = self.waiting(".part")
        with path.open("wb") as opened:
            opened.writelines(chunks)
        path.replace(self._xorb_path(digest))
        self._book.add_xorb(digest, infos)
        return True

    def put_shard(self, body: bytes) -> None:
        """Take a shard: each of its files must be made of chunks that are here, and hash to its name.

        Raises:
            UploadError: If it is damaged, or names what is not here.
        """
        for file in parse_shard(body).files:
            chunks = [chunk for segment in file.segments for chunk in self._chunks(segment)]
            check_file(file, [ChunkInfo(chunk.digest, chunk.raw_bytes) for chunk in chunks])
            if file.sha256:
                self._book.add_file(file)

    def dedup_shard(self, digest: bytes) -> bytes | None:
        """What is known of xorbs that have a chunk, for a client that has it, too; None if nothing is."""
        xorbs = {}
        for xorb in self._book.xorbs_with(digest):
            chunks = self._book.chunks(xorb)
            if self._is_here(xorb, chunks):
                xorbs[xorb] = [ChunkInfo(chunk.digest, chunk.raw_bytes) for chunk in chunks]
        now = int(time.time())
        return build_shard(xorbs, now, now + _KNOWN_S) if xorbs else None

    def commit(
        self,
        name: str,
        contents: Mapping[str, bytes],
        large: Mapping[str, tuple[str, int]],
        deleted: Sequence[str],
        parent: str | None = None,
    ) -> Manifest:
        """Make a model of what it was, and of changes.

        Args:
            name: The model, which may be new.
            contents: Small files by path.
            large: sha256 and size of files that were pushed before, or that the store has, by path.
            deleted: Files and folders that go; those that end with `/` are folders.
            parent: Commit that the model must have, None for any.

        Raises:
            Refused: If a path is bad, a file was not pushed, or the model has changed.
            UploadError: If a file does not hash to its sha256.
        """
        for path in (*contents, *large):
            check_path(path)
        check_name(name)
        with self._one_at_a_time:
            return self._commit(name, contents, large, deleted, parent)

    def _commit(
        self,
        name: str,
        contents: Mapping[str, bytes],
        large: Mapping[str, tuple[str, int]],
        deleted: Sequence[str],
        parent: str | None,
    ) -> Manifest:
        before = self._before(name, parent)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=".pbcast-push-") as folder:
            root = Path(folder)
            try:
                self._write_before(root, before, {*contents, *large}, deleted)
                for path, content in contents.items():
                    _write(root / path, [content])
                for path, (sha256, size) in large.items():
                    self._write_large(root / path, sha256, size)
            except (FileExistsError, NotADirectoryError) as error:
                raise Refused(f"a path is a file and a folder, or there twice: {error.filename}") from None
            manifest = self._models.add(root, name)
        self._place(manifest, [sha256 for sha256, _ in large.values()])
        return manifest

    def _before(self, name: str, parent: str | None) -> Manifest | None:
        try:
            row = self._store.disk.model_row(name)
        except ModelMissingError:
            if parent is not None:
                raise Refused(f"there is no {name} to change") from None
            return None
        if parent is not None and row.manifest_hash[: len(parent)] != parent:
            raise Refused(f"{name} has changed: its commit is {row.manifest_hash[:40]}")
        return self._store.disk.manifest_of(row)

    def _write_before(
        self, root: Path, before: Manifest | None, replaced: set[str], deleted: Sequence[str]
    ) -> None:
        """Write the files that stay."""
        for file in before.files if before is not None else ():
            gone = any(
                file.path == path.rstrip("/") or file.path.startswith(path.rstrip("/") + "/")
                for path in deleted
            )
            if not gone and file.path not in replaced:
                _write(root / file.path, self._library.bytes_of(file, 0, file.size_bytes))
                if file.executable:
                    (root / file.path).chmod(0o755)

    def _write_large(self, path: Path, sha256: str, size: int) -> None:
        segments = self._book.segments(sha256)
        parts = self._of_store(sha256) if segments is None else self._of_segments(segments)
        digest, written = hashlib.sha256(), 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as opened:
            for part in parts:
                digest.update(part)
                written += opened.write(part)
        if digest.hexdigest() != sha256 or written != size:
            raise UploadError(f"what was pushed does not hash to {sha256}")

    def _of_store(self, sha256: str) -> Iterator[bytes]:
        """A file that the store has under some name."""
        for name in self._store.models():
            with suppress(ModelMissingError):
                for file in self._store.manifest(name).files:
                    if file.sha256 == sha256:
                        return self._library.bytes_of(file, 0, file.size_bytes)
        raise Refused(f"the file of sha256 {sha256} was not pushed")

    def _place(self, manifest: Manifest, pushed: Sequence[str]) -> None:
        """Read chunks from the model's files from now on, and let go of xorbs that are there whole."""
        by_sha256 = {file.sha256: file for file in manifest.files}
        xorbs = set()
        for file in manifest.files:
            self._library.note_file(manifest.name, file)
        for sha256 in pushed:
            segments = self._book.segments(sha256)
            if segments is not None and sha256 in by_sha256:
                self._book.place(self._places(by_sha256[sha256], segments))
                xorbs |= {segment.xorb for segment in segments}
        for xorb in xorbs:
            if not self._book.waits(xorb):
                self._xorb_path(xorb).unlink(missing_ok=True)
        self._forget_old()

    def _places(
        self, file: FileEntry, segments: Sequence[Segment]
    ) -> Iterator[tuple[bytes, int, bytes, int]]:
        key, offset = content_key(file), 0
        for segment in segments:
            for position, chunk in enumerate(self._chunks(segment), segment.first):
                if chunk.content is None:
                    yield segment.xorb, position, key, offset
                offset += chunk.raw_bytes

    def _chunks(self, segment: Segment) -> list[PlacedChunk]:
        chunks = self._book.chunks(segment.xorb, segment.first, segment.last)
        size = sum(chunk.raw_bytes for chunk in chunks)
        if len(chunks) != segment.last - segment.first or size != segment.raw_bytes or not chunks:
            raise UploadError(
                f"chunks {segment.first} to {segment.last} of xorb {to_hex(segment.xorb)} are not here"
            )
        return chunks

    def _of_segments(self, segments: Sequence[Segment]) -> Iterator[bytes]:
        return (part for segment in segments for part in self._bytes(segment))

    def _bytes(self, segment: Segment) -> Iterator[bytes]:
        """Raw bytes of a segment, from its xorb or from a file of the store."""
        for content, start, stop in _runs(self._chunks(segment)):
            if content is None:
                with self._xorb_path(segment.xorb).open("rb") as opened:
                    opened.seek(start)
                    yield opened.read(stop - start)
                continue
            file = self._library.file_at(content)
            if file is None:
                raise UploadError("what was pushed before is gone with its model: push the file again")
            yield from self._library.bytes_of(file, start, stop)

    def _is_here(self, xorb: bytes, chunks: Sequence[PlacedChunk]) -> bool:
        contents = {chunk.content for chunk in chunks}
        return all(
            self._xorb_path(xorb).exists() if content is None else self._library.file_at(content) is not None
            for content in contents
        )

    def _xorb_path(self, digest: bytes) -> Path:
        return self._folder / f"{to_hex(digest)}.xorb"

    def _forget_old(self) -> None:
        """Forget xorbs and halves of them that nobody has come back for."""
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                old = path.is_file() and path.suffix in (".xorb", ".part")
                if old and time.time() - path.stat().st_mtime > _WAITS_S:
                    if path.suffix == ".xorb":
                        self._book.forget(from_hex(path.stem), waiting_only=True)
                    path.unlink()


def _runs(chunks: Sequence[PlacedChunk]) -> Iterator[tuple[bytes | None, int, int]]:
    """Content, start and stop of chunks that lie one behind the other."""
    content, start, stop = chunks[0].content, chunks[0].offset, chunks[0].offset
    for chunk in chunks:
        if chunk.content != content or chunk.offset != stop:
            yield content, start, stop
            content, start, stop = chunk.content, chunk.offset, chunk.offset
        stop += chunk.raw_bytes
    yield content, start, stop


def _write(path: Path, parts: Sequence[bytes] | Iterator[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as opened:
        opened.writelines(parts)
