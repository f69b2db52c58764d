"""Which tensors a stored model has, and which blocks hold them: read from headers, which are blocks too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pbstore.errors import BadFileError, CheckpointError
from pbstore.formats.safetensors_header import SafetensorsHeader, header_length, parse_header
from pbstore.hashing import BlockId, Buffer
from pbstore.manifest import FileEntry, Manifest, Piece
from pbstore.spec import TensorSpec

ReadBlock = Callable[[BlockId], Buffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of a stored model."""

    name: str
    spec: TensorSpec
    path: str
    """File of the model that holds it."""
    pieces: tuple[Piece, ...]
    """Blocks that give its bytes, usually one; none if it is empty."""


def stored_tensors(
    manifest: Manifest, read: ReadBlock, *, skip_damaged: bool = False
) -> Iterator[StoredTensor]:
    """All tensors of a model's safetensors files, in the order of files and offsets.

    Args:
        manifest: The model.
        read: Gives a block's bytes.
        skip_damaged: Pass over files without a header: those that were added although they were damaged.

    Raises:
        BadFileError: If a header and the blocks behind it do not fit each other.
    """
    for entry in manifest.files:
        if entry.path.endswith(".safetensors"):
            try:
                header = header_of(entry, read)
            except BadFileError:
                if skip_damaged:
                    continue
                raise
            yield from tensors_of(entry, header)


def header_of(entry: FileEntry, read: ReadBlock) -> SafetensorsHeader:
    """The header of a safetensors file, which is the file's first block.

    Raises:
        BadFileError: If it is not, or is malformed.
    """
    head = bytes(read(entry.pieces[0].block_id)) if entry.pieces else b""
    try:
        if header_length(head[:8]) != len(head):
            raise BadFileError(entry.path, "its first block is not its safetensors header")
        return parse_header(head[8:], entry.size_bytes)
    except CheckpointError as error:
        raise BadFileError(entry.path, str(error)) from error


def tensors_of(entry: FileEntry, header: SafetensorsHeader) -> Iterator[StoredTensor]:
    """The tensors of a file, in the order of offsets, with the blocks behind the header that hold them.

    Raises:
        BadFileError: If the header and the blocks do not fit each other.
    """
    starts, position = {}, header.header_bytes
    for number, piece in enumerate(entry.pieces[1:], start=1):
        starts[position] = number
        position += piece.raw_bytes
    for tensor in header.tensors:
        pieces: list[Piece] = []
        left = tensor.length
        number = starts.get(tensor.offset, len(entry.pieces)) if left else 0
        while left > 0 and number < len(entry.pieces):
            pieces.append(entry.pieces[number])
            left -= entry.pieces[number].raw_bytes
            number += 1
        if left:
            raise BadFileError(entry.path, f"no blocks fit tensor {tensor.name[:80]!r}")
        yield StoredTensor(name=tensor.name, spec=tensor.spec, path=entry.path, pieces=tuple(pieces))
