"""The trash: removed models that can be taken back until a gc, after some days, lets go of them.

A removed model keeps its blocks and its references; its row and its manifest's file get another name. So it
is moved and taken back by the same steps, in the same order, by which a model is filed: see FORMAT.md.
"""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files.layout import write_settings
from pbstore.disk.index import locations, lora_pairs, model_rows, notes
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError, ModelExistsError, ModelMissingError
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest, check_name

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


def listed(models: Models) -> list[TrashedModel]:
    """Models in the trash, those that were removed first first."""
    return [_entry(models, row) for row in model_rows.trashed_models(models.connection)]


def put(models: Models, tx: Transaction, row: ModelRow) -> None:
    """Move a model into the trash.

    Raises:
        IntegrityError: If its manifest is lost or damaged: there is nothing to be restored.
    """
    manifest = models.manifest_of(row)
    stamp = time.time_ns() // 1_000_000
    while model_rows.find_model(tx.connection, model_rows.trash_name(row.name, stamp)) is not None:
        stamp += 1
    path, text = models.layout.trashed(row.name, stamp), manifest.to_json().encode()
    model_rows.rename_model(tx.connection, row, model_rows.trash_name(row.name, stamp), path, text)
    model_rows.discount_files(tx.connection, manifest)
    lora_pairs.forget_pairs(tx.connection, row.name)
    _swap(models, tx, row, path, text)


def remove(models: Models, name: str, *, trash: bool = True) -> None:
    """Take a model out of the store; see `DiskBlockStore.remove`."""
    with models.writing() as tx:
        row = models.model_row(name)
        if trash and models.settings.trash_days and is_readable(models, row):
            put(models, tx, row)
        else:
            models.drop_row(tx, row, counted=models.has_room(0))


def restore(models: Models, name: str, new_name: str | None = None) -> Manifest:
    """Take the model of a name that was removed last out of the trash, under this name or another.

    Raises:
        ModelMissingError: If there is none in the trash.
        ModelExistsError: If the name is taken.
    """
    target = check_name(new_name or name)
    with models.writing() as tx:
        row = _newest(models, name)
        if models.has_model(target):
            raise ModelExistsError(target)
        manifest = replace(models.manifest_of(row), name=target)
        path, text = models.layout.manifest(target), manifest.to_json().encode()
        model_rows.rename_model(tx.connection, row, target, path, text)
        model_rows.count_files(tx.connection, manifest)
        notes.note_adapter(tx.connection, manifest, models.get)
        _swap(models, tx, row, path, text)
    return manifest


def _swap(models: Models, tx: Transaction, row: ModelRow, path: Path, text: bytes) -> None:
    """Put a manifest in place of a row's old one, with the commit."""
    tx.place_manifest(path, text)
    tx.remove_manifest(models.layout.manifests / row.file)


def drop(
    models: Models, tx: Transaction, rows: Iterable[ModelRow], *, counted: bool = True
) -> tuple[str, ...]:
    """Let go of models, in the trash or not; returns their names. Their blocks stay.

    The counts of their blocks may wait for a recount: see `model_rows.drop_model`.
    """
    names = []
    for row in rows:
        models.drop_row(tx, row, counted=counted)
        names.append(model_rows.own_name(row.name))
    return tuple(names)


def keep(models: Models, days: float) -> None:
    """Set for how many days a gc leaves removed models alone.

    Raises:
        ValueError: If it is negative or out of range.
    """
    settings = replace(models.settings, trash_days=days)
    with models.writing():
        write_settings(models.layout, settings)
    models.settings = settings


def expired(models: Models, now: float | None = None) -> list[ModelRow]:
    """Models whose time in the trash is over."""
    now = time.time() if now is None else now
    rows = model_rows.trashed_models(models.connection)
    return [row for row in rows if _entry(models, row).expires_at <= now]


def named(models: Models, names: Iterable[str] | None) -> list[ModelRow]:
    """Models in the trash that have one of these names, all if None.

    Raises:
        ModelMissingError: If a name has none.
    """
    rows = model_rows.trashed_models(models.connection)
    if names is None:
        return rows
    wanted = set(names)
    if missing := wanted - {model_rows.own_name(row.name) for row in rows}:
        raise ModelMissingError(min(missing), "in the trash")
    return [row for row in rows if model_rows.own_name(row.name) in wanted]


def blocks_only_here(models: Models) -> list[Location]:
    """Blocks that models in the trash name and no other model does."""
    named: Counter[BlockId] = Counter()
    for row in model_rows.trashed_models(models.connection):
        with suppress(IntegrityError, ModelMissingError):
            named.update(models.manifest_of(row).block_ids())
    found = locations.find_many(models.connection, list(named))
    return [item for block_id, item in found.items() if 0 < item.refs <= named[block_id]]


def held_by(models: Models, row: ModelRow) -> set[BlockId]:
    """Blocks that a model names, and what these need; none if its manifest is lost or damaged."""
    with suppress(IntegrityError, ModelMissingError):
        return set(locations.find_many(models.connection, models.manifest_of(row).block_ids()))
    return set()


def is_readable(models: Models, row: ModelRow) -> bool:
    """Whether a model's manifest is there and whole."""
    try:
        models.manifest_of(row)
    except (IntegrityError, ModelMissingError):
        return False
    return True


def _newest(models: Models, name: str) -> ModelRow:
    return named(models, [name])[-1]


def _entry(models: Models, row: ModelRow) -> TrashedModel:
    removed_at = (row.removed_ms or 0) / 1000
    return TrashedModel(
        name=model_rows.own_name(row.name),
        removed_at=removed_at,
        expires_at=removed_at + models.settings.trash_days * DAY_S,
        raw_bytes=row.raw_bytes,
        num_blocks=row.num_blocks,
    )
