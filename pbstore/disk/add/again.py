"""Adding under a name that is taken: the same content is no error, other content becomes a revision."""

import sqlite3
from dataclasses import replace

from blake3 import blake3

from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import database, model_rows
from pbstore.disk.models import Models
from pbstore.errors import IntegrityError, ModelExistsError, ModelMissingError
from pbstore.folders.feed import DryRun, FreshBlock, UnwantedError
from pbstore.folders.ingest import Origin, Reading, scan_folder
from pbstore.folders.source import list_source
from pbstore.hashing import BlockId
from pbstore.manifest import Manifest


class SameContentError(Exception):
    """What was read under the writer's lock is what is stored: its files were cut otherwise before."""


def is_seen(models: Models, origin: Origin) -> str:
    """The commit of the model if it was made from this folder as it is, by its files' stamps; else empty.

    Nothing is read: a file whose size, times and inode are as they were has the bytes that it had.
    """
    row = model_rows.find_model(models.connection, origin.name)
    noted = database.get_meta(models.connection, f"seen/{origin.name}")
    if row is None or noted is None:
        return ""
    now = list_source(origin.folder, origin.own, origin.select).fingerprint()
    return row.commit if noted == _seen(now, row.commit, origin) else ""


def note_seen(connection: sqlite3.Connection, origin: Origin, fingerprint: str, commit: str) -> None:
    """Note in the open transaction what a model was made from."""
    database.set_meta(connection, f"seen/{origin.name}", _seen(fingerprint, commit, origin))


def _seen(fingerprint: str, commit: str, origin: Origin) -> str:
    return blake3(
        f"{fingerprint}\0{commit}\0{origin.folder.absolute()}".encode("utf-8", "replace")
    ).hexdigest()


class _OnlyKnown(DryRun):
    """A sink that wants blocks of one model only."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self._known: set[BlockId] = set(manifest.block_ids())

    def keep(self, block: FreshBlock) -> None:
        """See `Sink`."""
        super().keep(block)
        if block.block_id not in self._known:
            raise UnwantedError


def add_again(models: Models, origin: Origin, *, whole: bool = False) -> Reading | None:
    """Read a folder whose model may be there already; None as soon as its content shows to be another one.

    What manifests of earlier versions do not tell comes in; a damaged one is mended. With `whole` all is read
    before the content is judged: the files may have been cut otherwise.

    Raises:
        ModelExistsError: If the content is another one and the manifest that is there is damaged.
    """
    try:
        old = models.manifest(origin.name)
    except ModelMissingError:  # removed meanwhile
        return None
    except IntegrityError:
        return _mended(models, origin)
    listed = {
        file.path: file.stamp.size for file in list_source(origin.folder, origin.own, origin.select).files
    }
    if listed != {entry.path: entry.size_bytes for entry in old.files}:
        return None
    try:
        reading = scan_folder(origin, DryRun() if whole else _OnlyKnown(old))
    except UnwantedError:
        return None
    if not _renew(models, reading.manifest):
        return None
    _note_again(models, origin, reading.fingerprint)
    return reading


def _note_again(models: Models, origin: Origin, fingerprint: str) -> None:
    """Note that a model is what a folder holds, where that is not noted; a store may be for reading only."""
    row = models.model_row(origin.name)
    seen = _seen(fingerprint, row.commit, origin)
    if not models.read_only and database.get_meta(models.connection, f"seen/{origin.name}") != seen:
        with models.writing() as tx:
            note_seen(tx.connection, origin, fingerprint, row.commit)


def refuse_same(models: Models, tx: Transaction, manifest: Manifest) -> None:
    """Raise SameContentError if the model of this name has the same files, however they were cut."""
    row = model_rows.find_model(tx.connection, manifest.name)
    if row is not None and contents(models.manifest_of(row)) == contents(manifest):
        raise SameContentError


def contents(manifest: Manifest) -> list[tuple[str, int, str]]:
    """What a model's files hold, however they were cut: earlier versions cut less."""
    return sorted((entry.path, entry.size_bytes, entry.sha256) for entry in manifest.files)


def _mended(models: Models, origin: Origin) -> Reading:
    reading = scan_folder(origin, DryRun())
    if not any(map(models.mend_manifest, (reading.manifest, _bare(reading.manifest)))):
        raise ModelExistsError(origin.name)
    return reading


def _bare(manifest: Manifest) -> Manifest:
    """A manifest as versions wrote it that knew neither modes nor empty folders."""
    return replace(
        manifest, files=tuple(replace(entry, executable=False) for entry in manifest.files), empty_folders=()
    )


def _renew(models: Models, manifest: Manifest) -> bool:
    """Whether the stored model has these files; their modes and the empty folders then become its own."""
    old = models.manifest(manifest.name)
    if contents(old) != contents(manifest):
        return False
    executable = {entry.path for entry in manifest.files if entry.executable}
    files = tuple(replace(entry, executable=entry.path in executable) for entry in old.files)
    renewed = replace(old, files=files, empty_folders=manifest.empty_folders)
    if renewed != old:
        _refile(models, renewed)
    return True


def _refile(models: Models, manifest: Manifest) -> None:
    """Put another manifest of the same blocks in a model's place."""
    text = manifest.to_json().encode()
    with models.writing() as tx:
        row = models.model_row(manifest.name)
        is_own = model_rows.is_own(tx.connection, row)
        model_rows.set_manifest(tx.connection, row, blake3(text).hexdigest())
        if is_own:
            model_rows.note_own(tx.connection, models.model_row(manifest.name))
        tx.place_manifest(models.layout.manifests / row.file, text, row.place)
