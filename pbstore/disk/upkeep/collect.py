"""Freeing room: a plan first, then its application."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbstore.disk.blocks import recount, recover
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.files import fsio, pack, room
from pbstore.disk.index import locations as index
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.upkeep import retire, trash
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId

if TYPE_CHECKING:
    import sqlite3

    from pbstore.disk.blocks.disk_blocks import DiskBlocks
    from pbstore.disk.store import DiskBlockStore

log = logging.getLogger(__name__)
DEAD_SHARE = 0.1
"""Packs with a larger share of dead bytes are written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What a gc frees, or has freed."""

    dry_run: bool
    trashed_models: tuple[str, ...] = ()
    """Models whose time in the trash is over."""
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
    """Bytes on the disk that are given back, over the whole store."""
    before: DiskUse
    after: DiskUse


@dataclass(frozen=True, slots=True)
class _Pack:
    number: int
    end: int
    kept_bytes: int
    """Live bytes, with headers and padding."""


def gc(
    store: "DiskBlockStore",
    check: Callable[[], None] = lambda: None,
    names: Iterable[str] | None = (),
    now: float | None = None,
) -> GcReport:
    """Delete blocks that no model needs, and write packs with many dead bytes anew.

    Models whose time in the trash is over go first.

    Args:
        store: The store.
        check: Called under the writer's lock before anything is changed.
        names: Of these, the models in the trash go whatever their time; None for all.
        now: The time, if it is not the clock's: of a plan that is carried out.

    Raises:
        UnsafeDeletionError: If manifests, index and packs do not tell what is needed; nothing was deleted.
    """
    before = store.disk_use()
    with store.writing() as connection:
        store.cut_tails()
        check()
        doomed = {row.name: row for row in (*trash.named(store, names), *trash.expired(store, now))}
        early = [] if store.has_room(0) else _free_step_by_step(store, connection, list(doomed.values()))
        gone = tuple(map(catalog.own_name, doomed))
        trash.drop(store, [row for row in doomed.values() if catalog.find_model(connection, row.name)])
        named = recount.recount(store)
        witness = recount.witness(store, named)
        retired = retire_all(store, connection)
        witness = recount.witness(store, named) if retired else witness
        orphans = [*early, *drop_orphans(store, connection, witness.needed)]
        kept = len(retire.unnamed_bases(connection))
        packs = compact_wasteful(store, connection)
        if not store.has_room(0):  # each dead byte counts
            punch_all(store, connection)
        recover.remove_strays(store.layout, connection, _is_dispensable(store, named))
    store.tidy_index()
    after = store.disk_use()
    return GcReport(
        dry_run=False,
        trashed_models=gone,
        kept_bases=kept,
        retired_bases=retired,
        orphan_blocks=len(orphans),
        orphan_bytes=sum(item.record.stored_bytes for item in orphans),
        packs=packs,
        freed_bytes=before.total_bytes - after.total_bytes,
        before=before,
        after=after,
    )


def drop_orphans(
    store: "DiskBlockStore",
    connection: "sqlite3.Connection",
    needed: Collection[bytes] = (),
    *,
    among: Collection[BlockId] | None = None,
) -> list[Location]:
    """Inside `writing`: delete the blocks that no model needs but those that an open add counts on.

    The index was compared with manifests and packs before: what they need, by its key, stays in any case.
    With `among` only some blocks are looked at.
    """
    spared = _spared(store, connection)
    orphans = [item for item in orphan_locations(connection) if item.record.block_id not in spared]
    orphans = [item for item in orphans if bytes.fromhex(item.record.block_id) not in needed]
    orphans = [item for item in orphans if among is None or item.record.block_id in among]
    for location in orphans:
        store.drop(location)
    return orphans


def _free_step_by_step(
    store: "DiskBlockStore", connection: "sqlite3.Connection", doomed: list[ModelRow]
) -> list[Location]:
    """Inside `writing`: let go of models and of what nobody needs, each committed before the next.

    That takes little room in the index's log. What nobody needs is told by manifests and packs: the index's
    counts wait for a recount. Returns the blocks that went.
    """
    recount.witness(store, recount.readable_count(store))
    trash.drop(store, doomed, counted=False)
    store.commit_so_far()
    named, spared = recount.readable_count(store), _spared(store, connection)
    needed = recount.witness(store, named).needed
    everything = list(index.all_locations(connection))
    orphans = [one for one in everything if bytes.fromhex(one.record.block_id) not in needed]
    orphans = [one for one in orphans if one.record.block_id not in spared]
    for location in orphans:
        store.drop(location)
        store.commit_so_far()
    numbers = [item.number for item in _packs(connection) if item.end > item.kept_bytes]
    punch(store, connection, numbers, recount.witness(store, named).held)
    store.commit_so_far()  # looks again how much room there is
    return orphans


def compact_wasteful(store: "DiskBlocks", connection: "sqlite3.Connection") -> int:
    """Inside `writing`: write packs with many dead bytes anew; returns how many."""
    wasteful = _wasteful(connection, _packs(connection))
    if wasteful:
        compact(store, connection, [item.number for item in wasteful])
    return len(wasteful)


def _spared(store: "DiskBlocks", connection: "sqlite3.Connection") -> set[BlockId]:
    return store.spared | set(index.find_many(connection, list(store.spared)))


def retire_all(store: "DiskBlockStore", connection: "sqlite3.Connection") -> int:
    """Let go of as many unnamed bases as pays; differences before what they are based on."""
    tried, freed = _spared(store, connection), 0
    while bases := [one for one in retire.unnamed_bases(connection) if one.record.block_id not in tried]:
        for base in sorted(bases, key=lambda one: not one.record.needs):
            tried.add(base.record.block_id)
            if store.has_room(_bytes_of_users(connection, base)):
                freed += retire.retire(store, store.locate(base.record.block_id))
    return freed


def _bytes_of_users(connection: "sqlite3.Connection", base: Location) -> int:
    """Raw bytes of the blocks that need one: more than they take when they are stored anew."""
    query = "SELECT COALESCE(SUM(raw_bytes), 0) FROM needs JOIN blocks ON id = block WHERE base = ?"
    return int(connection.execute(query, (bytes.fromhex(base.record.block_id),)).fetchone()[0])


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
    if sum(item.end for item in _packs(connection)) > limit_bytes:
        compact_wasteful(store, connection)


def compact(store: "DiskBlocks", connection: "sqlite3.Connection", numbers: list[int]) -> None:
    """Copy the live blocks of some packs to new ones, commit, then delete the old files, one after another.

    Where the disk has no room for a copy, what is dead is punched out of the pack.
    """
    held = recount.witness(store, recount.recount(store)).held
    store.start_new_pack()
    crowded = []
    for number in sorted(numbers, key=lambda number: _live_bytes(connection, number)):
        if not store.has_room(_live_bytes(connection, number)):
            crowded.append(number)
        elif _empty(store, connection, number, held):
            _delete_pack(store, connection, number)
    if crowded:
        store.commit_so_far()
        punch(store, connection, crowded, held)


def _live_bytes(connection: "sqlite3.Connection", number: int) -> int:
    """About what the live records of a pack take; 0 if there is none."""
    query = "SELECT COALESCE(SUM(stored_bytes + payload_offset - offset), 0) FROM blocks WHERE pack = ?"
    return int(connection.execute(query, (number,)).fetchone()[0])


def _empty(
    store: "DiskBlocks", connection: "sqlite3.Connection", number: int, held: Collection[bytes]
) -> bool:
    """Copy the live blocks of a pack to a new one; False if the pack must stay."""
    try:
        for block_id in _live_in(connection, number):
            store.move(store.locate(block_id))
        recount.check_pack(store, number, held)
    except (IntegrityError, FileNotFoundError) as error:  # a damaged block keeps its pack
        log.warning("pack %d stays: %s", number, error)
        return False
    return True


def _delete_pack(store: "DiskBlocks", connection: "sqlite3.Connection", number: int) -> None:
    """Commit that a pack is gone, and delete it."""
    connection.execute("DELETE FROM packs WHERE number = ?", (number,))
    store.commit_so_far()
    store.forget_pack(number)
    fsio.unlink(pack.pack_path(store.layout.packs, number))


def punch(
    store: "DiskBlocks", connection: "sqlite3.Connection", numbers: Iterable[int], held: Collection[bytes]
) -> None:
    """Give back the dead parts of packs in their places; that they are dead is committed."""
    for number in numbers:
        live = [item.record for item in index.locations(connection, "WHERE pack = ?", (number,))]
        (end,) = connection.execute("SELECT end FROM packs WHERE number = ?", (number,)).fetchone()
        store.forget_pack(number)
        try:
            recount.check_pack(store, number, held, all_of_it=False)
            done = room.punch(store.layout, number, live, end)
        except (IntegrityError, FileNotFoundError) as error:
            log.warning("pack %d stays: %s", number, error)
        else:
            if not done:
                log.warning("pack %d keeps its room: it is in use, or its disk knows no holes", number)


def punch_all(store: "DiskBlocks", connection: "sqlite3.Connection") -> None:
    """Inside `writing`: give back every dead byte that can be had without a copy."""
    held = recount.witness(store, recount.recount(store)).held
    numbers = [item.number for item in _packs(connection) if item.end > item.kept_bytes]
    store.commit_so_far()
    punch(store, connection, numbers, held)


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


def _packs(connection: "sqlite3.Connection") -> Iterator[_Pack]:
    rows = connection.execute("SELECT number, end, live_bytes + live_overhead FROM packs").fetchall()
    for number, end, live in rows:
        yield _Pack(number, end, pack.PACK_HEADER_BYTES + live)


def _wasteful(connection: "sqlite3.Connection", packs: Iterable[_Pack]) -> list[_Pack]:
    """Packs that are worth to be written anew."""
    found = []
    for item in filter(_is_wasteful, packs):
        between = _bytes_between_records(connection, item.number)  # takes longer than all before
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
    (total,) = connection.execute(query, (pack.RECORD_ALIGN - 1, number)).fetchone()
    return int(total)
