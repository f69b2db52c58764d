"""Where the bytes of a broadcast come from: read again, range by range, when repair is asked for."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from blake3 import blake3

COPY_BYTES = 4 << 20
"""Read and hashed at once, bytes."""


class Payload(Protocol):
    """Bytes of known size and hash that can be read in any order, by several threads."""

    @property
    def size_bytes(self) -> int:
        """How many, > 0."""

    @property
    def object_id(self) -> str:
        """blake3 of all of them, hexadecimal."""

    def read(self, start: int, length: int) -> bytes | memoryview:
        """A range that lies inside."""


class BytesPayload:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, object_id: str | None = None) -> None:
        """Take the bytes; hash them unless their id is known.

        Raises:
            ValueError: If there are none.
        """
        self._view = memoryview(data).cast("B")
        if not self._view:
            raise ValueError("a payload needs at least one byte, got none")
        self.size_bytes = len(self._view)
        self.object_id = object_id or blake3(self._view).hexdigest()

    def read(self, start: int, length: int) -> memoryview:
        """A range, without a copy."""
        return self._view[start : start + length]


class FilePayload:
    """A file, read range by range."""

    def __init__(self, path: Path, object_id: str | None = None) -> None:
        """Open a file; hash it unless its id is known.

        Raises:
            ValueError: If it is empty.
            OSError: If it cannot be read.
        """
        self._file = path.open("rb")
        if object_id is None:
            self.size_bytes, self.object_id = _measure(self._file)
        else:
            self.size_bytes, self.object_id = path.stat().st_size, object_id
        if not self.size_bytes:
            self._file.close()
            raise ValueError(f"a payload needs at least one byte, {path} is empty")

    def read(self, start: int, length: int) -> bytes:
        """A range.

        Raises:
            OSError: If the file has become shorter.
        """
        data = os.pread(self._file.fileno(), length, start)
        if len(data) != length:
            raise OSError(f"{self._file.name} has become shorter while it was sent")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def spooled(pieces: Iterable[bytes | memoryview], folder: Path | None = None) -> FilePayload:
    """A payload out of pieces that can be had only once: kept in an unnamed file, for repair reads again."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-cast-") as file:
        digest = blake3()
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        return FilePayload(Path(file.name), digest.hexdigest())


def _measure(file: BinaryIO) -> tuple[int, str]:
    digest, size = blake3(), 0
    while data := file.read(COPY_BYTES):
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()
