"""Giving stored blocks the raw form."""

from collections.abc import Sequence

from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, sketches
from pbstore.hashing import BlockId
from pbstore.store import raw_block


def make_raw(blocks: BlockReader, tx: Transaction, ids: Sequence[BlockId]) -> int:
    """Give blocks the raw form; returns how many changed."""
    coded = locations.coded(tx.connection, ids)
    for block_id in (one for one in ids if one in coded):
        stored_bytes = -1
        while stored_bytes != (now := blocks.info(block_id)).stored_bytes:  # making room may change it
            stored_bytes = now.stored_bytes
            tx.ensure_room(now.raw_bytes - stored_bytes)
        tx.replace_form(blocks.locate(block_id), raw_block(blocks.get(block_id), block_id))
        sketches.mark_tried(tx.connection, block_id, tried=False)
    return len(coded)
