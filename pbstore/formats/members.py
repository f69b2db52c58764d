"""Files inside files: where the members of a tar archive lie, and a part of a file as a file of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

_BLOCK = 512
_MAX_MEMBERS = 1 << 20
_DATA = frozenset((b"0", b"\0", b"7"))
_ABOUT_NEXT = frozenset((b"L", b"K", b"x", b"g"))
"""Long names and attributes of the member that follows; they have data too."""


def is_tar(file: BinaryIO) -> bool:
    """Whether an open file begins as a tar archive."""
    file.seek(257)
    return file.read(5) == b"ustar"


def tar_members(file: BinaryIO, file_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each regular member of a tar archive, up to the first header that is none."""
    position = 0
    for _ in range(_MAX_MEMBERS):
        file.seek(position)
        head = file.read(_BLOCK)
        if len(head) < _BLOCK or head[257:262] != b"ustar":
            return
        size = _number(head[124:136])
        start = position + _BLOCK
        if size is None or size > file_bytes - start:
            return
        kind = head[156:157]
        if kind in _DATA:
            yield start, size
        has_data = kind in _DATA or kind in _ABOUT_NEXT
        position = start + (-(-size // _BLOCK) * _BLOCK if has_data else 0)


def part_of(file: BinaryIO, offset: int, length: int) -> BinaryIO:
    """A run of an open file's bytes as a file of its own."""
    return cast("BinaryIO", io.BufferedReader(_Part(file, offset, length)))


class _Part(io.RawIOBase):
    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._position = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError(f"expected a position of at least 0, got {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        left = max(0, self._length - self._position)
        self._file.seek(self._offset + self._position)
        data = self._file.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _number(field: bytes) -> int | None:
    """A size in a header: octal digits, or 0x80 and a number of base 256; None if it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    return int(text, 8) if text and all(digit in b"01234567" for digit in text) else None
