"""Which models go when room is wanted: pinned ones never, then by priority, then the longest unused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.disk.catalog import ModelRow
from pbstore.errors import IntegrityError

if TYPE_CHECKING:
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
    """What an eviction removes, or has removed."""

    dry_run: bool
    models: tuple[str, ...]
    freed_bytes: int
    """Payload bytes that are free afterwards; with `dry_run` a lower bound."""


def evict(
    store: "DiskBlockStore", wanted_bytes: int, order: str | Order = "lru", dry_run: bool = False
) -> EvictReport:
    """Remove models until so many payload bytes are free again, or none is left that may go.

    Args:
        store: The store.
        wanted_bytes: Payload bytes to free.
        order: A name of `ORDERS`, or a function of a model's row.
        dry_run: Only say which models would go.

    Raises:
        ValueError: If the order's name is unknown.
    """
    key = ORDERS.get(order) if isinstance(order, str) else order
    if key is None:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    gone, freed = [], 0
    for row in sorted((row for row in store.settled_rows() if not row.pinned), key=key):
        if freed >= wanted_bytes:
            break
        gone.append(row.name)
        before = store.used_bytes
        if dry_run:
            freed += own_bytes(store, row.name)
        else:
            store.remove(row.name)
            store.gc()
            freed += before - store.used_bytes
    return EvictReport(dry_run=dry_run, models=tuple(gone), freed_bytes=freed)


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
