"""After a crash: finish or forget a half-done step, and build a lost index again from packs and manifests."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pbstore.disk.files import fsio, pack
from pbstore.disk.files.layout import Layout
from pbstore.disk.files.pack import Record
from pbstore.disk.index import database, intents, locations, model_rows, packs
from pbstore.disk.index.sqlite import FAILURES
from pbstore.errors import IndexCorruptError
from pbstore.manifest import Manifest

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
    """Build the index from packs and manifests and put it in place. Call it under the writer's lock."""
    taste = _saved_taste(layout)
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
    fd = os.open(temporary, os.O_RDONLY)
    try:
        fsio.fsync(fd, "index")
    finally:
        os.close(fd)
    _unlink_database(layout.index)
    temporary.replace(layout.index)
    fsio.fsync_folder(layout.root)


def finish_intent(layout: Layout, connection: sqlite3.Connection) -> None:
    """Finish the step that a killed writer left half-done. Call it under the writer's lock.

    The next commit forces the folder to the disk and clears the intent.
    """
    intent = intents.get_intent(connection)
    if intent is None:
        return
    for file in intent.place:
        with suppress(FileNotFoundError):
            layout.waiting(layout.manifests / file).replace(layout.manifests / file)
    filed = {row.file for row in model_rows.all_models(connection)} if intent.remove else set()
    for file in set(intent.remove) - filed:
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
        filed = model_rows.files(connection)
        strays += [path for place, path in waiting.items() if place.name not in filed]
    for path in strays:
        path.unlink(missing_ok=True)


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
    for place, path in layout.waiting_manifests().items():
        waiting = model_rows.load_file(path)
        if (
            model_rows.load_file(place) is None
            and waiting is not None
            and _has_blocks(connection, waiting[0])
        ):
            path.replace(place)  # a crash came between the commit and this step
    fsio.fsync_folder(layout.manifests)
    for path in layout.placed_manifests():
        loaded = model_rows.load_file(path)
        if loaded is None or layout.manifest(loaded[0].name) != path:
            log.warning("manifest %s is damaged: left out", path.name)
        else:
            model_rows.insert_model(connection, loaded[0], path.name, loaded[1])
    for path in layout.trashed_manifests():
        loaded, stamp = model_rows.load_file(path), path.name.split(".")[1]
        if loaded is None or not stamp.isdigit() or layout.trashed(loaded[0].name, int(stamp)) != path:
            log.warning("manifest %s of a removed model is damaged: left out", path.name)
        elif _has_blocks(connection, loaded[0]):
            name = model_rows.trash_name(loaded[0].name, int(stamp))
            model_rows.insert_model(connection, loaded[0], path.name, loaded[1], row_name=name)


def _has_blocks(connection: sqlite3.Connection, manifest: Manifest) -> bool:
    return all(locations.find(connection, block_id) is not None for block_id in manifest.block_ids())


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
        log.warning("the index of %s is damaged: built again from packs and manifests", layout.root)
    rebuild_index(layout)
