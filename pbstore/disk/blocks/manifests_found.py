"""Manifests and tags as they lie in the folder, for an index that is built anew, whatever a crash left."""

import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from pbstore.disk.files import fsio
from pbstore.disk.files.layout import MANIFEST_SUFFIX, PAST_SUFFIX, TAGS_SUFFIX, TRASH_SUFFIX, Layout
from pbstore.disk.index import database, locations, model_rows, revisions
from pbstore.disk.index.row_names import RowName
from pbstore.errors import IndexCorruptError
from pbstore.manifest import Manifest

log = logging.getLogger(__name__)


def fill(layout: Layout, connection: sqlite3.Connection) -> None:
    """Note all models, their revisions, what is in the trash, and tags; the blocks are noted already."""
    _place_waiting(layout, connection)
    _drop_doubles(layout)
    fsio.fsync_folder(layout.manifests)
    for path in layout.all_manifests():
        loaded = model_rows.load_file(path)
        key = None if loaded is None else key_of(loaded[0].name, path)
        if loaded is None or key is None or key.file != path.name:
            log.warning("manifest %s is damaged: left out", path.name)
        elif key.removed_ms is None or _has_blocks(connection, loaded[0]):
            model_rows.insert_model(connection, loaded[0], path.name, loaded[1], key=key)
    _fill_tags(layout, connection)


def hashes(layout: Layout, connection: sqlite3.Connection) -> dict[str, str]:
    """File -> BLAKE3 of its text, of each manifest and of all tags that the index knows."""
    found = {row.file: row.manifest_hash for row in model_rows.all_models(connection)}
    for model, text in revisions.all_tags(connection):
        found[layout.tags(model).name] = blake3(text.encode()).hexdigest()
    return found


def key_of(model: str, path: Path) -> RowName | None:
    """What the name of a manifest's file says; None if no manifest is called so."""
    stamps = path.name.split(".")[1:-1]
    if not all(stamp.isdigit() and len(stamp) <= 18 for stamp in stamps):
        return None
    numbers = [int(stamp) for stamp in stamps]
    match path.suffix, numbers:
        case (".json", []):
            return RowName(model)
        case (".past", [stamp]):
            return RowName(model, past_ms=stamp)
        case (".trash", [removed]):
            return RowName(model, removed_ms=removed)
        case (".trash", [stamp, removed]):
            return RowName(model, past_ms=stamp, removed_ms=removed)
    return None


def _place_waiting(layout: Layout, connection: sqlite3.Connection) -> None:
    """Put in place what a commit did not come to: where a crash came before it, whole models come in, too.

    The manifest of a model takes the place of another one only where that is kept elsewhere: as an earlier
    revision or in the trash.
    """
    waiting = sorted(layout.waiting_manifests().items(), key=lambda item: item[0].suffix == MANIFEST_SUFFIX)
    for place, path in waiting:
        loaded = None if place.suffix == TAGS_SUFFIX else model_rows.load_file(path)
        if loaded is None or not _has_blocks(connection, loaded[0]):
            continue
        if model_rows.load_file(place) is None or (
            place.suffix == MANIFEST_SUFFIX and _is_kept(layout, place)
        ):
            path.replace(place)


def _is_kept(layout: Layout, place: Path) -> bool:
    text = place.read_bytes()
    others = (*layout.past_manifests(), *layout.trashed_manifests())
    return any(path.read_bytes() == text for path in others if _stem(path) == _stem(place))


def _drop_doubles(layout: Layout) -> None:
    """Take away earlier revisions that were about to go: they are in the trash, or the model itself again."""
    for path in layout.past_manifests():
        text, stem = path.read_bytes(), _stem(path)
        place = layout.manifests / f"{stem}{MANIFEST_SUFFIX}"
        trashed = layout.manifests.glob(f"{path.name.removesuffix(PAST_SUFFIX)}.*{TRASH_SUFFIX}")
        if any(other.exists() and other.read_bytes() == text for other in (place, *trashed)):
            path.unlink()


def _fill_tags(layout: Layout, connection: sqlite3.Connection) -> None:
    for place, path in layout.waiting_manifests().items():
        if place.suffix == TAGS_SUFFIX:
            with suppress(IndexCorruptError):
                revisions.read_tags(path.read_bytes())
                path.replace(place)
    for path in layout.tag_files():
        try:
            model, named = revisions.read_tags(path.read_bytes())
        except IndexCorruptError:
            log.warning("tags %s are damaged: left out", path.name)
            continue
        if path == layout.tags(model):
            database.set_meta(connection, f"tags/{model}", revisions.tags_text(model, named))


def _has_blocks(connection: sqlite3.Connection, manifest: Manifest) -> bool:
    return all(locations.find(connection, block_id) is not None for block_id in manifest.block_ids())


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]
