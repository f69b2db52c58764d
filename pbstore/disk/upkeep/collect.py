"""Freeing room: a plan first, then its application."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from pbstore.disk.blocks import compact, recount, recover
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import audit, locations, model_rows
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.disk.upkeep import retire, trash
from pbstore.hashing import BlockId


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


def gc(
    models: Models,
    check: Callable[[], None] = lambda: None,
    names: Iterable[str] | None = (),
    now: float | None = None,
) -> GcReport:
    """Delete blocks that no model needs, and write packs with many dead bytes anew.

    Models whose time in the trash is over go first. What is needed is read from all manifests and records, in
    time linear in them. With `names` that is not done again if this process has done it since anybody else
    wrote: its own changes are counted.

    Args:
        models: The store.
        check: Called under the writer's lock before anything is changed.
        names: Of these, the models in the trash go whatever their time; None for all.
        now: The time, if it is not the clock's: of a plan that is carried out.

    Raises:
        UnsafeDeletionError: If manifests, index and packs do not tell what is needed; nothing was deleted.
    """
    before = models.disk_use()
    with models.writing() as tx:
        tx.cut_tails()
        check()
        doomed = {row.name: row for row in (*trash.named(models, names), *trash.expired(models, now))}
        crowded = not models.has_room(0)
        early = _free_step_by_step(models, tx, list(doomed.values())) if crowded else []
        gone = tuple(row.address for row in doomed.values())
        trash.drop(
            models, tx, [row for row in doomed.values() if model_rows.find_model(tx.connection, row.name)]
        )
        whole = names == () or now is not None or crowded or model_rows.has_uncounted(tx.connection)
        seen = tx.check_index(anew=whole)
        retired = retire_all(models, tx)
        if seen is not None and retired:
            seen = seen[0], recount.witness(models, seen[0])
        dropped = drop_orphans(models, tx, () if seen is None else seen[1].needed)
        orphans = [*early, *dropped]
        kept = len(locations.unnamed_bases(tx.connection))
        packs = compact.compact_wasteful(models, tx, _held(seen, dropped))
        if not models.has_room(0):  # each dead byte counts
            compact.punch_all(models, tx)
        if seen is not None:
            recover.remove_strays(models.layout, tx.connection, compact.is_dispensable(models, seen[0]))
        if orphans or packs:
            size = sum(item.record.stored_bytes for item in orphans)
            told = f"{len(orphans)} blocks, {size} bytes, {packs} packs"
            audit.note(tx.connection, "collected", detail=told)
    models.tidy_index()
    after = models.disk_use()
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


def _held(
    seen: tuple[recount.Named, recount.Witness] | None, dropped: list[Location]
) -> frozenset[bytes] | None:
    """Keys of blocks that must stay after some were dropped; None if nothing was read."""
    gone = (bytes.fromhex(one.record.block_id) for one in dropped)
    return None if seen is None else seen[1].held.difference(gone)


def drop_orphans(
    models: Models,
    tx: Transaction,
    needed: Collection[bytes] = (),
    *,
    among: Collection[BlockId] | None = None,
) -> list[Location]:
    """Delete the blocks that no model needs but those that an open add counts on.

    The index was compared with manifests and packs before: what they need, by its key, stays in any case.
    With `among` only some blocks are looked at.
    """
    spared = _spared(tx)
    orphans = [item for item in locations.orphans(tx.connection) if item.record.block_id not in spared]
    orphans = [item for item in orphans if bytes.fromhex(item.record.block_id) not in needed]
    orphans = [item for item in orphans if among is None or item.record.block_id in among]
    for location in orphans:
        tx.drop(location)
    return orphans


def _free_step_by_step(models: Models, tx: Transaction, doomed: list[ModelRow]) -> list[Location]:
    """Let go of models and of what nobody needs, each committed before the next.

    That takes little room in the index's log. What nobody needs is told by manifests and packs: the index's
    counts wait for a recount. Returns the blocks that went.
    """
    recount.witness(models, recount.readable_count(models))
    trash.drop(models, tx, doomed, counted=False)
    tx.commit_so_far()
    named, spared = recount.readable_count(models), _spared(tx)
    needed = recount.witness(models, named).needed
    everything = list(locations.all_locations(tx.connection))
    orphans = [one for one in everything if bytes.fromhex(one.record.block_id) not in needed]
    orphans = [one for one in orphans if one.record.block_id not in spared]
    for location in orphans:
        tx.drop(location)
        tx.commit_so_far()
    compact.punch(models, tx, compact.with_dead_bytes(tx), recount.witness(models, named).held)
    tx.commit_so_far()  # looks again how much room there is
    return orphans


def _spared(tx: Transaction) -> set[BlockId]:
    spared = tx.spared | tx.looked_at
    return spared | set(locations.find_many(tx.connection, list(spared)))


def retire_all(models: Models, tx: Transaction) -> int:
    """Let go of as many unnamed bases as pays; differences before what they are based on."""
    tried, freed = _spared(tx), 0
    while bases := [
        one for one in locations.unnamed_bases(tx.connection) if one.record.block_id not in tried
    ]:
        for base in sorted(bases, key=lambda one: not one.record.needs):
            tried.add(base.record.block_id)
            if models.has_room(locations.raw_bytes_of_users(tx.connection, base.record.block_id)):
                freed += retire.retire(models, tx, models.locate(base.record.block_id))
    return freed
