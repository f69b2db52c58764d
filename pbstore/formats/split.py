"""Where to cut a file into blocks: pure functions of a file's bytes; every byte lies in exactly one piece.

A safetensors file is cut at its header (kept verbatim) and at each tensor; a torch archive or a GGUF file at
its larger tensors, with opaque bytes between (see `archives`). Everything else is one opaque piece. The
content tells which it is, not the name: equal bytes are cut equally wherever they lie, in caches, as git-lfs
objects or as copies.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pbstore.codecs.types import TensorSpec
from pbstore.errors import CheckpointError
from pbstore.formats.archives import Cut, find_cuts
from pbstore.formats.lookalike import HEAD_BYTES, looks_like_safetensors, what_it_is
from pbstore.formats.members import part_of
from pbstore.formats.safetensors_header import read_header

_MAX_DEPTH = 2
"""Archives inside archives that are looked into: a tar of torch's archives, and their members."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One run of a file's bytes that becomes one block.

    Attributes:
        offset: First byte in the file.
        length: Bytes.
        spec: Dtype and shape when the piece is one tensor, None for opaque bytes.
        name: Tensor's name when known, for reports only.
    """

    offset: int
    length: int
    spec: TensorSpec | None = None
    name: str | None = None


def split_file(path: Path) -> list[Piece]:
    """Cut a file into pieces, in file order, covering it exactly; an empty file has no piece.

    Raises:
        CheckpointError: If a `.safetensors` file is malformed or truncated.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        file_bytes = file.seek(0, 2)
        file.seek(0)
        return split_stream(file, file_bytes, path.name)


def split_stream(file: BinaryIO, file_bytes: int, file_name: str) -> list[Piece]:
    """`split_file` of an open, seekable file at position 0; only the ending of `file_name` is used."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if file_name.endswith(".safetensors"):
        try:
            return _split_safetensors(file, file_bytes)
        except CheckpointError as error:
            really = what_it_is(head, file_bytes)
            reason = f"expected a safetensors file, got {really}" if really else str(error)
            raise CheckpointError(f"{file_name}: {reason}") from error
    return _split_by_content(file, file_bytes, head)


def _split_by_content(file: BinaryIO, file_bytes: int, head: bytes, depth: int = 0) -> list[Piece]:
    """Pieces of a file that may be anything, and of files inside it."""
    if looks_like_safetensors(head, file_bytes):
        with suppress(CheckpointError):
            return _split_safetensors(file, file_bytes, whole=False)
    pieces, position = [], 0
    for cut in find_cuts(file, file_bytes):
        if cut.offset > position:
            pieces.append(Piece(position, cut.offset - position))
        pieces += _split_cut(file, cut, depth)
        position = cut.offset + cut.length
    return [*pieces, Piece(position, file_bytes - position)] if file_bytes > position else pieces


def _split_cut(file: BinaryIO, cut: Cut, depth: int) -> list[Piece]:
    """A cut as one piece, or the pieces of the file that lies there."""
    if cut.spec is None and cut.name is None and depth < _MAX_DEPTH:
        inside = part_of(file, cut.offset, cut.length)
        head = inside.read(HEAD_BYTES)
        inside.seek(0)
        pieces = _split_by_content(inside, cut.length, head, depth + 1)
        return [Piece(cut.offset + p.offset, p.length, p.spec, p.name) for p in pieces]
    return [Piece(cut.offset, cut.length, cut.spec, cut.name)]


def _split_safetensors(file: BinaryIO, file_bytes: int, *, whole: bool = True) -> list[Piece]:
    """The header and the tensors; if it need not be `whole`, those that are there, and what is behind."""
    header = read_header(file, file_bytes, whole=whole)
    inside = (e for e in header.tensors if e.length and e.offset + e.length <= file_bytes)
    pieces = [Piece(0, header.header_bytes), *(Piece(e.offset, e.length, e.spec, e.name) for e in inside)]
    end = pieces[-1].offset + pieces[-1].length
    return [*pieces, Piece(end, file_bytes - end)] if end < file_bytes else pieces
