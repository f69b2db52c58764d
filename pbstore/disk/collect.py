"""Freeing room: a plan first, then its application."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbstore.disk import fsio, index, pack, recount, recover, retire
from pbstore.disk.index import Location
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId

if TYPE_CHECKING:
    import sqlite3

    from pbstore.disk.blockstore import DiskBlocks
    from pbstore.disk.store import DiskBlockStore

log = logging.getLogger(__name__)
DEAD_SHARE = 0.1
"""Packs with a larger share of dead bytes are written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What a gc frees, or has freed."""

    dry_run: bool
    orphan_blocks: int
    """Blocks that no model needs."""
    orphan_bytes: int
    """Their payload bytes."""
    kept_bases: int
    """Blocks that no model names but that blocks of models need, and that save more than they cost."""
    retired_bases: int
    """Such blocks that were let go, after what needed them was stored anew."""
    packs: int
    """Packs that are written anew or deleted."""
    freed_bytes: int
    """Bytes of pack files that are given back."""


@dataclass(frozen=True, slots=True)
class _Pack:
    number: int
    end: int
    kept_bytes: int
    """Live bytes after the orphans are gone, with headers and padding."""


def gc(store: "DiskBlockStore", dry_run: bool = False) -> GcReport:
    """Delete blocks that no model needs, and write packs with many dead bytes anew.

    Raises:
        UnsafeDeletionError: If manifests, index and packs do not tell what is needed; nothing was deleted.
    """
    with store.writing() as connection:
        named = recount.recount(store)
        witness = recount.witness(store, named)
        spared = store.spared | set(index.find_many(connection, list(store.spared)))
        freed = 0 if dry_run else _retire_all(store, connection, spared)
        witness = recount.witness(store, named) if freed else witness
        orphans = [item for item in orphan_locations(connection) if item.record.block_id not in spared]
        orphans = [item for item in orphans if bytes.fromhex(item.record.block_id) not in witness.needed]
        packs = _wasteful(connection, _packs(connection, orphans), orphans)
        report = GcReport(
            dry_run=dry_run,
            kept_bases=len(retire.unnamed_bases(connection)),
            retired_bases=freed,
            orphan_blocks=len(orphans),
            orphan_bytes=sum(item.record.stored_bytes for item in orphans),
            packs=len(packs),
            freed_bytes=sum(item.end - item.kept_bytes for item in packs),
        )
        if dry_run:
            return report
        for location in orphans:
            store.drop(location)
        if packs:
            compact(store, connection, [item.number for item in packs])
        recover.remove_strays(store.layout, connection, _is_dispensable(store, named))
    return report


def _retire_all(store: "DiskBlockStore", connection: "sqlite3.Connection", spared: set[BlockId]) -> int:
    """Let go of as many unnamed bases as pays; differences before what they are based on."""
    tried, freed = set(spared), 0
    while bases := [one for one in retire.unnamed_bases(connection) if one.record.block_id not in tried]:
        for base in sorted(bases, key=lambda one: not one.record.needs):
            tried.add(base.record.block_id)
            freed += retire.retire(store, store.locate(base.record.block_id))
    return freed


def orphan_locations(connection: "sqlite3.Connection") -> Iterator[Location]:
    """Blocks that no model names and that no block of a model needs."""
    return index.locations(
        connection,
        "WHERE refs = 0 AND id NOT IN"
        " (SELECT base FROM needs JOIN blocks AS user ON user.id = needs.block WHERE user.refs > 0)",
    )


def orphan_bytes(connection: "sqlite3.Connection") -> int:
    """Payload bytes of the blocks that no model needs."""
    return sum(item.record.stored_bytes for item in orphan_locations(connection))


def keep_within(store: "DiskBlocks", connection: "sqlite3.Connection", limit_bytes: int) -> None:
    """Inside `writing`: write packs with dead bytes anew if all packs together are longer than a limit."""
    packs = list(_packs(connection, []))
    if sum(item.end for item in packs) <= limit_bytes:
        return
    wasteful = _wasteful(connection, packs, [])
    if wasteful:
        compact(store, connection, [item.number for item in wasteful])


def compact(store: "DiskBlocks", connection: "sqlite3.Connection", numbers: list[int]) -> None:
    """Copy the live blocks of some packs to new ones, commit, then delete the old files."""
    held = recount.witness(store, recount.recount(store)).held
    store.start_new_pack()
    emptied = []
    for number in numbers:
        try:
            for block_id in _live_in(connection, number):
                store.move(store.locate(block_id))
            recount.check_pack(store, number, held)
        except (IntegrityError, FileNotFoundError) as error:  # a damaged block keeps its pack
            log.warning("pack %d stays: %s", number, error)
            continue
        connection.execute("DELETE FROM packs WHERE number = ?", (number,))
        emptied.append(number)
    store.commit_so_far()
    for number in emptied:
        store.forget_pack(number)
        fsio.unlink(pack.pack_path(store.layout.packs, number))


def _is_dispensable(store: "DiskBlocks", named: recount.Named) -> Callable[[int], bool]:
    """Whether a pack that the index does not know may be deleted."""

    def is_dispensable(number: int) -> bool:
        try:
            recount.check_pack(store, number, recount.witness(store, named).held)
        except IntegrityError as error:
            log.warning("pack %d stays: %s", number, error)
            return False
        return True

    return is_dispensable


def _live_in(connection: "sqlite3.Connection", number: int) -> list[BlockId]:
    rows = connection.execute("SELECT id FROM blocks WHERE pack = ? ORDER BY offset", (number,)).fetchall()
    return [BlockId(key.hex()) for (key,) in rows]


def _packs(connection: "sqlite3.Connection", orphans: list[Location]) -> Iterator[_Pack]:
    dead: dict[int, int] = {}
    for item in orphans:
        size = item.record.stored_bytes + item.record.overhead_bytes
        dead[item.pack] = dead.get(item.pack, 0) + size
    rows = connection.execute("SELECT number, end, live_bytes + live_overhead FROM packs").fetchall()
    for number, end, live in rows:
        yield _Pack(number, end, pack.PACK_HEADER_BYTES + live - dead.get(number, 0))


def _wasteful(
    connection: "sqlite3.Connection", packs: Iterable[_Pack], orphans: list[Location]
) -> list[_Pack]:
    """Packs that are worth to be written anew."""
    found = []
    for item in filter(_is_wasteful, packs):
        between = _bytes_between_records(connection, item.number)  # takes longer than all before
        between -= sum(-one.record.end % pack.ALIGN for one in orphans if one.pack == item.number)
        exact = replace(item, kept_bytes=min(item.kept_bytes + between, item.end))
        if _is_wasteful(exact):
            found.append(exact)
    return found


def _is_wasteful(item: _Pack) -> bool:
    slack = item.end - item.kept_bytes
    return item.kept_bytes <= pack.PACK_HEADER_BYTES or slack > DEAD_SHARE * item.end


def _bytes_between_records(connection: "sqlite3.Connection", number: int) -> int:
    """Bytes from the ends of a pack's payloads to where the next records may begin."""
    query = "SELECT COALESCE(SUM(-(payload_offset + stored_bytes) & ?), 0) FROM blocks WHERE pack = ?"
    (total,) = connection.execute(query, (pack.ALIGN - 1, number)).fetchone()
    return int(total)
