"""From a model's folder to blocks and a manifest: each file is read once, hashed and cut into blocks."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import cache
from math import lcm
from pathlib import Path
from typing import NamedTuple

from pbstore.blocks import PAGE_BYTES, PIECE_BYTES
from pbstore.codecs.types import TensorSpec
from pbstore.errors import CheckpointError, SourceChangedError
from pbstore.folders.complete import missing_shards, told
from pbstore.folders.feed import FreshBlock, Sink, UnwantedError
from pbstore.folders.nesting import OwnStore
from pbstore.folders.select import ALL, Selection
from pbstore.folders.source import Source, SourceFile, check_unchanged, list_source, opened, step
from pbstore.formats.split import Known, split_stream
from pbstore.formats.split import Piece as FilePiece
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import BaseLink, FileEntry, Manifest, Piece
from pbstore.pool import Pool
from pbstore.weights import SAFETENSORS, TensorLine, tensor_line, weights_hash

READ_BYTES = 4 << 20
"""Bytes read at a time; they are hashed while the next ones are read."""
HASH_BYTES = 1 << 17
NO_NAME = ""
"""A file of this name is cut by what it holds, and never refused."""
HASH_PARTS = 64
"""Bytes and parts that are handed over together to be hashed: each holds memory of its own."""
Progress = Callable[[str, int], None]
"""Called with a file's path and the bytes of it that were read since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReport:
    """What adding a model did to a store."""

    name: str
    files: int
    blocks: int
    """Distinct blocks of the model."""
    new_blocks: int
    raw_bytes: int
    """All files."""
    new_bytes: int
    """Raw bytes of the blocks that the store did not have."""
    shared_bytes: int
    """Raw bytes that were in the store already, or stand in the model more than once."""
    stored_bytes: int
    """Payload bytes that were written."""
    form: str = "raw"
    """`hot` (raw, mapped) or `cold` (smallest)."""
    codecs: dict[str, int] = field(default_factory=dict)
    """Codec -> number of new blocks."""
    commit: str = ""
    """The revision that the model now is, 40 hex digits; empty if nothing was filed."""
    follows: str = ""
    """The revision that it was before, which is kept; empty if the name was free."""
    already_there: bool = False
    """The same model was filed under this name before."""
    skipped: tuple[str, ...] = ()
    """Where the store itself lies in the folder: that was left out."""
    left_out: tuple[str, ...] = ()
    """What was left out as the caller wished; folders end with a slash."""
    damaged: tuple[str, ...] = ()
    """Files that are not what their names say, and were kept as they are."""

    @classmethod
    def known(cls, name: str, files: int, blocks: int, raw_bytes: int, form: str, commit: str) -> "AddReport":
        """What is said of a model that is there, and whose folder was not read."""
        return cls(
            name=name,
            files=files,
            blocks=blocks,
            new_blocks=0,
            raw_bytes=raw_bytes,
            new_bytes=0,
            shared_bytes=raw_bytes,
            stored_bytes=0,
            form=form,
            commit=commit,
            already_there=True,
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """A model that is to be stored: where it lies and how it is read."""

    folder: Path
    name: str
    base: BaseLink | None = None
    own: OwnStore | None = None
    """The store that it is read for."""
    keep_damaged: bool = False
    """Keep files that are not what their names say as they are, instead of refusing them."""
    progress: Progress | None = None
    """Gets negative numbers of bytes, too, where a folder has changed and is read again."""
    select: Selection = ALL
    """What of the folder is the model's."""
    check: Callable[[Manifest], None] | None = None
    """Called when all is read, and nothing is filed yet; what it raises refuses the model."""
    known: Known | None = None
    """Gives the tensors that are looked for in opaque files; without it these stay whole."""


class Reading(NamedTuple):
    """What was read from a folder."""

    manifest: Manifest
    skipped: tuple[str, ...]
    """Where the store itself lies in the folder: that was left out."""
    damaged: tuple[str, ...]
    """Files that are not what their names say, and were kept as they are."""
    left_out: tuple[str, ...] = ()
    """What the selection leaves out."""
    fingerprint: str = ""
    """Of the folder as it was read."""


@dataclass(slots=True)
class _Scan:
    """Running state of reading one folder."""

    sink: Sink
    progress: Progress | None
    seen: set[BlockId] = field(default_factory=set)
    tensors: list[TensorLine] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    """Bytes read of each file."""

    def advance(self, path: str, num_bytes: int) -> None:
        """Note bytes of a file that were read."""
        self.done[path] = self.done.get(path, 0) + num_bytes
        if self.progress is not None:
            self.progress(path, num_bytes)

    def take_back(self) -> None:
        """Say that all that was read will be read again."""
        for path, num_bytes in self.done.items():
            if self.progress is not None:
                self.progress(path, -num_bytes)


def scan_folder(origin: Origin, sink: Sink) -> Reading:
    """Read a model's folder and hand each distinct block to `sink`, in the order of the files.

    What cannot be stored is found before the first block is handed over. Memory is bounded by a few blocks of
    `PIECE_BYTES`, whatever the size of the model.

    Raises:
        BadFileError: If something in it cannot be stored, see `list_source`.
        CheckpointError: If a file is not what its name says, unless such files are kept.
        SourceChangedError: If anything in the folder changes meanwhile.
    """
    source = list_source(origin.folder, origin.own, origin.select)
    plans, damaged = _plan(source, origin)
    scan = _Scan(sink, origin.progress)
    try:
        with Pool(1, "pbstore-hash") as pool:
            entries = tuple(_scan_file(scan, file, plan, pool) for file, plan in plans)
        check_unchanged(origin.folder, origin.own, source, origin.select)
    except (SourceChangedError, UnwantedError):
        scan.take_back()
        raise
    manifest = Manifest(
        name=origin.name,
        files=entries,
        weights=weights_hash(scan.tensors, entries),
        base=origin.base,
        empty_folders=source.empty_folders,
    )
    if origin.check is not None:
        origin.check(manifest)
    return Reading(manifest, source.skipped, damaged, source.left_out, source.fingerprint())


def _plan(source: Source, origin: Origin) -> tuple[list[tuple[SourceFile, list[FilePiece]]], tuple[str, ...]]:
    """Where to cut each file, and which files are not what their names say."""
    plans, damaged = [], []
    keep_damaged, known = origin.keep_damaged, origin.known and cache(origin.known)
    there = {file.path for file in source.files}
    for file in source.files:
        if missing := missing_shards(file, there, origin.select.leaves_out):
            if not keep_damaged:
                raise CheckpointError(told(file.path, missing))
            damaged.append(file.path)
        with opened(file) as fd, os.fdopen(fd, "rb", closefd=False) as stream:
            try:
                pieces = split_stream(stream, file.stamp.size, file.path, known)
            except CheckpointError:
                if not keep_damaged:
                    raise
                stream.seek(0)
                pieces = split_stream(stream, file.stamp.size, NO_NAME, known)
                damaged.append(file.path)
        plans.append((file, pieces))
    return plans, tuple(damaged)


def cut(pieces: list[FilePiece], limit: int = PIECE_BYTES) -> Iterator[FilePiece]:
    """Cut pieces that are longer than `limit`, at a row if the piece is a tensor.

    Where rows allow it, every cut is at a multiple of a page too: then the pieces can be mapped side by side.
    """
    for piece in pieces:
        if piece.length <= limit:
            yield piece
            continue
        spec = piece.spec
        item = 1 if spec is None else spec.item_bytes
        row = item if spec is None else spec.row_bytes or item
        unit = row if row <= limit else item
        pages = lcm(unit, PAGE_BYTES)
        step = limit // pages * pages or limit // unit * unit
        for start in range(0, piece.length, step):
            length = min(step, piece.length - start)
            yield FilePiece(piece.offset + start, length, _rows(spec, length, unit), piece.name)


def _rows(spec: TensorSpec | None, num_bytes: int, unit: int) -> TensorSpec | None:
    """Dtype and shape of some rows of a tensor, `unit` bytes each; None where elements are no whole bytes."""
    if spec is None:
        return None
    item = spec.item_bytes
    shape = (num_bytes // unit, unit // item) if unit > item else (num_bytes // item,)
    rows = TensorSpec(spec.dtype, shape)
    return rows if rows.num_bytes == num_bytes else None


def _scan_file(scan: _Scan, source: SourceFile, plan: list[FilePiece], pool: Executor) -> FileEntry:
    """Read a file piece by piece; the pool's one thread hashes the whole file behind it."""
    whole_file = _FileHash(pool)
    pieces: list[Piece] = []
    current: str | None = None
    with opened(source) as fd:
        for piece in cut(plan):
            large = piece.length >= HASH_BYTES
            if large:  # memory may be short until what waits is hashed
                whole_file.flush()
            raw = scan.sink.reserve(piece.length)
            for part in _read(fd, piece, source, raw):
                hashed = whole_file.add(part)
            if large:
                whole_file.flush()
            block = FreshBlock(hash_block(raw), raw, piece.spec, piece.name, hashed)
            ids = _ids_of_parts(piece, raw)
            if block.block_id in scan.seen:
                scan.sink.release(block)
            else:
                scan.seen.add(block.block_id)
                scan.sink.keep(block)
            pieces.append(Piece(block.block_id, piece.length))
            current = _note_tensor(scan, source.path, piece, block.block_id, current, ids)
            scan.advance(source.path, piece.length)
            del raw, part, hashed, block  # or a large piece stays until the next one is read
        read = sum(piece.raw_bytes for piece in pieces)
        if read != source.stamp.size or os.pread(fd, 1, read):
            raise SourceChangedError(str(source.place), f"it goes on behind byte {source.stamp.size}")
    return FileEntry(
        path=source.path,
        size_bytes=read,
        sha256=whole_file.hexdigest(),
        pieces=tuple(pieces),
        executable=source.executable,
    )


class _FileHash:
    """SHA-256 of a file by a pool's one thread; small parts go there together, for each way takes time."""

    def __init__(self, pool: Executor) -> None:
        self._pool, self._digest = pool, hashlib.sha256()
        self._start()

    def add(self, part: memoryview) -> Future[None]:
        """Hash a part soon; done when its memory is not needed any more."""
        done = self._done
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes >= HASH_BYTES or len(self._parts) >= HASH_PARTS:
            self.flush()
        return done

    def flush(self) -> None:
        """Hash what waits."""
        if self._parts:
            self._pool.submit(self._update, self._parts, self._done)
            self._start()

    def hexdigest(self) -> str:
        """The hash of all parts."""
        self._pool.submit(self._update, self._parts, self._done).result()  # behind all others
        return self._digest.hexdigest()

    def _start(self) -> None:
        self._parts: list[memoryview] = []
        self._bytes = 0
        self._done: Future[None] = Future()

    def _update(self, parts: list[memoryview], done: Future[None]) -> None:
        for part in parts:
            self._digest.update(part)
        parts.clear()
        done.set_result(None)


def _ids_of_parts(piece: FilePiece, raw: memoryview) -> list[BlockId]:
    """What the tensors of a group would be called if each had a block of its own."""
    return [hash_block(raw[(at := part.offset - piece.offset) : at + part.length]) for part in piece.parts]


def _note_tensor(
    scan: _Scan,
    path: str,
    piece: FilePiece,
    block_id: BlockId,
    current: str | None,
    ids_of_parts: list[BlockId],
) -> str | None:
    """Collect which blocks make a tensor of a safetensors file; a tensor that was cut has several."""
    if piece.name is None or not path.endswith(SAFETENSORS):
        return None
    if piece.parts:
        for part, part_id in zip(piece.parts, ids_of_parts, strict=True):
            pieces = int(part is piece.parts[0])
            scan.tensors.append(tensor_line(path, part.name, part.spec, [part_id], pieces))
        return None
    if piece.name == current:
        scan.tensors[-1].ids.append(block_id)
    else:
        scan.tensors.append(tensor_line(path, piece.name, piece.spec, [block_id]))
    return piece.name


def _read(fd: int, piece: FilePiece, source: SourceFile, out: memoryview) -> Iterator[memoryview]:
    """Fill `out` with a piece; yields the parts of it as they come."""
    done = 0
    while done < piece.length:
        step("read")
        part = out[done : done + READ_BYTES]
        count = os.preadv(fd, [part], piece.offset + done)
        if not count:
            raise SourceChangedError(str(source.place), f"it ends at byte {piece.offset + done}")
        yield part[:count]
        done += count
