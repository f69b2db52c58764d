"""Cutting a file into blocks while it comes in, at the places where an add would cut it."""

import io
from collections.abc import Iterator

from pbstore.errors import CheckpointError
from pbstore.folders.ingest import cut
from pbstore.formats.safetensors_header import header_length
from pbstore.formats.split import Piece, split_stream
from pbstore.hashing import Buffer


class StreamCutter:
    """Gives the pieces of a file as soon as they are whole; holds one of them at a time.

    Files other than safetensors are cut by length: only an add sees their ends, where many formats keep their
    tables.

    Args:
        path: Name of the file.
        size_bytes: Its length.
    """

    def __init__(self, path: str, size_bytes: int) -> None:
        self._path, self._size = path, size_bytes
        self._waiting = bytearray()
        self._cuts: Iterator[Piece] | None = None
        self._next: Piece | None = None

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """Pieces that are whole now."""
        self._waiting += data
        if self._cuts is None:
            if self._missing_head() > 0:
                return
            self._cuts = iter(list(cut(self._pieces())))
            self._next = next(self._cuts, None)
        while self._next is not None and len(self._waiting) >= self._next.length:
            piece, self._next = bytes(self._waiting[: self._next.length]), next(self._cuts, None)
            del self._waiting[: len(piece)]
            yield piece

    def _missing_head(self) -> int:
        """Bytes that are needed to know where to cut."""
        if not self._path.endswith(".safetensors") or self._size < 8:
            return 0
        try:
            wanted = 8 if len(self._waiting) < 8 else header_length(bytes(self._waiting[:8]))
        except CheckpointError:
            return 0
        return min(wanted, self._size) - len(self._waiting)

    def _pieces(self) -> list[Piece]:
        if self._path.endswith(".safetensors"):
            try:
                return split_stream(io.BytesIO(bytes(self._waiting)), self._size, self._path)
            except CheckpointError:
                pass
        return [Piece(0, self._size)] if self._size else []
