"""From a model's folder to blocks and a manifest: each file is read once, hashed and cut into blocks."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from pbstore.blocks import PIECE_BYTES
from pbstore.checkpoint.split import Piece as FilePiece
from pbstore.checkpoint.split import split_file
from pbstore.codecs.types import TensorSpec
from pbstore.errors import BadFileError
from pbstore.feed import FreshBlock, Sink
from pbstore.hashing import BlockId, hash_block
from pbstore.manifest import BaseLink, FileEntry, Manifest, Piece, check_path
from pbstore.pool import Pool

READ_BYTES = 4 << 20
"""Bytes read at a time; they are hashed while the next ones are read."""
HASH_BYTES = 1 << 17
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
    already_there: bool = False
    """The same model was filed under this name before."""


@dataclass(slots=True)
class _Scan:
    """Running state of reading one folder."""

    sink: Sink
    progress: Progress | None
    seen: set[BlockId] = field(default_factory=set)
    tensors: list[tuple[str, str, str, list[BlockId]]] = field(default_factory=list)


def list_files(folder: Path) -> list[Path]:
    """All regular files under a folder, sorted; links to files count as files.

    Raises:
        BadFileError: If there is none, or something that is neither file nor folder.
        FileNotFoundError, NotADirectoryError: If the folder is missing or no folder.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"expected a folder, got a file: {folder}")
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not path.is_file():
                raise BadFileError(str(path), "expected a regular file, got a broken link or a device")
            found.append(path)
    if not found:
        raise BadFileError(str(folder), "the folder has no files")
    return sorted(found)


def scan_folder(
    folder: Path, name: str, sink: Sink, *, base: BaseLink | None = None, progress: Progress | None = None
) -> Manifest:
    """Read a model's folder and hand each distinct block to `sink`, in the order of the files.

    Memory is bounded by a few blocks of `PIECE_BYTES`, whatever the size of the model.

    Raises:
        BadFileError, CheckpointError: If a file is not what its name says, or changes while it is read.
    """
    scan = _Scan(sink, progress)
    with Pool(1, "pbstore-hash") as pool:
        entries = tuple(
            _scan_file(scan, path, check_path(path.relative_to(folder).as_posix()), pool)
            for path in list_files(folder)
        )
    return Manifest(name=name, files=entries, weights=_weights(scan.tensors), base=base)


def cut(pieces: list[FilePiece], limit: int = PIECE_BYTES) -> Iterator[FilePiece]:
    """Cut pieces that are longer than `limit`, at a row if the piece is a tensor."""
    for piece in pieces:
        if piece.length <= limit:
            yield piece
            continue
        spec = piece.spec
        item = 1 if spec is None else spec.item_bytes
        row = item if spec is None else spec.row_bytes or item
        unit = row if row <= limit else item
        step = limit // unit * unit
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


def _scan_file(scan: _Scan, path: Path, relative: str, pool: Executor) -> FileEntry:
    """Read a file piece by piece; the pool's one thread hashes the whole file behind it."""
    whole_file = _FileHash(pool)
    pieces: list[Piece] = []
    current: str | None = None
    whole = split_file(path)
    with path.open("rb", buffering=0) as file:
        for piece in cut(whole):
            large = piece.length >= HASH_BYTES
            if large:  # memory may be short until what waits is hashed
                whole_file.flush()
            raw = scan.sink.reserve(piece.length)
            for part in _read(file.fileno(), piece, path, raw):
                hashed = whole_file.add(part)
            if large:
                whole_file.flush()
            block = FreshBlock(hash_block(raw), raw, piece.spec, piece.name, hashed)
            if block.block_id in scan.seen:
                scan.sink.release(block)
            else:
                scan.seen.add(block.block_id)
                scan.sink.keep(block)
            pieces.append(Piece(block.block_id, piece.length))
            current = _note_tensor(scan, piece, block.block_id, current)
            if scan.progress is not None:
                scan.progress(relative, piece.length)
            del raw, part, hashed, block  # or a large piece stays until the next one is read
        size = os.fstat(file.fileno()).st_size
    read = sum(piece.raw_bytes for piece in pieces)
    if size != read:
        raise BadFileError(str(path), f"changed while it was read: {read} bytes, then {size}")
    return FileEntry(path=relative, size_bytes=read, sha256=whole_file.hexdigest(), pieces=tuple(pieces))


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


def _note_tensor(scan: _Scan, piece: FilePiece, block_id: BlockId, current: str | None) -> str | None:
    """Collect which blocks make a tensor; a tensor that was cut has several."""
    if piece.spec is None or piece.name is None:
        return None
    if piece.name == current:
        scan.tensors[-1][3].append(block_id)
    else:
        scan.tensors.append((piece.name, piece.spec.dtype, str(piece.spec.shape[1:]), [block_id]))
    return piece.name


def _read(fd: int, piece: FilePiece, path: Path, out: memoryview) -> Iterator[memoryview]:
    """Fill `out` with a piece; yields the parts of it as they come."""
    done = 0
    while done < piece.length:
        part = out[done : done + READ_BYTES]
        count = os.preadv(fd, [part], piece.offset + done)
        if not count:
            raise BadFileError(str(path), f"changed while it was read: ends at byte {piece.offset + done}")
        yield part[:count]
        done += count


def _weights(tensors: list[tuple[str, str, str, list[BlockId]]]) -> str:
    """Hash of all tensors by name and content: the same for every sharding and every order of files."""
    if not tensors:
        return ""
    digest = blake3()
    for name, dtype, trailing, ids in sorted(tensors):
        digest.update("\0".join([name, dtype, trailing, *ids, ""]).encode() + b"\n")
    return digest.hexdigest()
