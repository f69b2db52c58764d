"""Blocks on a device by their id: found right before they stay, and those unused for longest go first."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from pbstore.hashing import BlockId, Buffer, as_block_id
from pbstore.serve.wire.xet import CHUNK_BYTES

_READ_BYTES = 1 << 20


class BlockCache:
    """A folder of raw blocks, a file each; safe to use from several threads, by one process at a time.

    A block that comes in lies under `coming/` until all its chunks are there and hash to its id; only then it
    has its name. What lay there when a process died is forgotten. Blocks of before are hashed once, when they
    are first asked for.

    Args:
        folder: Made if missing.
        capacity_bytes: Most bytes of all blocks. Half of it is for those that come in: larger ones are not
            kept, and the one that began first is forgotten when there are more.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._whole, self._coming = folder / "blocks", folder / "coming"
        for made in (self._whole, self._coming):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._coming.iterdir():
            left.unlink()
        self._mutex = threading.Lock()
        self._sizes: OrderedDict[BlockId, int] = OrderedDict(_found(self._whole))
        self._checked: set[BlockId] = set()
        self._parts: dict[BlockId, _Coming] = {}
        self._make_room()

    @property
    def held_bytes(self) -> int:
        """Bytes of all blocks, those that come in counted whole."""
        with self._mutex:
            return sum(self._sizes.values()) + sum(part.raw_bytes for part in self._parts.values())

    def open(self, block_id: BlockId) -> "OpenBlock | None":
        """A block, None if it is not here whole."""
        with self._mutex:
            size = self._sizes.get(block_id)
            if size is None:
                return None
            self._sizes.move_to_end(block_id)
        return self._open_whole(block_id, size)

    def put(self, block_id: BlockId, raw_bytes: int, chunk: int, data: Buffer) -> None:
        """Keep a chunk of a block; when it is the last that was missing, the block is checked.

        Raises:
            ValueError: If the chunk is not one of a block of this size.
        """
        chunks = -(-raw_bytes // CHUNK_BYTES)
        if not 0 <= chunk < chunks or len(data) != min(CHUNK_BYTES, raw_bytes - chunk * CHUNK_BYTES):
            raise ValueError(f"chunk {chunk} of {len(data)} bytes is none of a block of {raw_bytes}")
        if raw_bytes > self._capacity // 2:
            return
        with self._mutex:
            if block_id in self._sizes:
                return
            coming = self._parts.get(block_id)
            if coming is None or coming.raw_bytes != raw_bytes:
                self._forget(block_id)
                coming = self._parts[block_id] = _Coming(self._coming / block_id, raw_bytes)
                self._make_room()
        os.pwrite(coming.fd, data, chunk * CHUNK_BYTES)
        with self._mutex:
            coming.chunks.add(chunk)
            whole = len(coming.chunks) == chunks and self._parts.get(block_id) is coming
        if whole:
            self._finish(block_id, coming)

    def close(self) -> None:
        """Forget what is not whole."""
        with self._mutex:
            for block_id in list(self._parts):
                self._forget(block_id)

    def _finish(self, block_id: BlockId, coming: "_Coming") -> None:
        """Give a block its name if it is right, else forget it."""
        right = _hash(coming.fd) == block_id
        with self._mutex:
            if self._parts.get(block_id) is not coming:
                return
            if right:
                (self._coming / block_id).replace(self._whole / block_id)
                self._sizes[block_id] = coming.raw_bytes
                self._checked.add(block_id)
            self._forget(block_id)
            self._make_room()

    def _open_whole(self, block_id: BlockId, size: int) -> "OpenBlock | None":
        try:
            fd = os.open(self._whole / block_id, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._drop(block_id)
            return None
        if block_id not in self._checked:
            if os.fstat(fd).st_size != size or _hash(fd) != block_id:
                os.close(fd)
                self._drop(block_id)
                return None
            self._checked.add(block_id)
        with suppress(OSError):
            os.utime(fd)  # so that the next process knows the order
        return OpenBlock(fd, size)

    def _drop(self, block_id: BlockId) -> None:
        with self._mutex:
            self._remove(block_id)

    def _remove(self, block_id: BlockId) -> None:
        self._sizes.pop(block_id, None)
        self._checked.discard(block_id)
        (self._whole / block_id).unlink(missing_ok=True)

    def _make_room(self) -> None:
        coming = sum(part.raw_bytes for part in self._parts.values())
        while coming > self._capacity // 2:
            oldest = next(iter(self._parts))
            coming -= self._parts[oldest].raw_bytes
            self._forget(oldest)
        held = coming + sum(self._sizes.values())
        while held > self._capacity:
            oldest = next(iter(self._sizes))
            held -= self._sizes[oldest]
            self._remove(oldest)

    def _forget(self, block_id: BlockId) -> None:
        if self._parts.pop(block_id, None) is not None:
            (self._coming / block_id).unlink(missing_ok=True)


class OpenBlock:
    """An open block, whose file stays readable while somebody holds this."""

    def __init__(self, fd: int, raw_bytes: int) -> None:
        self._fd, self.raw_bytes = fd, raw_bytes

    def __del__(self) -> None:
        os.close(self._fd)

    def read(self, start: int, stop: int) -> bytes:
        """Raw bytes `start` to `stop`."""
        return os.pread(self._fd, stop - start, start)


class _Coming:
    """A block that is coming in."""

    def __init__(self, path: Path, raw_bytes: int) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.raw_bytes = raw_bytes
        self.chunks: set[int] = set()

    def __del__(self) -> None:
        with suppress(AttributeError):
            os.close(self.fd)


def _found(folder: Path) -> Iterator[tuple[BlockId, int]]:
    """Blocks in a folder and their sizes, those used longest ago first; what is no block goes."""
    found = []
    for path in folder.iterdir():
        status = path.lstat()
        try:
            found.append((status.st_mtime_ns, as_block_id(path.name), status.st_size))
        except ValueError:
            path.unlink()
    return ((block_id, size) for _, block_id, size in sorted(found))


def _hash(fd: int) -> str:
    digest, position = blake3(), 0
    while data := os.pread(fd, _READ_BYTES, position):
        digest.update(data)
        position += len(data)
    return digest.hexdigest()
