"""Taking back what a refused add has written: rows, records, and their room on the disk."""

import os
from collections.abc import Sequence

from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import fsio, pack
from pbstore.disk.index import locations, packs
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId


def drop_unused(models: Models, tx: Transaction, ids: Sequence[BlockId]) -> None:
    """Delete blocks of a refused add, also those that were committed before it was refused.

    Packs are cut off behind what is left. Where the index is not right all stays for a gc: what made the add
    fail is what the caller should hear of.
    """
    outermost = tx.is_outermost
    if outermost:
        tx.undo_so_far()
    committed = models.which(ids)
    if not committed:
        return
    try:
        tx.check_index()
    except IntegrityError:
        return
    firsts = _drop(models, tx, [block_id for block_id in reversed(ids) if block_id in committed])
    if not outermost:  # then the records are its owner's to commit or to roll back
        return
    ends = {number: packs.cut(tx.connection, number, first) for number, first in firsts.items()}
    tx.commit_so_far()
    for number, end in ends.items():
        _cut(models, number, end)


def _drop(models: Models, tx: Transaction, ids: Sequence[BlockId]) -> dict[int, int]:
    """Delete those of some blocks that nothing needs; the first byte of their records in each pack."""
    firsts: dict[int, int] = {}
    for block_id in ids:
        found = locations.find(tx.connection, block_id)
        if found is not None and not found.refs and not locations.dependents(tx.connection, block_id):
            tx.drop(found)
            firsts[found.pack] = min(found.record.offset, firsts.get(found.pack, found.record.offset))
    return firsts


def _cut(models: Models, number: int, end: int) -> None:
    """Give the room behind a pack's end back; the index has forgotten it before."""
    path = pack.pack_path(models.layout.packs, number)
    models.forget_pack(number)
    if end:
        os.truncate(path, end)
    else:
        fsio.unlink(path)
