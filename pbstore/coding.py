"""From a stored block back to raw bytes, checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from blake3 import blake3

from pbstore.blocks import MAX_BLOCK_BYTES, RAW, StoredBlock
from pbstore.errors import BlockCorruptError, PBStoreError
from pbstore.hashing import BlockId, Buffer, hash_block

STEPS = 2
"""Most steps from a block over its bases to the last one, which needs nothing."""


def decode_block(
    stored: StoredBlock,
    bases: Sequence[Buffer],
    *,
    check: bool = True,
    workers: int = 1,
    out: memoryview | None = None,
) -> Buffer:
    """Raw bytes of a stored block.

    Args:
        stored: The block as it lies in a store or came over a wire.
        bases: Raw bytes of `stored.bases`, in that order.
        check: Hash the result and compare it with the id.
        workers: Threads that share the work.
        out: Memory for the result, of its length, where it does not lie in the payload anyway.

    Raises:
        BlockCorruptError: If the payload does not decode to exactly the bytes that the id stands for.
    """
    if not 0 <= stored.raw_bytes <= MAX_BLOCK_BYTES:
        raise BlockCorruptError(stored.block_id, f"it claims {stored.raw_bytes} raw bytes")
    raw = stored.payload if stored.codec == RAW else _decode(stored, bases, workers, out)
    if len(raw) != stored.raw_bytes:
        raise BlockCorruptError(stored.block_id, f"it has {len(raw)} bytes, expected {stored.raw_bytes}")
    if check:
        check_hash(stored.block_id, raw)
    return raw


def check_hash(block_id: BlockId, raw: Buffer) -> None:
    """Compare bytes with the id they are filed under.

    Raises:
        BlockCorruptError: If they hash to another id.
    """
    actual = hash_block(raw)
    if actual != block_id:
        raise BlockCorruptError(block_id, f"its bytes hash to {actual[:12]}")


def with_needs(
    block_id: BlockId, read: Callable[[BlockId], StoredBlock]
) -> tuple[StoredBlock, dict[BlockId, StoredBlock]]:
    """A block and all that it needs, also where a base has been stored anew with other needs since.

    Raises:
        BlockCorruptError: If its last base is more than `STEPS` steps away, or is the block itself.
    """
    stored = read(block_id)
    needed: dict[BlockId, StoredBlock] = {}
    blocks = [stored]
    for _ in range(STEPS):
        bases = dict.fromkeys(base for block in blocks for base in block.bases)
        needed.update({base: read(base) for base in bases if base not in needed})
        blocks = [needed[base] for base in bases]
    if any(block.bases for block in blocks):
        raise BlockCorruptError(block_id, f"it is more than {STEPS} steps away from its last base")
    return stored, needed


def decode_with_needs(
    stored: StoredBlock,
    needed: Mapping[BlockId, StoredBlock],
    take: Callable[[int], memoryview],
    workers: int,
    out: memoryview | None,
) -> Buffer:
    """Raw bytes of a stored block, unchecked, from it and all that it needs; see `decode_block`.

    `take` gives memory for a base.
    """
    bases = []
    for base in map(needed.__getitem__, stored.bases):
        room = None if base.codec == RAW else take(base.raw_bytes)
        bases.append(decode_with_needs(base, needed, take, workers, room))
    return decode_block(stored, bases, check=False, workers=workers, out=out)


def decode_checked_parts(
    stored: StoredBlock, bases: Sequence[Buffer] | Mapping[BlockId, StoredBlock]
) -> Iterator[Buffer]:
    """Raw bytes of a stored block in runs of about a megabyte, each valid until the next is asked for.

    The runs are true only if the last one was followed by no error.

    Args:
        stored: The block as it lies in a store.
        bases: Raw bytes of `stored.bases`; or all blocks that it and its bases need, at most `STEPS` steps
            away, as they lie in a store: they are decoded where they are asked for.

    Raises:
        BlockCorruptError: If the runs are not the bytes that the id stands for.
    """
    if not 0 <= stored.raw_bytes <= MAX_BLOCK_BYTES:
        raise BlockCorruptError(stored.block_id, f"it claims {stored.raw_bytes} raw bytes")
    digest, length = blake3(), 0
    with _named_errors(stored):
        for part in _parts(stored, bases):
            digest.update(part)
            length += len(part)
            yield part
    if length != stored.raw_bytes or digest.hexdigest() != stored.block_id:
        raise BlockCorruptError(stored.block_id, f"its {length} bytes hash to {digest.hexdigest()[:12]}")


def check_decodes(stored: StoredBlock, bases: Sequence[Buffer]) -> None:
    """Decode a block in little memory, only to see that it gives what its id stands for.

    Raises:
        BlockCorruptError: If it does not.
    """
    for _ in decode_checked_parts(stored, bases):
        pass


def _parts(stored: StoredBlock, bases: Sequence[Buffer] | Mapping[BlockId, StoredBlock]) -> Iterator[Buffer]:
    codecs = import_module("pbstore.codecs")
    held = _opened(stored, bases) if isinstance(bases, Mapping) else bases
    parts: Iterator[Buffer] = codecs.decode_in_parts(stored.codec, stored.payload, stored.raw_bytes, held)
    return parts


def _opened(stored: StoredBlock, known: Mapping[BlockId, StoredBlock], lazy: bool = True) -> list[Any]:
    """Bases of a block, decoded, or to be decoded where they are asked for."""
    codecs = import_module("pbstore.codecs")
    lazy = lazy and stored.codec in codecs.LAZY
    return [
        (codecs.lazy_base if lazy else codecs.decode)(
            base.codec, base.payload, base.raw_bytes, _opened(base, known, lazy)
        )
        for base in map(known.__getitem__, stored.bases)
    ]


def _decode(stored: StoredBlock, bases: Sequence[Buffer], workers: int, out: memoryview | None) -> Buffer:
    codecs = import_module("pbstore.codecs")  # numpy and zstd only when they are needed
    with _named_errors(stored):
        raw: Buffer = codecs.decode(
            stored.codec, stored.payload, stored.raw_bytes, list(bases), workers=workers, out=out
        )
    return raw


@contextmanager
def _named_errors(stored: StoredBlock) -> Iterator[None]:
    """Whatever goes wrong in decoding is a damaged block."""
    try:
        yield
    except BlockCorruptError:
        raise
    except PBStoreError as error:
        raise BlockCorruptError(stored.block_id, str(error)) from error
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise BlockCorruptError(
            stored.block_id, f"{stored.codec} payload does not decode: {error}"
        ) from error
