"""The trash: removed models that can be taken back until a gc, after some days, lets go of them.

A removed model keeps its blocks and its references; its row and its manifest's file get another name. So it
is moved and taken back by the same steps, in the same order, by which a model is filed: see FORMAT.md.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pbstore.disk import revisions
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files.layout import write_settings
from pbstore.disk.index import audit, locations, lora_pairs, model_rows, notes
from pbstore.disk.index.locations import Location
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.index.revisions import (
    AT,
    MAIN,
    in_trash,
    of_model,
    oldest_first,
    split_address,
    trashed_models,
)
from pbstore.disk.index.row_names import RowName
from pbstore.disk.models import Models
from pbstore.errors import (
    IntegrityError,
    ModelExistsError,
    ModelMissingError,
    RevisionInTrashError,
    RevisionInUseError,
)
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest, check_name

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashedModel:
    """A removed model, or an earlier revision of one, that can still be restored."""

    name: str
    """`NAME`, or `NAME@COMMIT` of an earlier revision."""
    removed_at: float
    """Seconds since 1970."""
    expires_at: float
    """From then on a gc may let go of it, seconds since 1970."""
    raw_bytes: int
    num_blocks: int


def listed(models: Models) -> list[TrashedModel]:
    """Models in the trash, those that were removed first first."""
    return [_entry(models, row) for row in trashed_models(models.connection)]


def put(models: Models, tx: Transaction, rows: Sequence[ModelRow]) -> None:
    """Move a model, or earlier revisions of it, into the trash together.

    Raises:
        IntegrityError: If a manifest is lost or damaged: there is nothing to be restored.
    """
    texts = [model_rows.read_both(models.layout, row) for row in rows]
    stamp = time.time_ns() // 1_000_000
    while any(model_rows.find_model(tx.connection, str(row.key.removed(stamp))) for row in rows):
        stamp += 1
    for row, (manifest, text) in zip(rows, texts, strict=True):
        revisions.move(models, tx, row, row.key.removed(stamp), text)
        model_rows.discount_files(tx.connection, manifest)
        lora_pairs.forget_pairs(tx.connection, row.name)


def remove(models: Models, name: str, *, trash: bool = True) -> None:
    """Take a model or a revision out of the store; see `DiskBlockStore.remove`."""
    with models.writing() as tx:
        row = models.model_row(name)
        rows = of_model(tx.connection, row.key.model) if row.key.past_ms is None else [row]
        if row.key.past_ms is None and AT in name and len(rows) > 1:
            raise RevisionInUseError(row.key.model, row.commit)
        if trash and models.settings.trash_days and all(is_readable(models, one) for one in rows):
            put(models, tx, rows)
        else:
            drop(models, tx, rows, counted=models.has_room(0))


def restore(models: Models, name: str, new_name: str | None = None) -> Manifest:
    """Take the model of a name that was removed last out of the trash, under this name or another.

    Its earlier revisions that were removed with it come back with it. `NAME@REVISION` brings back an earlier
    revision alone: to the model that has the name, or as a model if `new_name` is given or nothing has it.

    Raises:
        ModelMissingError: If there is none in the trash.
        ModelExistsError: If the name is taken.
    """
    model, revision = split_address(name)
    target = check_name(new_name or model)
    with models.writing() as tx:
        rows = _newest(models, model, revision)
        alone, taken = revision != MAIN, models.has_model(target)
        if taken and (not alone or new_name is not None):
            raise ModelExistsError(target)
        for row in rows:
            stamp = row.key.past_ms
            if alone:  # it becomes a model where the name is free
                stamp = (stamp or max(1, round(row.added_at * 1000))) if taken else None
            manifest = _take_back(models, tx, row, RowName(target, past_ms=stamp))
        revisions.carry_tags(models, tx, model, target)
    return manifest


def _take_back(models: Models, tx: Transaction, row: ModelRow, key: RowName) -> Manifest:
    old, text = model_rows.read_both(models.layout, row)
    manifest = replace(old, name=key.model)
    key = key if key.past_ms is None else revisions.free_stamp(tx, key)
    revisions.move(models, tx, row, key, text if old == manifest else manifest.to_json().encode())
    model_rows.count_files(tx.connection, manifest)
    if key.past_ms is None:
        notes.note_adapter(tx.connection, manifest, models.get)
    return manifest


def drop(
    models: Models, tx: Transaction, rows: Iterable[ModelRow], *, counted: bool = True
) -> tuple[str, ...]:
    """Let go of models, in the trash or not; returns their names. Their blocks stay.

    The counts of their blocks may wait for a recount: see `model_rows.drop_model`.
    """
    names = []
    for row in rows:
        models.drop_row(tx, row, counted=counted)
        names.append(row.address)
    return tuple(names)


def keep(models: Models, days: float) -> None:
    """Set for how many days a gc leaves removed models alone.

    Raises:
        ValueError: If it is negative or out of range.
    """
    replace(models.settings, trash_days=days)  # refused before anything is locked
    with models.writing() as tx:
        settings = replace(models.settings, trash_days=days)
        write_settings(models.layout, settings)
        audit.note(tx.connection, "trash days", detail=f"{days:g}")
    models.settings = settings


def expired(models: Models, now: float | None = None) -> list[ModelRow]:
    """Models whose time in the trash is over."""
    now = time.time() if now is None else now
    rows = trashed_models(models.connection)
    return [row for row in rows if _entry(models, row).expires_at <= now]


def named(models: Models, names: Iterable[str] | None) -> list[ModelRow]:
    """Models in the trash that have one of these names, all if None.

    Raises:
        ModelMissingError: If a name has none.
    """
    if names is None:
        return trashed_models(models.connection)
    chosen: dict[str, ModelRow] = {}
    for name in names:
        model, revision = split_address(name)
        found = [row for row in in_trash(models.connection, model) if _is_of(row, revision)]
        if not found:
            raise ModelMissingError(name, "in the trash")
        chosen.update({row.name: row for row in found})
    return oldest_first(chosen.values())


def blocks_only_here(models: Models) -> list[Location]:
    """Blocks that models in the trash name and no other model does."""
    named: Counter[BlockId] = Counter()
    for row in trashed_models(models.connection):
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


def _is_of(row: ModelRow, revision: str) -> bool:
    return revision == MAIN or row.commit.startswith(revision)


def _newest(models: Models, model: str, revision: str) -> list[ModelRow]:
    """What was removed last of a name: a model behind its earlier revisions, or one of these alone."""
    rows = named(models, [f"{model}{AT}{revision}"])
    if revision != MAIN:
        return rows[-1:]
    whole = [row for row in rows if row.key.past_ms is None]
    if not whole:
        raise RevisionInTrashError(model, rows[-1].commit)
    return [row for row in rows if row.removed_ms == whole[-1].removed_ms]


def _entry(models: Models, row: ModelRow) -> TrashedModel:
    removed_at = (row.removed_ms or 0) / 1000
    return TrashedModel(
        name=row.address,
        removed_at=removed_at,
        expires_at=removed_at + models.settings.trash_days * DAY_S,
        raw_bytes=row.raw_bytes,
        num_blocks=row.num_blocks,
    )
