"""A name points to revisions: what is filed under a name that is taken becomes the newest one of it.

An earlier revision keeps its blocks and its references; its row and its manifest's file get another name, as
those of a removed model do. See FORMAT.md.
"""

from collections.abc import Mapping
from dataclasses import replace

from blake3 import blake3

from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import lora_pairs, model_rows, revisions
from pbstore.disk.index.model_rows import COLD, HOT, ModelRow
from pbstore.disk.index.row_names import RowName
from pbstore.disk.models import Models
from pbstore.manifest import Manifest


def file(models: Models, tx: Transaction, manifest: Manifest, form: str, *, own: bool = False) -> str:
    """File a model whose blocks are there, as the newest revision if the name is taken.

    Returns:
        The commit of the revision that it follows, empty if there is none or if it is the same.

    Raises:
        IntegrityError: If the manifest of the model of that name is damaged: it could not be kept.
        BlockMissingError: If a block was let go of to make room for it.
    """
    before = model_rows.find_model(tx.connection, manifest.name)
    manifest_hash = blake3(manifest.to_json().encode()).hexdigest()
    if before is not None and before.manifest_hash == manifest_hash:
        return ""
    models.check_whole(manifest)
    if before is not None:
        set_aside(models, tx, before)
    models.file_manifest(tx, manifest, form, own=own)
    for row in revisions.of_model(tx.connection, manifest.name)[1:]:
        if row.manifest_hash == manifest_hash:  # it is the model itself again
            models.drop_row(tx, row)
    if before is None:
        return ""
    model_rows.inherit_taste(tx.connection, manifest.name, before)
    return before.commit


def set_aside(models: Models, tx: Transaction, row: ModelRow) -> ModelRow:
    """Make an earlier revision of a model; its name is free. A hot one is called cold, its blocks stay raw.

    Raises:
        IntegrityError: If its manifest is lost or damaged.
    """
    manifest, text = model_rows.read_both(models.layout, row)
    if row.form == HOT:
        model_rows.set_form(tx.connection, manifest, COLD)
    newest = max((one.key.past_ms or 0 for one in revisions.of_model(tx.connection, row.name)), default=0)
    key = RowName(row.name, past_ms=max(newest + 1, round(row.added_at * 1000)))
    move(models, tx, row, key, text)
    model_rows.pin(tx.connection, str(key), False, 0.0)
    lora_pairs.forget_pairs(tx.connection, row.name)
    return models.row_of(str(key))


def move(models: Models, tx: Transaction, row: ModelRow, key: RowName, text: bytes) -> None:
    """Give a row another name and a manifest of the same blocks in the place of its old one."""
    path = models.layout.manifests / key.file
    model_rows.rename_model(tx.connection, row, str(key), path, text)
    tx.place_manifest(path, text)
    tx.remove_manifest(models.layout.manifests / row.file, row.place)


def set_tags(models: Models, tx: Transaction, model: str, named: Mapping[str, str]) -> None:
    """Set all tags of a model."""
    text = revisions.note_tags(tx.connection, model, named)
    if text is None:
        tx.remove_manifest(models.layout.tags(model))
    else:
        tx.place_manifest(models.layout.tags(model), text)


def carry_tags(models: Models, tx: Transaction, model: str, target: str) -> None:
    """Give a model that has come to be under another name the tags that it had; commits tell of the name."""
    if model == target:
        return
    named = revisions.tags(tx.connection, model)
    renamed = {}
    for row in revisions.of_model(tx.connection, target):
        old = replace(models.manifest_of(row), name=model)
        commit = blake3(old.to_json().encode()).hexdigest()[: len(row.commit)]
        renamed.update({tag: row.commit for tag, was in named.items() if was == commit})
    if renamed:
        set_tags(models, tx, target, {**revisions.tags(tx.connection, target), **renamed})


def free_stamp(tx: Transaction, key: RowName) -> RowName:
    """The same earlier revision with the first stamp that none of the model's has."""
    taken = [row.key.past_ms or 0 for row in revisions.of_model(tx.connection, key.model)]
    stamp = key.past_ms or 0
    while stamp in taken:
        stamp += 1
    return key.earlier(stamp)
