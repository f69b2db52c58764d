"""Which tensors a stored model has, and which blocks hold them: read from headers, which are blocks too."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pbstore.errors import BadFileError, CheckpointError
from pbstore.formats.groups import flat_spec, group_name
from pbstore.formats.safetensors_header import SafetensorsHeader, TensorEntry, header_length, parse_header
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
    """Blocks that give its bytes, usually one; none if it is empty. A member of a group has the group's."""
    offset: int = 0
    """First byte of the tensor in its block; not 0 in a group alone."""

    @property
    def is_part(self) -> bool:
        """Whether its block has other tensors, too: it is a member of a group."""
        return len(self.pieces) == 1 and self.pieces[0].raw_bytes != self.spec.num_bytes

    @property
    def has_own_block(self) -> bool:
        """Whether one block is the tensor, and nothing else."""
        return len(self.pieces) == 1 and not self.is_part

    def part_of(self, block: Buffer) -> memoryview:
        """A member's bytes, from those of its group."""
        return memoryview(block).cast("B")[self.offset : self.offset + self.spec.num_bytes]


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
    starts, position = [], header.header_bytes
    for piece in entry.pieces[1:]:
        starts.append(position)
        position += piece.raw_bytes
    for tensor in header.tensors:
        number = bisect_right(starts, tensor.offset) - 1
        pieces, offset = _pieces_at(entry, tensor, number, starts[number] if number >= 0 else -1)
        if pieces is None:
            raise BadFileError(entry.path, f"no blocks fit tensor {tensor.name[:80]!r}")
        yield StoredTensor(name=tensor.name, spec=tensor.spec, path=entry.path, pieces=pieces, offset=offset)


def _pieces_at(
    entry: FileEntry, tensor: TensorEntry, number: int, start: int
) -> tuple[tuple[Piece, ...] | None, int]:
    """Blocks of a tensor that begins in a piece behind the header, and where in the first one it begins."""
    if not tensor.length:
        return (), 0
    if number < 0:
        return None, 0
    first, offset = entry.pieces[number + 1], tensor.offset - start
    if offset + tensor.length <= first.raw_bytes:  # its own block, or a group's
        return (first,), offset
    pieces: list[Piece] = []
    left = tensor.length
    for piece in entry.pieces[number + 1 :] if not offset else ():
        if left <= 0:
            break
        pieces.append(piece)
        left -= piece.raw_bytes
    return (None if left else tuple(pieces)), 0


def with_parts(
    tensors: Iterable[StoredTensor], read: ReadBlock
) -> Iterator[tuple[StoredTensor, memoryview | None]]:
    """Tensors, and the bytes of those that are members of groups, each of which is read once."""
    block_id, block = None, memoryview(b"")
    for tensor in tensors:
        if not tensor.is_part:
            yield tensor, None
            continue
        if tensor.pieces[0].block_id != block_id:
            block_id = tensor.pieces[0].block_id
            block = memoryview(read(block_id)).cast("B")
        yield tensor, tensor.part_of(block)


def blocks_as_tensors(tensors: Iterable[StoredTensor]) -> Iterator[tuple[BlockId, TensorSpec, str]]:
    """Blocks that hold one tensor or a group, each once, with dtype and shape, and name."""
    groups: dict[BlockId, list[StoredTensor]] = {}
    for tensor in tensors:
        if tensor.is_part:
            groups.setdefault(tensor.pieces[0].block_id, []).append(tensor)
        elif tensor.has_own_block:
            yield tensor.pieces[0].block_id, tensor.spec, tensor.name
    for block_id, members in groups.items():
        spec = flat_spec([member.spec for member in members])
        if spec.num_bytes == members[0].pieces[0].raw_bytes:  # else a file has only some of them
            yield block_id, spec, group_name([member.name for member in members])
