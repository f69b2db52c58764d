"""Taking in what came from elsewhere: decoded, and its hash compared, before anybody counts on it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pbstore.blocks import StoredBlock
from pbstore.coding import decode_block
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.models import Models
from pbstore.errors import BlockMissingError
from pbstore.hashing import BlockId, Buffer
from pbstore.store import raw_block, with_all_needs

RawOf = Callable[[BlockId], Buffer]
"""Raw bytes of a block that is here; BlockMissingError if it is not."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A block that decodes to its id, in its coded form and raw."""

    stored: StoredBlock
    raw: Buffer


def checked(stored: StoredBlock, raw_of: RawOf) -> Checked:
    """Decode a block that came from elsewhere.

    Raises:
        BlockMissingError: If one of its bases is not here.
        BlockCorruptError: If it does not decode to its id.
    """
    bases = [_base(stored, base, raw_of) for base in stored.bases]
    return Checked(stored, decode_block(stored, bases))


def _base(stored: StoredBlock, base: BlockId, raw_of: RawOf) -> Buffer:
    try:
        return raw_of(base)
    except BlockMissingError:
        raise BlockMissingError(base, f"block {stored.block_id[:12]}") from None


def all_checked(blocks: Iterable[StoredBlock], raw_of: RawOf) -> Iterator[Checked]:
    """`checked`, for blocks that may need those before them."""
    known: dict[BlockId, Buffer] = {}

    def raw_here(block_id: BlockId) -> Buffer:
        return known[block_id] if block_id in known else raw_of(block_id)

    for stored in blocks:
        block = checked(stored, raw_here)
        known[stored.block_id] = block.raw
        yield block


def keep(models: Models, tx: Transaction, blocks: Iterable[Checked]) -> None:
    """Store blocks that were checked; nothing happens to those that are there.

    Raises:
        CapacityError: If they do not fit.
    """
    for block in blocks:
        stored = block.stored
        tx.spared.update((stored.block_id, *stored.needs))
        if not models.has(stored.block_id):
            tx.keep(_fitting(models, block))
            tx.spared.update(models.info(stored.block_id).needs)


def _fitting(models: Models, block: Checked) -> StoredBlock:
    """A block in its form if this store may have it so: here a base may be stored in another form."""
    try:
        return with_all_needs(models, block.stored)
    except (BlockMissingError, ValueError):
        return raw_block(block.raw, block.stored.block_id)


def in_order_of_needs(
    block_ids: Iterable[BlockId], needs: Mapping[BlockId, tuple[BlockId, ...]]
) -> list[BlockId]:
    """Blocks, each behind those of what it needs that are among the keys of `needs`."""
    ordered: dict[BlockId, None] = {}
    for block_id in block_ids:
        for need in reversed(needs.get(block_id, ())):
            wanted = [*reversed(needs.get(need, ())), need]
            ordered.update(dict.fromkeys(one for one in wanted if one in needs))
        ordered[block_id] = None
    return list(ordered)
