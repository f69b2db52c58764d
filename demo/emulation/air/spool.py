"""Where an object grows piece by piece at a receiver: in memory if it is small, else in a file."""

import os
import tempfile
from pathlib import Path


class Spool:
    """Random writes, then the whole: small objects are kept in memory, others in a temporary file."""

    def __init__(self, size_bytes: int, folder: Path | None, memory_bytes: int) -> None:
        """Make room for nothing yet: no size is believed before bytes arrive."""
        self.in_memory = size_bytes <= memory_bytes
        self._folder, self._parts = folder, dict[int, bytes]()
        self._file: int | None = None
        self._path: Path | None = None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes at their place.

        Raises:
            OSError: If the disk is full.
        """
        if self.in_memory:
            self._parts[offset] = bytes(data)
            return
        if self._file is None:
            self._file, name = tempfile.mkstemp(dir=self._folder, prefix=".tmp-air-")
            self._path = Path(name)
        view = memoryview(data)
        while view:
            count = os.pwrite(self._file, view, offset)
            offset, view = offset + count, view[count:]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were written at this place, all in one or all of a file's."""
        if self.in_memory:
            return self._parts[offset]
        return os.pread(self._file, length, offset) if self._file is not None else b""

    def take(self) -> tuple[bytes | None, Path | None]:
        """The whole, as bytes or as a file that is the caller's from now on."""
        if self.in_memory:
            return b"".join(data for _, data in sorted(self._parts.items())), None
        self._close()
        path, self._path = self._path, None
        return None, path

    def drop(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self._close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
