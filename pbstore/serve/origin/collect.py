"""Garbage collection: mark what nobody names, wait for those who were at work, sweep what still nobody names.

Why no needed object goes, whatever runs at the same time and dies wherever it is:

1. A writer creates its lease, then looks at what is marked, and uses nothing that is. A collection marks,
   then looks at the leases. So either the writer sees the mark or the collection sees the lease.
2. A batch of marked keys is swept when every lease that was seen then is over, and only of keys that no name
   names after that. Later writers see the mark.
3. What a writer creates itself has its name in the key, and is not marked before its lease is over.
4. A lease ends in one of two ways, and one create-only object says which: the writer has committed, and then
   its name is published before the lease goes, by itself or by a collection; or it was taken over, and then
   it cannot commit any more.
5. A mark is taken away only when the object is gone: no two collections can disagree about one.

Clocks (the object store's, never ours) say how long things wait, not whether they are safe.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pbstore.serve.origin.catalog import Catalog, newest_keys
from pbstore.serve.origin.lease import LeaseRecord, close_lease, newest_leases
from pbstore.serve.origin.marks import Batch, mark, note_waits, read_batches
from pbstore.serve.origin.objects import Objects
from pbstore.serve.origin.records import MANIFESTS, NAMES, PACKS, NameRecord, writer_of

DAY_S = 86_400.0
TRASH_S = 7 * DAY_S
"""A removed model can be restored for so long, s."""
GRACE_S = DAY_S
"""Marked objects stay for so long, s: readers that began before they were marked come to their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginGcReport:
    """What a collection did, or would do."""

    dry_run: bool
    models: int
    in_trash: int
    """Removed models that can still be restored."""
    marked_objects: int
    """Objects that were marked now."""
    marked_bytes: int
    deleted_objects: int
    """Packs and manifests that were deleted."""
    deleted_bytes: int
    kept_bytes: int
    """Packs and manifests that are left, marked ones too."""
    leases_taken_over: int
    waits_for: tuple[str, ...]
    """Writers at work that marked objects wait for."""


@dataclass(frozen=True, slots=True)
class _View:
    """What a collection sees, read in the order that its safety needs."""

    now_s: float
    sizes: dict[str, int]
    """Packs and manifests."""
    batches: list[Batch]
    live: frozenset[str]
    """Writers whose leases are not over."""
    closed: int
    """Leases that were taken over for it."""
    names: dict[str, NameRecord]
    named: frozenset[str]
    """Keys that must stay."""
    in_trash: int


def collect(
    catalog: Catalog,
    *,
    dry_run: bool = False,
    grace_s: float = GRACE_S,
    trash_s: float = TRASH_S,
    wait_s: float = 0.0,
) -> OriginGcReport:
    """Mark what nobody names, and delete what was marked before and may go now.

    Args:
        catalog: The origin.
        dry_run: Only say what would be done, by the same steps.
        grace_s: Marked objects stay at least so long; with 0 they go at once, if no writer is at work.
        trash_s: Removed models can be restored for so long.
        wait_s: With a `grace_s` of 0, wait at most so long for writers that are at work.

    Raises:
        RecordError: If an object that says what is needed is damaged: nothing was deleted.
    """
    objects = catalog.objects
    view = _look(catalog, trash_s, dry_run)
    marks = _unnamed(view)
    if not dry_run:
        _note_missing_waits(objects, view)
        _mark(objects, marks)
        if not grace_s and wait_s:
            _wait(catalog, wait_s)
    after = view if dry_run else _look(catalog, trash_s, dry_run)
    batches = [*after.batches, _planned(marks, view)] if dry_run and marks else after.batches
    deletes, waits_for = _due(after, batches, grace_s)
    if not dry_run:
        _sweep(catalog, after, deletes)
    return OriginGcReport(
        dry_run=dry_run,
        models=sum(not record.removed for record in after.names.values()),
        in_trash=after.in_trash,
        marked_objects=len(marks),
        marked_bytes=sum(view.sizes[key] for key in marks),
        deleted_objects=len(deletes),
        deleted_bytes=sum(after.sizes[key] for key in deletes),
        kept_bytes=sum(size for key, size in after.sizes.items() if key not in deletes),
        leases_taken_over=view.closed,
        waits_for=tuple(sorted(waits_for)),
    )


def server_now_s(objects: Objects) -> float:
    """The time by the clock of the object store, s since 1970: of an object that is created for it."""
    key = f"clock/{secrets.token_hex(8)}"
    objects.create(key, key.encode())
    try:
        return objects.modified_s(key)
    finally:
        objects.delete([key])


def _look(catalog: Catalog, trash_s: float, dry_run: bool) -> _View:
    """Objects first, leases then, names last: what is named only after this was under a lease before."""
    objects = catalog.objects
    now_s = server_now_s(objects)
    sizes = {one.key: one.size_bytes for prefix in (PACKS, MANIFESTS) for one in objects.list(prefix)}
    batches = read_batches(objects)
    leases = [lease for lease in newest_leases(objects) if lease.state != "over"]
    closed = _close_expired(objects, leases, now_s, dry_run)
    live = frozenset(lease.writer for lease in leases if lease not in closed)
    names = catalog.names()
    for new in [lease.publishes for lease in closed if lease.publishes is not None]:
        if new.name not in names or names[new.name].generation < new.generation:
            names[new.name] = new  # in a dry run it is not published yet
    removed_s = {one.key: one.modified_s for one in objects.list(NAMES)}
    kept = [
        record
        for record in names.values()
        if not record.removed or removed_s.get(record.key, now_s) + trash_s > now_s
    ]
    named = frozenset(key for record in kept for key in record.keys)
    in_trash = sum(record.removed for record in kept)
    return _View(now_s, sizes, batches, live, len(closed), names, named, in_trash)


def _close_expired(
    objects: Objects, leases: Sequence[LeaseRecord], now_s: float, dry_run: bool
) -> list[LeaseRecord]:
    """Take over the leases that have run out, but for those that were renewed in the last moment."""
    expired = [lease for lease in leases if now_s > lease.modified_s + lease.lease_s]
    return [lease for lease in expired if dry_run or close_lease(objects, lease)]


def _unnamed(view: _View) -> set[str]:
    """Keys to mark: that nobody names, nobody has marked, and no writer at work has created."""
    marked = {key for batch in view.batches for key in batch.keys}
    return {key for key in view.sizes if key not in view.named | marked and writer_of(key) not in view.live}


def _planned(marks: Iterable[str], view: _View) -> Batch:
    """The batch that a run would mark."""
    return Batch(mark="", keys=frozenset(marks), modified_s=view.now_s, waits=view.live)


def _mark(objects: Objects, keys: Iterable[str]) -> None:
    """Mark keys, then write down who is at work: in this order."""
    if keys:
        name = secrets.token_hex(8)
        mark(objects, name, keys)
        live = [lease.writer for lease in newest_leases(objects) if lease.state != "over"]
        note_waits(objects, Batch(mark=name, keys=frozenset(keys), modified_s=0.0, waits=None), live)


def _note_missing_waits(objects: Objects, view: _View) -> None:
    """For batches of a collection that died: who is at work now includes all who were then, and still are."""
    for batch in view.batches:
        if batch.waits is None:
            note_waits(objects, batch, view.live)


def _wait(catalog: Catalog, wait_s: float) -> None:
    """Until those at work have come to their end, or not for longer than asked."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        leases = [lease for lease in newest_leases(catalog.objects) if lease.state != "over"]
        _close_expired(catalog.objects, leases, server_now_s(catalog.objects), False)
        if not leases:
            return
        time.sleep(min(0.2, wait_s))


def _due(view: _View, batches: Iterable[Batch], grace_s: float) -> tuple[set[str], set[str]]:
    """Keys that may be deleted now, and the writers that others wait for."""
    deletes: set[str] = set()
    waits_for: set[str] = set()
    for batch in batches:
        waits = view.live if batch.waits is None else view.live & batch.waits
        left = batch.keys & view.sizes.keys()
        if left and waits:
            waits_for |= waits
        elif view.now_s >= batch.modified_s + grace_s:
            deletes |= left - view.named
    return deletes, waits_for


def _sweep(catalog: Catalog, view: _View, deletes: set[str]) -> None:
    """Delete keys, older generations of names, and batches of which nothing is left."""
    objects = catalog.objects
    objects.delete(sorted(deletes))
    catalog.forget(deletes)
    objects.delete([one.key for one in objects.list("clock/") if one.modified_s + DAY_S < view.now_s])
    keys = [one.key for one in objects.list(NAMES)]
    objects.delete(sorted(set(keys) - set(newest_keys(keys).values())))
    for batch in view.batches:
        if not batch.keys & (view.sizes.keys() - deletes):
            objects.delete([batch.waits_key])
            objects.delete([batch.marked_key])
