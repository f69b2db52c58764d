"""Mending a store: a lost index from its packs, damaged blocks and manifests from another store."""

import errno
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from pbstore.disk.blocks import recount
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import fsio
from pbstore.disk.index import model_rows
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.models import Models, is_readable, recount_readable
from pbstore.disk.upkeep import verify
from pbstore.errors import CapacityError, FileCorruptError, IndexCorruptError, PBStoreError
from pbstore.hashing import BlockId
from pbstore.store import raw_block


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair mended, and what it could not mend."""

    mended_blocks: int
    mended_manifests: int
    left: tuple[str, ...]
    """Problems that remain, one line each."""


def repair(models: Models, other: Models | None) -> RepairReport:
    """Mend what is damaged with good copies from another store; without one, only the index is built anew.

    It is not where the manifest of a model stays lost: the index is all that tells of that model.
    """
    if models.read_only:
        raise PermissionError(errno.EROFS, f"store {models.path} was opened for reading only")
    manifests = blocks = 0
    try:
        with models.writing() as tx:  # also carries out what a killed writer left to do
            if other is not None:
                manifests = _mend_manifests(models, tx, other)
            blocks = _renew_headers(models, tx)
        whole = all(_has_its_manifest(models, row) for row in models.model_rows())
    except IndexCorruptError:
        whole = True  # the index tells nothing that the manifests do not
    if whole:
        models.rebuild_index()
    if other is not None:
        with models.writing() as tx:
            blocks += sum(_mend_block(models, tx, other, block_id) for block_id in _bad_blocks(models))
            recount_readable(models, tx)
    return RepairReport(mended_blocks=blocks, mended_manifests=manifests, left=verify.verify(models).problems)


def _has_its_manifest(models: Models, row: ModelRow) -> bool:
    """Whether an index that is built anew knows the model again."""
    try:
        model_rows.read_manifest(models.layout, row)
    except FileCorruptError as error:
        return _differ_by_a_flip(error.expected, error.actual)
    except (PBStoreError, OSError):
        return False
    return True


def _differ_by_a_flip(noted: str, actual: str) -> bool:
    """Whether the hash in the index, and not the manifest, is damaged: another manifest has another hash."""
    wrong = sum(one != other for one, other in zip(noted, actual, strict=False))
    return len(noted) == len(actual) and 0 < wrong <= 2


def _renew_headers(models: Models, tx: Transaction) -> int:
    """Store blocks with damaged headers anew, while the index still says where they lie.

    Where a header is whole, it and not the index is right; only what decodes to its id is stored anew.
    """
    renewed = 0
    for location in models.locations():
        if not recount.same_header(models, location):
            with suppress(PBStoreError, OSError):
                renewed += int(not recount.contradicts(models, location) and bool(tx.move(location)))
    return renewed


def _mend_manifests(models: Models, tx: Transaction, other: Models) -> int:
    """Take manifests that are lost or damaged from the other store, by the name that a file stands for."""
    mended = 0
    known = {row.file: row for row in models.model_rows()}
    unfiled = {path.name for path in models.layout.placed_manifests()} - set(known)
    for name in other.models():
        path = models.layout.manifest(name)
        try:
            text = other.manifest(name).to_json().encode()
        except (PBStoreError, OSError):
            continue
        row = known.get(path.name)
        if row is not None:
            wanted = not is_readable(models, row) and blake3(text).hexdigest() == row.manifest_hash
        else:
            wanted = path.name in unfiled and model_rows.load_file(path) is None
        if wanted:
            _put_manifest(models, tx, path, text, row)
            mended += 1
    return mended


def _put_manifest(models: Models, tx: Transaction, path: Path, text: bytes, row: ModelRow | None) -> None:
    """Put a good manifest in place; a model that the index does not know is filed."""
    if row is not None:
        model_rows.set_manifest(tx.connection, row, row.manifest_hash)
        tx.place_manifest(path, text, row.place)
        return
    fsio.write_file(path, text)
    loaded = model_rows.load_file(path)
    if loaded is not None and not models.has_model(loaded[0].name):
        model_rows.insert_model(tx.connection, loaded[0], path.name, loaded[1])


def _bad_blocks(models: Models) -> list[BlockId]:
    bad: dict[BlockId, None] = {}
    for row in model_rows.all_models(models.connection):
        if is_readable(models, row):
            missing = (
                block_id for block_id in models.manifest_of(row).block_ids() if not models.has(block_id)
            )
            bad.update(dict.fromkeys(missing))
    for location in models.locations():
        try:
            models.export_block(location.record.block_id)
            models.get(location.record.block_id)
        except (PBStoreError, OSError):
            bad[location.record.block_id] = None
            bad.update(dict.fromkeys(need for need in location.record.needs if models.find(need) is None))
    return list(bad)


def _mend_block(models: Models, tx: Transaction, other: Models, block_id: BlockId) -> bool:
    """Take one block's raw bytes from the other store; they are hashed on the way."""
    try:
        stored = raw_block(other.get(block_id), block_id)
    except (PBStoreError, OSError):
        return False
    location = models.find(block_id)
    try:
        if location is None:
            tx.keep(stored)
        else:
            tx.ensure_room(stored.stored_bytes - location.record.stored_bytes)
            tx.replace_form(models.locate(block_id), stored)
    except CapacityError:
        return False
    return True
