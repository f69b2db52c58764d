"""Mending a store: a lost index from its packs, damaged blocks and manifests from another store."""

import errno
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from pbstore.disk.blocks import recount
from pbstore.disk.files import fsio
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index.model_rows import HOT, ModelRow
from pbstore.errors import CapacityError, FileCorruptError, IndexCorruptError, PBStoreError
from pbstore.hashing import BlockId
from pbstore.store import raw_block

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair mended, and what it could not mend."""

    mended_blocks: int
    mended_manifests: int
    left: tuple[str, ...]
    """Problems that remain, one line each."""


def repair(store: "DiskBlockStore", other: "DiskBlockStore | None") -> RepairReport:
    """Mend what is damaged with good copies from another store; without one, only the index is built anew.

    It is not where the manifest of a model stays lost: the index is all that tells of that model.
    """
    if store.read_only:
        raise PermissionError(errno.EROFS, f"store {store.path} was opened for reading only")
    manifests = blocks = 0
    try:
        with store.writing():  # also carries out what a killed writer left to do
            if other is not None:
                manifests = _mend_manifests(store, other)
            blocks = _renew_headers(store)
        whole = all(_has_its_manifest(store, row) for row in store.model_rows())
    except IndexCorruptError:
        whole = True  # the index tells nothing that the manifests do not
    if whole:
        store.rebuild_index()
    if other is not None:
        with store.writing():
            blocks += sum(_mend_block(store, other, block_id) for block_id in _bad_blocks(store))
            recount_readable(store)
    return RepairReport(mended_blocks=blocks, mended_manifests=manifests, left=store.verify().problems)


def _is_readable(store: "DiskBlockStore", row: ModelRow) -> bool:
    try:
        catalog.read_manifest(store.layout, row)
    except (PBStoreError, OSError):
        return False
    return True


def _has_its_manifest(store: "DiskBlockStore", row: ModelRow) -> bool:
    """Whether an index that is built anew knows the model again."""
    try:
        catalog.read_manifest(store.layout, row)
    except FileCorruptError as error:
        return _differ_by_a_flip(error.expected, error.actual)
    except (PBStoreError, OSError):
        return False
    return True


def _differ_by_a_flip(noted: str, actual: str) -> bool:
    """Whether the hash in the index, and not the manifest, is damaged: another manifest has another hash."""
    wrong = sum(one != other for one, other in zip(noted, actual, strict=False))
    return len(noted) == len(actual) and 0 < wrong <= 2


def _renew_headers(store: "DiskBlockStore") -> int:
    """Inside `writing`: store blocks with damaged headers anew, while the index still says where they lie.

    Where a header is whole, it and not the index is right; only what decodes to its id is stored anew.
    """
    renewed = 0
    for location in store.locations():
        if not recount.same_header(store, location):
            with suppress(PBStoreError, OSError):
                renewed += int(not recount.contradicts(store, location) and bool(store.move(location)))
    return renewed


def recount_readable(store: "DiskBlockStore") -> None:
    """Inside `writing`: count references anew from the manifests; nothing changes if one cannot be read."""
    connection = store.connection
    rows = catalog.all_models(connection)
    if not all(_is_readable(store, row) for row in rows):
        return
    connection.execute("UPDATE blocks SET refs = 0, hot_refs = 0")
    connection.execute("DELETE FROM files")
    for row in rows:
        manifest = store.manifest_of(row)
        if row.removed_ms is None:
            catalog.count_files(connection, manifest)
        catalog.change_refs(connection, manifest.block_ids(), 1, int(row.form == HOT))


def _mend_manifests(store: "DiskBlockStore", other: "DiskBlockStore") -> int:
    """Take manifests that are lost or damaged from the other store, by the name that a file stands for."""
    mended = 0
    known = {row.file: row for row in store.model_rows()}
    unfiled = {path.name for path in store.layout.placed_manifests()} - set(known)
    for name in other.models():
        path = store.layout.manifest(name)
        try:
            text = other.manifest(name).to_json().encode()
        except (PBStoreError, OSError):
            continue
        row = known.get(path.name)
        if row is not None:
            wanted = not _is_readable(store, row) and blake3(text).hexdigest() == row.manifest_hash
        else:
            wanted = path.name in unfiled and catalog.load_file(path) is None
        if wanted:
            fsio.write_file(path, text)
            loaded = catalog.load_file(path)
            if row is None and loaded is not None and not store.has_model(name):
                catalog.insert_model(store.connection, loaded[0], path.name, loaded[1])
            mended += 1
    return mended


def _bad_blocks(store: "DiskBlockStore") -> list[BlockId]:
    bad: dict[BlockId, None] = {}
    for row in catalog.all_models(store.connection):
        if _is_readable(store, row):
            missing = (block_id for block_id in store.manifest_of(row).block_ids() if not store.has(block_id))
            bad.update(dict.fromkeys(missing))
    for location in store.locations():
        try:
            store.export_block(location.record.block_id)
            store.get(location.record.block_id)
        except (PBStoreError, OSError):
            bad[location.record.block_id] = None
            bad.update(dict.fromkeys(need for need in location.record.needs if store.find(need) is None))
    return list(bad)


def _mend_block(store: "DiskBlockStore", other: "DiskBlockStore", block_id: BlockId) -> bool:
    """Take one block's raw bytes from the other store; they are hashed on the way."""
    try:
        stored = raw_block(other.get(block_id), block_id)
    except (PBStoreError, OSError):
        return False
    location = store.find(block_id)
    try:
        if location is None:
            store.keep(stored)
        else:
            store.ensure_room(stored.stored_bytes - location.record.stored_bytes)
            store.replace_form(store.locate(block_id), stored)
    except CapacityError:
        return False
    return True
