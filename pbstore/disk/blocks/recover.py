"""After a crash: finish or forget a half-done step, and build a lost index again from packs and manifests."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from pbstore.disk.blocks import manifests_found, snapshot
from pbstore.disk.files import fsio, pack
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import Record
from pbstore.disk.index import audit, database, intents, locations, model_rows, packs
from pbstore.disk.index.sqlite import FAILURES
from pbstore.errors import IndexCorruptError

log = logging.getLogger(__name__)

SCHEMA_VERSION = "1"


def index_is_usable(layout: Layout) -> bool:
    """Whether the index is there, is SQLite, and has our tables."""
    if not layout.index.exists():
        return False
    try:
        connection = database.connect(layout.index)
        try:
            version = database.get_meta(connection, "schema")
            database.look(connection)
        finally:
            connection.close()
    except (IndexCorruptError, *FAILURES):
        return False
    return version == SCHEMA_VERSION


def rebuild_index(layout: Layout) -> None:
    """Build the index from packs and manifests and put it in place. Call it under the writer's lock.

    Pins, priorities, uses and times are those of the old index if it can be read, else of its snapshot.
    """
    taste = _saved_taste(layout) or snapshot.taste(layout)
    temporary = layout.root / ".tmp-index.sqlite"
    _unlink_database(temporary)
    connection = database.build(temporary)
    try:
        _fill(layout, connection)
        database.set_meta(connection, "schema", SCHEMA_VERSION)
        database.set_meta(connection, "derive", "1")
        model_rows.write_taste(connection, taste)
        database.finish_build(connection)
    finally:
        connection.close()
    _put_in_place(layout, temporary, "index built anew")


def _put_in_place(layout: Layout, temporary: Path, what: str) -> None:
    """Let a new index take the place of the old one."""
    fd = os.open(temporary, os.O_RDONLY)
    try:
        fsio.fsync(fd, "index")
    finally:
        os.close(fd)
    _unlink_database(layout.index)
    temporary.replace(layout.index)
    fsio.fsync_folder(layout.root)
    if pack.pack_numbers(layout.packs):  # it is no new store
        audit.append(layout.audit, [audit.of_store(what)])


def finish_intent(layout: Layout, connection: sqlite3.Connection) -> None:
    """Finish the step that a killed writer left half-done. Call it under the writer's lock.

    The next commit forces the folder to the disk and clears the intent.
    """
    intent = intents.get_intent(connection)
    if intent is None:
        return
    waiting = [file for file in intent.place if layout.waiting(layout.manifests / file).exists()]
    known = manifests_found.hashes(layout, connection) if waiting else {}
    for file in waiting:
        path = layout.waiting(layout.manifests / file)
        if _is_filed(path, known.get(file)):
            path.replace(layout.manifests / file)
        else:  # of a later writer, which died before its commit
            path.unlink()
    left = {file for file in intent.remove if (layout.manifests / file).exists()}  # after a crash alone
    filed = {row.place for row in model_rows.all_models(connection)} if left else set()
    for file in left - filed:
        (layout.manifests / file).unlink(missing_ok=True)
    for file in intent.file:
        _file_placed(layout, connection, layout.manifests / file)


def _file_placed(layout: Layout, connection: sqlite3.Connection, path: Path) -> None:
    """File the model of a manifest that an earlier writer put in place, if it did."""
    loaded = model_rows.load_file(path)
    database.begin(connection)
    try:
        if loaded is not None and model_rows.find_model(connection, loaded[0].name) is None:
            model_rows.insert_model(connection, loaded[0], path.name, loaded[1])
            database.set_meta(connection, "derive", "1")
        fsio.fsync_folder(layout.manifests)
        database.set_meta(connection, intents.INTENT, None)
        database.commit(connection)
    except BaseException:
        database.roll_back(connection)
        raise


def remove_strays(
    layout: Layout, connection: sqlite3.Connection, is_dispensable: Callable[[int], bool]
) -> None:
    """Delete packs and temporary files that no finished step knows of. Call it under the writer's lock."""
    known = packs.ends(connection)
    for number in pack.pack_numbers(layout.packs):
        if number not in known and is_dispensable(number):
            fsio.unlink(pack.pack_path(layout.packs, number))
    strays = [path for folder in (layout.root, layout.manifests) for path in folder.glob(".tmp-*")]
    waiting = layout.waiting_manifests()
    if waiting:  # those of this very transaction are no strays
        filed = manifests_found.hashes(layout, connection)
        strays += [path for place, path in waiting.items() if not _is_filed(path, filed.get(place.name))]
    for path in strays:
        path.unlink(missing_ok=True)


def _is_filed(path: Path, expected: str | None) -> bool:
    """Whether a file that waits for its place is the one that the index says."""
    return expected is not None and blake3(path.read_bytes()).hexdigest() == expected


def _saved_taste(layout: Layout) -> list[tuple[object, ...]]:
    """Pins, priorities and use counts of the old index, as far as it can be read."""
    if not layout.index.exists():
        return []
    try:
        connection = database.connect(layout.index, read_only=True)
        try:
            return model_rows.read_taste(connection)
        finally:
            connection.close()
    except (IndexCorruptError, *FAILURES):
        return []


def _fill(layout: Layout, connection: sqlite3.Connection) -> None:
    numbers = pack.pack_numbers(layout.packs)
    for number in numbers:
        _fill_pack(layout, connection, number)
    _drop_unusable(connection)
    packs.count(connection)
    packs.note_last(connection, max(numbers, default=0))
    manifests_found.fill(layout, connection)


def _fill_pack(layout: Layout, connection: sqlite3.Connection, number: int) -> None:
    path = pack.pack_path(layout.packs, number)
    size = path.stat().st_size
    if not size:  # emptied by a writer, see `PackWriter.append`
        return
    end = max(size, pack.PACK_HEADER_BYTES)  # what cannot be read stays, too
    packs.insert(connection, number, end)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for record in pack.scan(fd, number, size):
            _replace_record(connection, number, record)
    finally:
        os.close(fd)
    packs.set_end(connection, number, end)


def _replace_record(connection: sqlite3.Connection, number: int, record: Record) -> None:
    """Note a record; a later record of the same block wins."""
    known = locations.find(connection, record.block_id)
    if known is not None:
        locations.delete(connection, known)
    locations.insert(connection, number, record)


def _drop_unusable(connection: sqlite3.Connection) -> None:
    """Leave out blocks that came back from the dead and whose bases are gone or need other blocks now."""
    while unusable := locations.unclosed(connection):
        locations.leave_out(connection, unusable)


def _unlink_database(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def ensure_index(layout: Layout) -> None:
    """Build the index if it is missing or damaged. Call it under the writer's lock."""
    if index_is_usable(layout):
        return
    if layout.index.exists():
        log.warning("the index of %s is damaged: it is made again", layout.root)
    temporary = layout.root / ".tmp-index.sqlite"
    _unlink_database(temporary)
    if snapshot.take_back(layout, temporary):
        _put_in_place(layout, temporary, "index from its snapshot")
    else:
        rebuild_index(layout)
