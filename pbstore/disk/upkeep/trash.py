"""The trash: removed models that can be taken back until a gc, after some days, lets go of them.

A removed model keeps its blocks and its references; its row and its manifest's file get another name. So it
is moved and taken back by the same steps, in the same order, by which a model is filed: see FORMAT.md.
"""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbstore.disk.add import adding
from pbstore.disk.index import locations as index
from pbstore.disk.index import lora_pairs as adapters
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import ModelRow
from pbstore.errors import IntegrityError, ModelExistsError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest, check_name

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashedModel:
    """A removed model that can still be restored."""

    name: str
    removed_at: float
    """Seconds since 1970."""
    expires_at: float
    """From then on a gc may let go of it, seconds since 1970."""
    raw_bytes: int
    num_blocks: int


def listed(store: "DiskBlockStore") -> list[TrashedModel]:
    """Models in the trash, those that were removed first first."""
    return [_entry(store, row) for row in catalog.trashed_models(store.connection)]


def put(store: "DiskBlockStore", row: ModelRow) -> None:
    """Inside `writing`: move a model into the trash.

    Raises:
        IntegrityError: If its manifest is lost or damaged: there is nothing to be restored.
    """
    connection = store.connection
    manifest = store.manifest_of(row)
    stamp = time.time_ns() // 1_000_000
    while catalog.find_model(connection, catalog.trash_name(row.name, stamp)) is not None:
        stamp += 1
    path, text = store.layout.trashed(row.name, stamp), manifest.to_json().encode()
    catalog.rename_model(connection, row, catalog.trash_name(row.name, stamp), path, text)
    catalog.discount_files(connection, manifest)
    adapters.forget_pairs(connection, row.name)
    store.swap_manifest(row.file, path, text)


def restore(store: "DiskBlockStore", name: str, new_name: str | None = None) -> Manifest:
    """Take the model of a name that was removed last out of the trash, under this name or another.

    Raises:
        ModelMissingError: If there is none in the trash.
        ModelExistsError: If the name is taken.
    """
    target = check_name(new_name or name)
    with store.writing() as connection:
        row = _newest(store, name)
        if store.has_model(target):
            raise ModelExistsError(target)
        manifest = replace(store.manifest_of(row), name=target)
        path, text = store.layout.manifest(target), manifest.to_json().encode()
        catalog.rename_model(connection, row, target, path, text)
        catalog.count_files(connection, manifest)
        adding.note_adapter(store, manifest)
        store.swap_manifest(row.file, path, text)
    return manifest


def drop(store: "DiskBlockStore", rows: Iterable[ModelRow], *, counted: bool = True) -> tuple[str, ...]:
    """Inside `writing`: let go of models, in the trash or not; returns their names. Their blocks stay.

    The counts of their blocks may wait for a recount: see `catalog.drop_model`.
    """
    names = []
    for row in rows:
        store.drop_row(row, counted=counted)
        names.append(catalog.own_name(row.name))
    return tuple(names)


def expired(store: "DiskBlockStore", now: float | None = None) -> list[ModelRow]:
    """Models whose time in the trash is over."""
    now = time.time() if now is None else now
    rows = catalog.trashed_models(store.connection)
    return [row for row in rows if _entry(store, row).expires_at <= now]


def named(store: "DiskBlockStore", names: Iterable[str] | None) -> list[ModelRow]:
    """Models in the trash that have one of these names, all if None.

    Raises:
        ModelMissingError: If a name has none.
    """
    rows = catalog.trashed_models(store.connection)
    if names is None:
        return rows
    wanted = set(names)
    if missing := wanted - {catalog.own_name(row.name) for row in rows}:
        raise ModelMissingError(min(missing), "in the trash")
    return [row for row in rows if catalog.own_name(row.name) in wanted]


def blocks_only_here(store: "DiskBlockStore") -> list[Location]:
    """Blocks that models in the trash name and no other model does."""
    named: Counter[BlockId] = Counter()
    for row in catalog.trashed_models(store.connection):
        with suppress(IntegrityError, ModelMissingError):
            named.update(store.manifest_of(row).block_ids())
    found = index.find_many(store.connection, list(named))
    return [item for block_id, item in found.items() if 0 < item.refs <= named[block_id]]


def held_by(store: "DiskBlockStore", row: ModelRow) -> set[BlockId]:
    """Blocks that a model names, and what these need; none if its manifest is lost or damaged."""
    with suppress(IntegrityError, ModelMissingError):
        return set(index.find_many(store.connection, store.manifest_of(row).block_ids()))
    return set()


def is_readable(store: "DiskBlockStore", row: ModelRow) -> bool:
    """Whether a model's manifest is there and whole."""
    try:
        store.manifest_of(row)
    except (IntegrityError, ModelMissingError):
        return False
    return True


def _newest(store: "DiskBlockStore", name: str) -> ModelRow:
    return named(store, [name])[-1]


def _entry(store: "DiskBlockStore", row: ModelRow) -> TrashedModel:
    removed_at = (row.removed_ms or 0) / 1000
    return TrashedModel(
        name=catalog.own_name(row.name),
        removed_at=removed_at,
        expires_at=removed_at + store.settings.trash_days * DAY_S,
        raw_bytes=row.raw_bytes,
        num_blocks=row.num_blocks,
    )
