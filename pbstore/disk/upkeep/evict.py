"""Which models go when room is wanted: the trash first, pinned ones never, then by priority and use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index import uses
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.upkeep import collect, retire, trash
from pbstore.errors import EvictGoalError, IntegrityError

if TYPE_CHECKING:
    import sqlite3

    from pbstore.disk.store import DiskBlockStore

Order = Callable[[ModelRow], tuple[float, ...]]
"""Models with the smallest value go first."""

ORDERS: dict[str, Order] = {
    "lru": lambda row: (row.priority, row.used_at, row.added_at),
    "lfu": lambda row: (row.priority, row.uses, row.used_at, row.added_at),
    "largest": lambda row: (row.priority, -row.raw_bytes),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictReport:
    """What an eviction removes, or has removed; it is not in the trash afterwards."""

    dry_run: bool
    models: tuple[str, ...]
    trashed_models: tuple[str, ...] = ()
    """Models that were in the trash."""
    freed_bytes: int
    """Payload bytes that are free afterwards: these count against a capacity."""
    before: DiskUse
    after: DiskUse


def evict(
    store: "DiskBlockStore",
    wanted_bytes: int,
    order: str | Order = "lru",
    check: Callable[[], None] = lambda: None,
) -> EvictReport:
    """Remove models until so many payload bytes are free again; all or nothing.

    Args:
        store: The store.
        wanted_bytes: Payload bytes to free.
        order: A name of `ORDERS`, or a function of a model's row.
        check: Called under the writer's lock before anything is changed.

    Raises:
        ValueError: If the order's name is unknown, or less than nothing is wanted.
        EvictGoalError: If so much cannot be freed; the store is as it was.
    """
    key = ORDERS.get(order) if isinstance(order, str) else order
    if key is None:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if wanted_bytes < 0:
        raise ValueError(f"wanted_bytes must be >= 0, got {wanted_bytes}")
    before = store.disk_use()
    with store.writing() as connection:
        check()
        store.check_index()
        uses.count_uses(store.layout, connection)
        start = store.used_bytes
        trashed = _drop_until(store, connection, catalog.trashed_models(connection), start, wanted_bytes)
        rows = [row for row in catalog.live_models(connection) if not row.pinned]
        models = _drop_until(store, connection, sorted(rows, key=key), start, wanted_bytes)
        freed = start - store.used_bytes
        if freed < wanted_bytes:
            raise EvictGoalError(wanted_bytes, freed)
        collect.compact_wasteful(store, connection)
        if not store.has_room(0):
            collect.punch_all(store, connection)
    after = store.disk_use()
    return EvictReport(
        dry_run=False,
        models=models,
        trashed_models=trashed,
        freed_bytes=freed,
        before=before,
        after=after,
    )


def take_from_trash(store: "DiskBlockStore", wanted_bytes: int) -> None:
    """Inside `writing`: let go of models in the trash, the oldest first, until so much room is free.

    Nothing else goes: blocks that no model names yet may be those of one that is on its way.
    """
    connection, start = store.connection, store.used_bytes
    for row in catalog.trashed_models(connection):
        if start - store.used_bytes >= wanted_bytes:
            return
        store.check_index()
        ids = trash.held_by(store, row)
        trash.drop(store, [row])
        collect.drop_orphans(store, connection, among=ids)


def _drop_until(
    store: "DiskBlockStore",
    connection: "sqlite3.Connection",
    rows: list[ModelRow],
    start: int,
    wanted_bytes: int,
) -> tuple[str, ...]:
    """Let go of models until so many payload bytes fewer than at the start are used; returns their names."""
    gone: list[str] = []
    for row in rows:
        if start - store.used_bytes >= wanted_bytes:
            break
        gone += trash.drop(store, [row])
        collect.drop_orphans(store, connection)
        missing = wanted_bytes - (start - store.used_bytes)
        bases = sum(base.record.stored_bytes for base in retire.unnamed_bases(connection))
        if 0 < missing <= bases or row is rows[-1]:  # letting go of these takes long, and may be enough
            collect.retire_all(store, connection)
            collect.drop_orphans(store, connection)
    return tuple(gone)


def own_bytes(store: "DiskBlockStore", name: str) -> int:
    """Payload bytes of the blocks that only this model holds and that no other block needs."""
    total = 0
    try:
        ids = store.manifest(name).block_ids()
    except IntegrityError:  # its manifest is lost or damaged: nobody knows
        return 0
    for block_id in ids:
        location = store.locate(block_id)
        if location.refs == 1 and not store.dependents(block_id):
            total += location.record.stored_bytes
    return total
