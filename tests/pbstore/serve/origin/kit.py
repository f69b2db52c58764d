"""What the tests of the origin share: models of a few blocks, a way in and out, endpoints."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pbstore import DiskBlockStore
from pbstore.blocks import StoredBlock
from pbstore.manifest import FileEntry, Manifest, Piece
from pbstore.serve.origin.catalog import Catalog
from pbstore.serve.origin.records import NameRecord
from pbstore.serve.origin.writer import Writer
from pbstore.store import raw_block


def manifest_of(name: str, blocks: list[StoredBlock]) -> Manifest:
    """A model of one file that is these blocks."""
    raw = b"".join(bytes(block.payload) for block in blocks)
    pieces = tuple(Piece(block.block_id, block.raw_bytes) for block in blocks)
    entry = FileEntry(path="f", size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest(), pieces=pieces)
    return Manifest(name=name, files=(entry,))


def some_blocks(numbers: list[int], size: int = 40) -> list[StoredBlock]:
    return [raw_block(np.random.default_rng(number).bytes(size)) for number in numbers]


def put_model(
    catalog: Catalog, name: str, blocks: list[StoredBlock], *, replace: bool = False, lease_s: float = 900.0
) -> NameRecord:
    with Writer(catalog, lease_s) as writer:
        known = writer.known(block.block_id for block in blocks)
        writer.put_blocks(block for block in blocks if block.block_id not in known)
        return writer.commit(manifest_of(name, blocks), replace=replace)


def push(store: DiskBlockStore, catalog: Catalog, name: str) -> int:
    """Push a stored model; bytes of the packs that were created for it."""
    with Writer(catalog) as writer:
        ids = store.blocks(name)
        known = writer.known(ids)
        writer.put_blocks(store.export_block(one) for one in ids if one not in known)
        writer.commit(store.manifest(name))
        return writer.sent_bytes


def read_model(catalog: Catalog, name: str) -> tuple[Manifest, list[StoredBlock]]:
    """A model with all of its blocks, each behind what it needs."""
    record = catalog.record(name)
    manifest = catalog.manifest(record)
    catalog.read_tables(record.packs)
    forms = {}
    for block_id in manifest.block_ids():
        chosen = catalog.resolve(block_id, record.packs)
        assert chosen is not None, f"{block_id} of {name}"
        forms |= chosen
    return manifest, list(catalog.read_blocks(list(forms.values())))


def pull(catalog: Catalog, store: DiskBlockStore, name: str) -> None:
    manifest, blocks = read_model(catalog, name)
    for block in blocks:
        store.import_block(block)
    store.put_manifest(manifest)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def keys_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
