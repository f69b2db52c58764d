"""Where to cut a file into blocks: pure functions of a file's bytes; every byte lies in exactly one piece.

A safetensors file is cut at its header (kept verbatim) and at each tensor, but tiny ones share blocks (see
`groups`); a torch archive, a GGUF, ONNX or numpy file at its larger tensors, with opaque bytes between (see
`archives` and `arrays`). In opaque bytes of cold models stored tensors are looked for (see `known`); what is
left is cut where its content says so (see `chunking`); those of hot models stay whole, so that files can
share their pages.
The content tells what a file is, not the name: equal bytes are cut equally wherever they lie, in caches, as
git-lfs objects or as copies, as long as the same tensors are known.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from pbstore.codecs.types import TensorSpec
from pbstore.errors import CheckpointError
from pbstore.formats.archives import find_cuts
from pbstore.formats.chunking import CHUNKED_BYTES, Bytes, Read, chunk_lengths
from pbstore.formats.cuts import Cut
from pbstore.formats.groups import flat_spec, group_name, runs
from pbstore.formats.known import KnownTensors
from pbstore.formats.lookalike import HEAD_BYTES, looks_like_safetensors, what_it_is
from pbstore.formats.members import part_of
from pbstore.formats.safetensors_header import TensorEntry, read_header

Known: TypeAlias = Callable[[], KnownTensors]
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
        parts: The tensors of a group; `spec` is then that of all of them as one.
    """

    offset: int
    length: int
    spec: TensorSpec | None = None
    name: str | None = None
    parts: tuple[TensorEntry, ...] = ()


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


def split_stream(file: BinaryIO, file_bytes: int, file_name: str, known: Known | None = None) -> list[Piece]:
    """`split_file` of an open, seekable file at position 0; only the ending of `file_name` is used.

    `known` gives the tensors that are looked for in opaque bytes; without it these stay whole.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if file_name.endswith(".safetensors"):
        try:
            return _split_safetensors(file, file_bytes)
        except CheckpointError as error:
            really = what_it_is(head, file_bytes)
            reason = f"expected a safetensors file, got {really}" if really else str(error)
            raise CheckpointError(f"{file_name}: {reason}") from error
    return _split_by_content(file, file_bytes, head, known)


def _split_by_content(
    file: BinaryIO, file_bytes: int, head: bytes, known: Known | None, depth: int = 0
) -> list[Piece]:
    """Pieces of a file that may be anything, and of files inside it."""
    if looks_like_safetensors(head, file_bytes):
        with suppress(CheckpointError):
            return _split_safetensors(file, file_bytes, whole=False)
    pieces, position = [], 0
    for cut in find_cuts(file, file_bytes):
        pieces += _split_opaque(file, Piece(position, cut.offset - position), known)
        pieces += _split_cut(file, cut, known, depth)
        position = cut.offset + cut.length
    return [*pieces, *_split_opaque(file, Piece(position, file_bytes - position), known)]


def _split_opaque(file: BinaryIO, piece: Piece, known: Known | None) -> list[Piece]:
    """Stored tensors inside opaque bytes or a flat run of numbers, and what lies between them."""
    if known is None or piece.length < CHUNKED_BYTES:
        return [piece] if piece.length else []
    read = _reader(file, piece.offset)
    tensors = known()
    flat = piece.spec is not None
    found = tensors.find(read, piece.length) if not flat or tensors.begin(read, piece.length) else []
    pieces, position = [], 0
    for offset, length in [*found, (piece.length, 0)]:
        pieces += _between(file, piece, position, offset - position)
        pieces += [Piece(piece.offset + offset, length)] if length else []
        position = offset + length
    return pieces


def _between(file: BinaryIO, piece: Piece, start: int, length: int) -> list[Piece]:
    """What lies between stored tensors: numbers as they are, other bytes cut by their content."""
    if not length:
        return []
    offset, spec = piece.offset + start, piece.spec
    if spec is not None and start % spec.item_bytes == 0 == length % spec.item_bytes:
        return [Piece(offset, length, TensorSpec(spec.dtype, (length // spec.item_bytes,)), piece.name)]
    pieces = []
    for size in chunk_lengths(_reader(file, offset), length):
        pieces.append(Piece(offset, size))
        offset += size
    return pieces


def _reader(file: BinaryIO, offset: int) -> Read:
    """Reads an open file from an offset on."""

    def read(begin: int, end: int) -> Bytes:
        file.seek(offset + begin)
        return np.frombuffer(file.read(end - begin), np.uint8)

    return read


def _split_cut(file: BinaryIO, cut: Cut, known: Known | None, depth: int) -> list[Piece]:
    """A cut as one piece, or the pieces of the file that lies there."""
    if cut.spec is not None and len(cut.spec.shape) == 1 and cut.length >= CHUNKED_BYTES:
        return _split_opaque(file, Piece(cut.offset, cut.length, cut.spec, cut.name), known)
    if cut.spec is None and cut.name is None and depth < _MAX_DEPTH:
        inside = part_of(file, cut.offset, cut.length)
        head = inside.read(HEAD_BYTES)
        inside.seek(0)
        pieces = _split_by_content(inside, cut.length, head, known, depth + 1)
        return [Piece(cut.offset + p.offset, p.length, p.spec, p.name) for p in pieces]
    return [Piece(cut.offset, cut.length, cut.spec, cut.name)]


def _split_safetensors(file: BinaryIO, file_bytes: int, *, whole: bool = True) -> list[Piece]:
    """The header and the tensors; if it need not be `whole`, those that are there, and what is behind."""
    header = read_header(file, file_bytes, whole=whole)
    inside = [e for e in header.tensors if e.length and e.offset + e.length <= file_bytes]
    pieces = [Piece(0, header.header_bytes), *map(_piece_of, runs(inside))]
    end = pieces[-1].offset + pieces[-1].length
    return [*pieces, Piece(end, file_bytes - end)] if end < file_bytes else pieces


def _piece_of(run: list[TensorEntry]) -> Piece:
    """A tensor, or the tensors of a group."""
    first, last = run[0], run[-1]
    if len(run) == 1:
        return Piece(first.offset, first.length, first.spec, first.name)
    length = last.offset + last.length - first.offset
    name = group_name([one.name for one in run])
    return Piece(first.offset, length, flat_spec([one.spec for one in run]), name, tuple(run))
