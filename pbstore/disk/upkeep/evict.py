"""Which models go when room is wanted: the trash first, pinned ones never, then by priority and use.

None goes that gives nothing back: see `givers`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pbstore.disk.blocks import compact
from pbstore.disk.blocks.space import DiskUse
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations, model_rows, revisions, uses
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.index.row_names import RowName
from pbstore.disk.models import Models
from pbstore.disk.upkeep import collect, givers, trash
from pbstore.errors import EvictGoalError, IntegrityError

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
    """Models, and earlier revisions as `NAME@COMMIT`: these go before any model as it is."""
    trashed_models: tuple[str, ...] = ()
    """Models that were in the trash."""
    freed_bytes: int
    """Payload bytes that are free afterwards: these count against a capacity."""
    before: DiskUse
    after: DiskUse


def evict(
    models: Models,
    wanted_bytes: int,
    order: str | Order = "lru",
    check: Callable[[], None] = lambda: None,
) -> EvictReport:
    """Remove models until so many payload bytes are free again; all or nothing.

    Args:
        models: The store.
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
    before = models.disk_use()
    with models.writing() as tx:
        check()
        tx.check_index()
        uses.count_uses(models.layout, tx.connection)
        start = models.used_bytes
        with tx.whole_or_not():  # for whoever made room in a transaction of his own, and goes on without
            gone = _let_go(models, tx, key, start, wanted_bytes)
            freed = start - models.used_bytes
            if freed < wanted_bytes:
                raise EvictGoalError(wanted_bytes, freed)
        compact.compact_wasteful(models, tx)
        if not models.has_room(0):
            compact.punch_all(models, tx)
    after = models.disk_use()
    return EvictReport(
        dry_run=False,
        models=tuple(row.address for row in gone if row.removed_ms is None),
        trashed_models=tuple(row.address for row in gone if row.removed_ms is not None),
        freed_bytes=freed,
        before=before,
        after=after,
    )


def take_from_trash(models: Models, tx: Transaction, wanted_bytes: int) -> None:
    """Let go of models in the trash, the oldest first, until so much room is free.

    Nothing else goes: blocks that no model names yet may be those of one that is on its way.
    """
    start = models.used_bytes
    for row in revisions.trashed_models(tx.connection):
        if start - models.used_bytes >= wanted_bytes:
            return
        tx.check_index()
        ids = trash.held_by(models, row)
        trash.drop(models, tx, [row])
        collect.drop_orphans(models, tx, among=ids)


def _let_go(models: Models, tx: Transaction, key: Order, start: int, wanted_bytes: int) -> list[ModelRow]:
    """Let go of the trash, then of earlier revisions, then of models in their order, until it is enough.

    Where there are none, blocks may be left that were looked at by an add when their model went.
    """
    gone = _drop_until(models, tx, revisions.trashed_models(tx.connection), start, wanted_bytes)
    rows = [row for row in model_rows.live_models(tx.connection) if not row.pinned]
    free = {row.name for row in rows}
    earlier = [row for row in revisions.earlier(tx.connection) if row.key.model in free]
    ordered = [*revisions.trashed_models(tx.connection), *earlier, *sorted(rows, key=key)]
    if not ordered and start - models.used_bytes < wanted_bytes:
        collect.drop_orphans(models, tx)
    return gone + _drop_until(models, tx, ordered, start, wanted_bytes)


def _drop_until(
    models: Models,
    tx: Transaction,
    rows: list[ModelRow],
    start: int,
    wanted_bytes: int,
) -> list[ModelRow]:
    """Let go of models until so many payload bytes fewer than at the start are used; returns them."""
    gone: list[ModelRow] = []

    def missing_bytes() -> int:
        return wanted_bytes - (start - models.used_bytes)

    def retire_bases() -> None:  # takes long
        collect.retire_all(models, tx)
        collect.drop_orphans(models, tx)

    if missing_bytes() <= 0:
        return gone
    for row in givers.in_giving_order(models, rows):
        if model_rows.find_model(tx.connection, row.name) is None:  # it went with its model
            continue
        line = revisions.of_model(tx.connection, row.name) if row.key == RowName(row.name) else [row]
        trash.drop(models, tx, line)
        gone += line
        collect.drop_orphans(models, tx)
        bases = sum(base.record.stored_bytes for base in locations.unnamed_bases(tx.connection))
        if 0 < missing_bytes() <= bases:
            retire_bases()
        if missing_bytes() <= 0:
            return gone
    if rows:
        retire_bases()
    return gone


def own_bytes(models: Models, name: str) -> int:
    """Payload bytes of the blocks that only this model holds and that no other block needs."""
    total = 0
    try:
        ids = models.manifest(name).block_ids()
    except IntegrityError:  # its manifest is lost or damaged: nobody knows
        return 0
    for block_id in ids:
        location = models.locate(block_id)
        if location.refs == 1 and not models.dependents(block_id):
            total += location.record.stored_bytes
    return total
