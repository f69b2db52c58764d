"""Gathering: manifests in files of their own, each of which takes a block of the disk, come into sheaves.

A model is always filed with a file of its own. Once there are many, a transaction of its own writes a sheaf
and takes the files away, as any manifest comes into place and goes: see FORMAT.md.
"""

from collections.abc import Iterator
from dataclasses import replace

from blake3 import blake3

from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files import sheaf
from pbstore.disk.files.layout import SHEAF_VERSION, write_settings
from pbstore.disk.index import model_rows, sheaves
from pbstore.disk.index.model_rows import ModelRow
from pbstore.errors import PBStoreError

FROM = 32
"""Manifests with files of their own from which on they are gathered."""
FULL = 64
"""A sheaf with fewer manifests comes into the next one."""
MOST = 128
"""Manifests in a sheaf."""
MOST_BYTES = 1 << 20
"""Their texts, beyond the first."""
MERGED = 4
"""Sheaves at most that come into a new one at a time."""


def gather(blocks: BlockReader, tx: Transaction) -> int:
    """Put manifests that have files of their own into sheaves, if there are many.

    Returns:
        How many came into a sheaf.
    """
    names = sheaves.loose(tx.connection)
    if len(names) < FROM:
        return 0
    count = 0
    chosen = [*_loose(blocks, tx, names), *_thin(blocks, tx)]
    if len(chosen) < FROM:
        return 0
    if blocks.settings.version < SHEAF_VERSION:  # before the first sheaf: code that knows none must see it
        blocks.settings = replace(blocks.settings, version=SHEAF_VERSION)
        write_settings(blocks.layout, blocks.settings)
    for part in _parts(chosen):
        file = sheaves.next_file(tx.connection)
        number = int(file.partition(".")[0])
        data = sheaf.encode(number, {row.file: text for row, text in part})
        tx.place_manifest(blocks.layout.manifests / file, data)
        sheaves.note(tx.connection, file, blake3(data).hexdigest())
        sheaves.put_into(tx.connection, file, [row.name for row, _ in part])
        for row, _ in part:
            tx.remove_manifest(blocks.layout.manifests / row.file, row.place)
        count += len(part)
    return count


def _loose(blocks: BlockReader, tx: Transaction, names: list[str]) -> Iterator[tuple[ModelRow, bytes]]:
    """Rows with files of their own, and their texts; damaged and long ones stay where they are."""
    for name in names:
        row = model_rows.find_model(tx.connection, name)
        if row is not None and (text := _text(blocks, row)) is not None:
            yield row, text


def _thin(blocks: BlockReader, tx: Transaction) -> Iterator[tuple[ModelRow, bytes]]:
    """Rows of the sheaves that have the fewest manifests, and their texts."""
    counts = sorted((count, file) for file, count in sheaves.held(tx.connection).items() if count < FULL)
    for _, file in counts[:MERGED]:
        rows = model_rows.rows_where(tx.connection, "file = ?", (file,))
        texts = [_text(blocks, row) for row in rows]
        yield from [(row, text) for row, text in zip(rows, texts, strict=True) if text is not None]


def _text(blocks: BlockReader, row: ModelRow) -> bytes | None:
    try:
        text = model_rows.read_text(blocks.layout, row)
    except (PBStoreError, OSError):
        return None
    return text if len(text) <= sheaf.MAX_TEXT_BYTES else None


def _parts(chosen: list[tuple[ModelRow, bytes]]) -> Iterator[list[tuple[ModelRow, bytes]]]:
    part: list[tuple[ModelRow, bytes]] = []
    size = 0
    for row, text in chosen:
        if part and (len(part) >= MOST or size + len(text) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((row, text))
        size += len(text)
    if part:
        yield part
