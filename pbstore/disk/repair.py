"""Mending a store: a lost index from its packs, damaged blocks and manifests from another store."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.disk import catalog, fsio
from pbstore.disk.catalog import HOT
from pbstore.errors import PBStoreError
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
    """Mend what is damaged with good copies from another store; without one, only the index is built anew."""
    store.rebuild_index()
    manifests = blocks = 0
    if other is not None:
        with store.writing():
            manifests = _mend_manifests(store, other)
            store.commit_so_far()
            blocks = sum(_mend_block(store, other, block_id) for block_id in _bad_blocks(store))
            recount(store)
    return RepairReport(mended_blocks=blocks, mended_manifests=manifests, left=store.verify().problems)


def recount(store: "DiskBlockStore") -> None:
    """Inside `writing`: count references anew from the manifests."""
    connection = store.connection
    connection.execute("UPDATE blocks SET refs = 0, hot_refs = 0")
    connection.execute("DELETE FROM files")
    for row in store.model_rows():
        manifest = store.manifest(row.name)
        catalog.count_files(connection, manifest)
        catalog.change_refs(connection, manifest.block_ids(), 1, int(row.form == HOT))


def _mend_manifests(store: "DiskBlockStore", other: "DiskBlockStore") -> int:
    """Take the manifests of damaged files from the other store, by the name that their file stands for."""
    mended = 0
    files = {store.layout.manifest(name).name: name for name in other.models()}
    for path in store.layout.placed_manifests():
        if catalog.load_file(path) is None and path.name in files:
            name = files[path.name]
            text = other.manifest(name).to_json().encode()
            fsio.write_file(path, text)
            loaded = catalog.load_file(path)
            if loaded is not None and not store.has_model(name):
                catalog.insert_model(store.connection, loaded[0], path.name, loaded[1])
            mended += 1
    return mended


def _bad_blocks(store: "DiskBlockStore") -> list[BlockId]:
    bad: dict[BlockId, None] = {}
    for row in store.model_rows():
        for block_id in store.manifest(row.name).block_ids():
            if store.find(block_id) is None:
                bad[block_id] = None
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
    if location is None:
        store.keep(stored)
    else:
        store.replace_form(location, stored)
    return True
