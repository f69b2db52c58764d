"""Manifests and tags as they lie in the folder, for an index that is built anew, whatever a crash left."""

import logging
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from pbstore.disk.files import fsio, manifest_texts, sheaf
from pbstore.disk.files.layout import MANIFEST_SUFFIX, PAST_SUFFIX, TAGS_SUFFIX, TRASH_SUFFIX, Layout
from pbstore.disk.files.sheaf import SHEAF_SUFFIX
from pbstore.disk.index import database, locations, model_rows, revisions, sheaves
from pbstore.disk.index.row_names import RowName
from pbstore.errors import IndexCorruptError, ManifestError
from pbstore.manifest import Manifest

log = logging.getLogger(__name__)


def fill(layout: Layout, connection: sqlite3.Connection) -> None:
    """Note all models, their revisions, what is in the trash, and tags; the blocks are noted already."""
    _place_waiting_sheaves(layout)
    _place_waiting(layout, connection)
    _leave_one_place(layout)
    _drop_doubles(layout)
    fsio.fsync_folder(layout.manifests)
    for path in layout.sheaf_files():
        sheaves.note(connection, path.name, sheaf.read(path).hash)
    for file, place in _all_places(layout).items():
        loaded = _load(place, file)
        key = None if loaded is None else key_of(loaded[0].name, file)
        if loaded is None or key is None or key.file != file:
            log.warning("manifest %s is damaged: left out", file)
        elif key.removed_ms is None or _has_blocks(connection, loaded[0]):
            model_rows.insert_model(connection, loaded[0], place.name, loaded[1], key=key)
    _fill_tags(layout, connection)


def hashes(layout: Layout, connection: sqlite3.Connection) -> dict[str, str]:
    """File -> BLAKE3 of it: manifests with files of their own, sheaves, and tags that the index knows."""
    rows = model_rows.all_models(connection)
    found = {row.file: row.manifest_hash for row in rows if row.place == row.file}
    found |= sheaves.hashes(connection)
    for model, text in revisions.all_tags(connection):
        found[layout.tags(model).name] = blake3(text.encode()).hexdigest()
    return found


def unknown(layout: Layout, known: Collection[str]) -> Iterator[tuple[str, tuple[Manifest, str] | None]]:
    """Manifests that are not among some files, wherever they lie, with their hash; None for damaged ones."""
    for path in layout.all_manifests():
        if path.name not in known:
            loaded = model_rows.load_file(path)
            if loaded is not None or path.exists():
                yield path.name, loaded
    for path, file in manifest_texts.in_sheaves(layout):
        if file not in known and not (layout.manifests / file).exists():
            with suppress(FileNotFoundError):
                yield file, _load(path, file)


def _all_places(layout: Layout) -> dict[str, Path]:
    """What each manifest is called, and the file that it lies in: its own one, else the newest sheaf."""
    places: dict[str, Path] = {}
    for path, file in manifest_texts.in_sheaves(layout):
        places.setdefault(file, path)
    return places | {path.name: path for path in layout.all_manifests()}


def _load(path: Path, file: str) -> tuple[Manifest, str] | None:
    """A manifest and its hash from its own file or from a sheaf; None if it is damaged."""
    if path.name == file:
        return model_rows.load_file(path)
    text = sheaf.read(path).text(file)
    with suppress(ManifestError):
        return None if text is None else (Manifest.from_json(text), blake3(text).hexdigest())
    return None


def _place_waiting_sheaves(layout: Layout) -> None:
    """Put whole new sheaves in place. One that waits for the place of another lacks a manifest: it goes."""
    for place, path in layout.waiting_manifests().items():
        if place.suffix == SHEAF_SUFFIX:
            if not place.exists() and sheaf.read(path).is_whole:
                path.replace(place)
            else:
                path.unlink()


def _leave_one_place(layout: Layout) -> None:
    """Leave each manifest in one place: in a file of its own it is newer than in a sheaf, or the same."""
    held: set[str] = set()
    for path in reversed(layout.sheaf_files()):
        gathered = sheaf.read(path)
        for file in gathered:
            _drop_same(layout.manifests / file, gathered.text(file))
        doubles = {file for file in gathered if file in held or (layout.manifests / file).exists()}
        _cut(path, doubles)
        held.update(gathered)


def _drop_same(path: Path, text: bytes | None) -> None:
    """Take away a file whose manifest lies in a sheaf, or that is damaged where that one is not."""
    if (
        text is not None
        and path.exists()
        and (path.read_bytes() == text or model_rows.load_file(path) is None)
    ):
        path.unlink()


def _cut(path: Path, files: Collection[str]) -> None:
    """Take manifests out of a sheaf."""
    if files:
        left = sheaf.read(path).without(files)
        if left is None:
            path.unlink()
        else:
            fsio.write_file(path, left)


def key_of(model: str, file: str) -> RowName | None:
    """What the name of a manifest's file says; None if no manifest is called so."""
    path = Path(file)
    stamps = file.split(".")[1:-1]
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
    models = _by_model(layout) if waiting else {}
    for place, path in waiting:
        loaded = None if place.suffix in (TAGS_SUFFIX, SHEAF_SUFFIX) else model_rows.load_file(path)
        if loaded is None or not _has_blocks(connection, loaded[0]):
            continue
        there = models.setdefault(_stem(place.name), {})
        text = _text(there[place.name], place.name) if place.name in there else None
        others = [_text(one, file) for file, one in there.items() if file != place.name]
        is_kept = place.suffix == MANIFEST_SUFFIX and text in others
        if text is None or is_kept or not _is_manifest(text):
            path.replace(place)
            there[place.name] = place


def _by_model(layout: Layout) -> dict[str, dict[str, Path]]:
    """What the manifests of a model and of its earlier revisions are called, and where they lie."""
    models: dict[str, dict[str, Path]] = {}
    for file, path in _all_places(layout).items():
        models.setdefault(_stem(file), {})[file] = path
    return models


def _text(path: Path, file: str) -> bytes | None:
    return path.read_bytes() if path.name == file else sheaf.read(path).text(file)


def _is_manifest(text: bytes) -> bool:
    with suppress(ManifestError):
        Manifest.from_json(text)
        return True
    return False


def _drop_doubles(layout: Layout) -> None:
    """Take away earlier revisions that were about to go: they are in the trash, or the model itself again."""
    for stem, places in _by_model(layout).items():
        for file in [file for file in places if file.endswith(PAST_SUFFIX)]:
            text, begin = _text(places[file], file), file.removesuffix(PAST_SUFFIX)
            others = [f"{stem}{MANIFEST_SUFFIX}", *(one for one in places if _is_trashed(one, begin))]
            if any(one in places and _text(places[one], one) == text for one in others):
                _drop(places[file], file)


def _is_trashed(file: str, begin: str) -> bool:
    return file.startswith(f"{begin}.") and file.endswith(TRASH_SUFFIX)


def _drop(path: Path, file: str) -> None:
    """Take a manifest away from where it lies."""
    if path.name == file:
        path.unlink()
    else:
        _cut(path, {file})


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


def _stem(file: str) -> str:
    return file.partition(".")[0]
