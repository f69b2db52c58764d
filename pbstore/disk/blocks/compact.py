"""Giving back the room of dead bytes: packs are written anew, or what is dead in them is punched out."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from pbstore.disk.blocks import recount
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import fsio, pack
from pbstore.disk.index import locations, packs
from pbstore.disk.index.packs import PackRow
from pbstore.errors import IntegrityError

log = logging.getLogger(__name__)


DEAD_SHARE = 0.1
"""Packs with a larger share of dead bytes are written anew."""


def keep_within(blocks: BlockReader, tx: Transaction, limit_bytes: int) -> None:
    """Write packs with dead bytes anew if all packs together are longer than a limit."""
    if sum(item.end for item in packs.rows(tx.connection)) > limit_bytes:
        compact_wasteful(blocks, tx)


def compact_wasteful(blocks: BlockReader, tx: Transaction, held: Collection[bytes] | None = None) -> int:
    """Write packs with many dead bytes anew; returns how many. For `held` see `compact`."""
    wasteful = _wasteful(tx.connection, packs.rows(tx.connection))
    if wasteful:
        compact(blocks, tx, [item.number for item in wasteful], held)
    return len(wasteful)


def compact(
    blocks: BlockReader, tx: Transaction, numbers: list[int], held: Collection[bytes] | None = None
) -> None:
    """Copy the live blocks of some packs to new ones, commit, then delete the old files, one after another.

    Where the disk has no room for a copy, what is dead is punched out of the pack.

    Args:
        blocks: The store.
        tx: Its open transaction.
        numbers: The packs.
        held: Keys of blocks that must not be lost, if this transaction has read manifests and packs.
    """
    held = _held(blocks, tx) if held is None else held
    tx.start_new_pack()
    crowded = []
    for number in sorted(numbers, key=lambda number: packs.live_bytes(tx.connection, number)):
        if not blocks.has_room(packs.live_bytes(tx.connection, number)):
            crowded.append(number)
        elif _empty(blocks, tx, number, held):
            _delete_pack(blocks, tx, number)
    if crowded:
        tx.commit_so_far()
        punch(blocks, tx, crowded, held)


def _held(blocks: BlockReader, tx: Transaction) -> Collection[bytes]:
    """Keys of blocks that must not be lost."""
    return recount.witness(blocks, recount.recount(blocks, tx.connection)).held


def _empty(blocks: BlockReader, tx: Transaction, number: int, held: Collection[bytes]) -> bool:
    """Copy the live blocks of a pack to a new one; False if the pack must stay."""
    try:
        for block_id in locations.in_pack(tx.connection, number):
            tx.move(blocks.locate(block_id))
        recount.check_pack(blocks, number, held)
    except (IntegrityError, FileNotFoundError) as error:  # a damaged block keeps its pack
        log.warning("pack %d stays: %s", number, error)
        return False
    return True


def _delete_pack(blocks: BlockReader, tx: Transaction, number: int) -> None:
    """Commit that a pack is gone, and delete it."""
    packs.delete(tx.connection, number)
    tx.commit_so_far()
    blocks.forget_pack(number)
    fsio.unlink(pack.pack_path(blocks.layout.packs, number))


def punch(blocks: BlockReader, tx: Transaction, numbers: Iterable[int], held: Collection[bytes]) -> None:
    """Give back the dead parts of packs in their places; that they are dead is committed."""
    for number in numbers:
        live = locations.records_in_pack(tx.connection, number)
        end = packs.end_of(tx.connection, number)
        try:
            recount.check_pack(blocks, number, held, all_of_it=False)
            done = blocks.punch_pack(number, live, end)
        except (IntegrityError, FileNotFoundError) as error:
            log.warning("pack %d stays: %s", number, error)
        else:
            if not done:
                log.warning("pack %d keeps its room: it is in use, or its disk knows no holes", number)


def punch_all(blocks: BlockReader, tx: Transaction) -> None:
    """Give back every dead byte that can be had without a copy."""
    held = _held(blocks, tx)
    numbers = with_dead_bytes(tx)
    tx.commit_so_far()
    punch(blocks, tx, numbers, held)


def with_dead_bytes(tx: Transaction) -> list[int]:
    """Numbers of the packs that have dead bytes."""
    return [item.number for item in packs.rows(tx.connection) if item.end > item.kept_bytes]


def is_dispensable(blocks: BlockReader, named: recount.Named) -> Callable[[int], bool]:
    """Whether a pack that the index does not know may be deleted."""

    def is_dispensable(number: int) -> bool:
        try:
            recount.check_pack(blocks, number, recount.witness(blocks, named).held)
        except IntegrityError as error:
            log.warning("pack %d stays: %s", number, error)
            return False
        return True

    return is_dispensable


def _wasteful(connection: sqlite3.Connection, rows: Iterable[PackRow]) -> list[PackRow]:
    """Packs that are worth to be written anew."""
    found = []
    for item in filter(_is_wasteful, rows):
        between = packs.bytes_between_records(connection, item.number)  # takes longer than all before
        exact = replace(item, kept_bytes=min(item.kept_bytes + between, item.end))
        if _is_wasteful(exact):
            found.append(exact)
    return found


def _is_wasteful(item: PackRow) -> bool:
    slack = item.end - item.kept_bytes
    return item.kept_bytes <= pack.PACK_HEADER_BYTES or slack > DEAD_SHARE * item.end
