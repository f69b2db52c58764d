"""Models in the index: rows, reference counts, and the manifest files beside it."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from pbstore.blocks import RAW
from pbstore.disk.files import manifest_texts, sheaf
from pbstore.disk.files.layout import Layout
from pbstore.disk.index import database, locations
from pbstore.disk.index.row_names import IN_TRASH, LIVE, RowName, own_name
from pbstore.errors import FileCorruptError, IndexCorruptError, ManifestError, ManifestLostError
from pbstore.hashing import BlockId
from pbstore.manifest import MAX_MANIFEST_BYTES, Manifest

HOT, COLD = "hot", "cold"
"""Forms of a model: raw blocks that can be mapped, or the smallest blocks."""
COMMIT_DIGITS = 40
SHORT_DIGITS = 12
"""Digits of a revision: all of them, and as many as people are shown."""
_UNCOUNTED = "uncounted"
"""Setting that is there while blocks may count models that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """What the index knows of a model."""

    name: str
    file: str
    """What its manifest's file is called, or would be if it had one of its own."""
    place: str
    """The file that the manifest lies in: that one, or a sheaf."""
    manifest_hash: str
    weights: str
    raw_bytes: int
    num_files: int
    num_blocks: int
    base: str | None
    form: str
    pinned: bool
    priority: float
    uses: int
    used_at: float
    added_at: float

    @property
    def key(self) -> RowName:
        """What its name says."""
        return RowName.parse(self.name)

    @property
    def removed_ms(self) -> int | None:
        """When the model was put into the trash, milliseconds since 1970; None if it was not."""
        return self.key.removed_ms

    @property
    def commit(self) -> str:
        """The revision: 40 hex digits, from the manifest alone, so that it is the same in every store."""
        return self.manifest_hash[:COMMIT_DIGITS]

    @property
    def address(self) -> str:
        """How it is asked for: a model's name, with the revision if that is an earlier one."""
        key = self.key
        return key.model if key.past_ms is None else f"{key.model}@{self.commit[:SHORT_DIGITS]}"

    @property
    def title(self) -> str:
        """The model's own name, for people."""
        return self.address if self.removed_ms is None else f"{self.address} (in the trash)"


_COLUMNS = (
    "name, file, manifest_hash, weights, raw_bytes, num_files, num_blocks, base, form, pinned, priority, "
    "uses, used_at, added_at"
)


def find_model(connection: sqlite3.Connection, name: str) -> ModelRow | None:
    """A model's row, None if there is no such model."""
    if not is_text(name):
        return None
    return next(iter(rows_where(connection, "name = ?", (name,))), None)


def is_text(name: str) -> bool:
    """Whether a name can be one: bytes of a command line that are no UTF-8 come as halves of pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def rows_where(connection: sqlite3.Connection, where: str, values: Sequence[object] = ()) -> list[ModelRow]:
    """Rows that meet a condition, by name."""
    query = f"SELECT {_COLUMNS} FROM models WHERE {where} ORDER BY name"
    return [_row(row) for row in connection.execute(query, values).fetchall()]


def all_models(connection: sqlite3.Connection) -> list[ModelRow]:
    """Rows of all models and revisions, also of those in the trash, whose blocks are needed as well."""
    return rows_where(connection, "1")


def live_models(connection: sqlite3.Connection) -> list[ModelRow]:
    """Rows of the models as they are, by name: no earlier revisions, and not those in the trash."""
    return rows_where(connection, LIVE)


def read_manifest(layout: Layout, row: ModelRow) -> Manifest:
    """A model's manifest, checked against the hash in the index.

    Raises:
        FileCorruptError: If the file is not the one that was filed.
        ManifestLostError: If there is none, and the index still knows the model.
    """
    return read_both(layout, row)[0]


def read_both(layout: Layout, row: ModelRow) -> tuple[Manifest, bytes]:
    """`read_manifest`, and the text that it was written as."""
    text = read_text(layout, row)
    manifest = Manifest.from_json(text)
    if manifest.name != own_name(row.name):
        raise FileCorruptError(row.title, "its manifest", row.manifest_hash, row.manifest_hash)
    return manifest, text


def read_text(layout: Layout, row: ModelRow) -> bytes:
    """The text of a model's manifest; only its hash is checked. Raises as `read_manifest` does."""
    actual = None
    for text in manifest_texts.of_file(layout, row.file, row.place):
        actual = blake3(text).hexdigest()
        if actual == row.manifest_hash:
            return text
    if actual is None:
        raise ManifestLostError(row.title)
    raise FileCorruptError(row.title, "its manifest", row.manifest_hash, actual)


def insert_model(
    connection: sqlite3.Connection,
    manifest: Manifest,
    file: str,
    manifest_hash: str,
    form: str | None = None,
    key: RowName | None = None,
) -> None:
    """Note a model in the open transaction; its form shows in its blocks if it is not given.

    `key` is that of an earlier revision, or of a model in the trash.
    """
    ids = manifest.block_ids()
    form = form or _form_of(connection, ids)
    key = key or RowName(manifest.name)
    connection.execute(
        "INSERT INTO models (name, file, manifest_hash, weights, raw_bytes, num_files, num_blocks, base,"
        " base_weights, form, added_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            str(key),
            file,
            manifest_hash,
            manifest.weights,
            manifest.raw_bytes,
            len(manifest.files),
            len(ids),
            manifest.base.name if manifest.base else None,
            manifest.base.weights if manifest.base else None,
            form,
            time.time() if key.past_ms is None else key.past_ms / 1000,
        ),
    )
    change_refs(connection, ids, 1, int(form == HOT))
    if key.removed_ms is None:
        count_files(connection, manifest)


def change_refs(connection: sqlite3.Connection, ids: Sequence[BlockId], refs: int, hot_refs: int) -> None:
    """Count more references to some blocks, each once, and more of hot models."""
    for keys in locations.key_batches(ids):
        connection.execute(
            f"UPDATE blocks SET refs = refs + {refs}, hot_refs = hot_refs + {hot_refs}"
            f" WHERE id IN ({database.placeholders(len(keys))})",
            keys,
        )


def set_manifest(connection: sqlite3.Connection, row: ModelRow, manifest_hash: str) -> None:
    """Note that a model has another manifest, of the same blocks, in a file of its own."""
    query = "UPDATE models SET manifest_hash = ?, file = ? WHERE name = ?"
    connection.execute(query, (manifest_hash, row.file, row.name))


_TELLING = 16
"""Digits of a manifest's hash that tell one manifest of a model from another."""


def note_own(connection: sqlite3.Connection, row: ModelRow) -> None:
    """Note that the sha256 of a model's files and the ids of its blocks were made from the same bytes."""
    database.set_meta(connection, f"own/{row.name}", row.manifest_hash[:_TELLING])


def is_own(connection: sqlite3.Connection, row: ModelRow) -> bool:
    """Whether `note_own` was called for this model as it is."""
    noted = database.get_meta(connection, f"own/{row.name}")  # earlier versions noted the whole hash
    return noted in (row.manifest_hash[:_TELLING], row.manifest_hash)


def count_files(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Count one reference for each file of a model."""
    connection.executemany(
        "INSERT INTO files VALUES (?, ?, 1) ON CONFLICT (sha256) DO UPDATE SET refs = refs + 1",
        [(bytes.fromhex(entry.sha256), entry.size_bytes) for entry in manifest.files],
    )


def drop_model(
    connection: sqlite3.Connection, manifest: Manifest, row: ModelRow, *, counted: bool = True
) -> None:
    """Forget a model, or one in the trash, and what it refers to; blocks' counts may wait for a recount."""
    if counted:
        change_refs(connection, manifest.block_ids(), -1, -int(row.form == HOT))
    else:
        note_uncounted(connection, True)
    if row.removed_ms is None:
        discount_files(connection, manifest)
    connection.execute("DELETE FROM models WHERE name = ?", (row.name,))
    _forget_notes(connection, row.name)


def note_uncounted(connection: sqlite3.Connection, waiting: bool) -> None:
    """Note whether blocks may count models that are gone, until a recount."""
    if waiting != has_uncounted(connection):
        database.set_meta(connection, _UNCOUNTED, "1" if waiting else None)


def has_uncounted(connection: sqlite3.Connection) -> bool:
    """Whether blocks may count models that are gone."""
    return database.get_meta(connection, _UNCOUNTED) is not None


def discount_files(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Take away one reference for each file of a model."""
    files = [(bytes.fromhex(entry.sha256),) for entry in manifest.files]
    connection.executemany("UPDATE files SET refs = refs - 1 WHERE sha256 = ?", files)
    connection.executemany("DELETE FROM files WHERE sha256 = ? AND refs <= 0", files)


def rename_model(connection: sqlite3.Connection, row: ModelRow, name: str, path: Path, text: bytes) -> None:
    """Give a model's row another name and manifest; what was noted of its files stays true."""
    manifest_hash = blake3(text).hexdigest()
    own = is_own(connection, row)
    connection.execute(
        "UPDATE models SET name = ?, file = ?, manifest_hash = ? WHERE name = ?",
        (name, path.name, manifest_hash, row.name),
    )
    _forget_notes(connection, row.name)
    if own:
        database.set_meta(connection, f"own/{name}", manifest_hash[:_TELLING])


def _forget_notes(connection: sqlite3.Connection, name: str) -> None:
    """Forget what was noted of a row's files and of the folder that they came from."""
    for kind in ("own", "seen"):
        database.set_meta(connection, f"{kind}/{name}", None)


def set_form(connection: sqlite3.Connection, manifest: Manifest, form: str) -> None:
    """Call a model hot or cold; the blocks themselves are the caller's concern."""
    change_refs(connection, manifest.block_ids(), 0, {HOT: 1, COLD: -1}[form])
    connection.execute("UPDATE models SET form = ? WHERE name = ?", (form, manifest.name))


def _form_of(connection: sqlite3.Connection, ids: Iterable[BlockId]) -> str:
    query = "SELECT codec FROM blocks WHERE id = ?"
    rows = (connection.execute(query, (bytes.fromhex(block_id),)).fetchone() for block_id in ids)
    return HOT if all(row is None or row[0] == RAW for row in rows) else COLD


def load_file(path: Path) -> tuple[Manifest, str] | None:
    """A manifest and its hash from a file; None if the file is not a good one."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return None
        text = path.read_bytes()
        return Manifest.from_json(text), blake3(text).hexdigest()
    except (ManifestError, FileNotFoundError):
        return None


def says_other(row: ModelRow, manifest: Manifest) -> bool:
    """Whether a model's row says other things of it than its manifest."""
    base = manifest.base.name if manifest.base else None
    said = (row.weights, row.raw_bytes, row.num_files, row.num_blocks, row.base)
    return said != (
        manifest.weights,
        manifest.raw_bytes,
        len(manifest.files),
        len(manifest.block_ids()),
        base,
    )


_TYPES = {"name": str, "manifest_hash": str, "weights": str, "raw_bytes": int, "form": str, "uses": int}


def _row(row: tuple[object, ...]) -> ModelRow:
    """A model's row; its file is the one that belongs to its name, whatever a damaged row says."""
    names = _COLUMNS.replace(" ", "").split(",")
    fields = dict(zip(names, row, strict=True))
    if not all(isinstance(fields[name], kind) for name, kind in _TYPES.items()):
        raise IndexCorruptError("a model's row has impossible fields")
    place, fields["file"] = fields["file"], RowName.parse(str(fields["name"])).file
    fields["place"] = place if sheaf.is_sheaf(place) else fields["file"]
    return ModelRow(**{**fields, "pinned": bool(fields["pinned"])})  # type: ignore[arg-type]


def names(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Names of the models that are not in the trash, sorted."""
    query = f"SELECT name FROM models WHERE {LIVE} ORDER BY name"
    return tuple(str(name) for (name,) in connection.execute(query).fetchall())


def with_weights(connection: sqlite3.Connection, weights: str) -> list[str]:
    """Addresses of the models that are filed with these weights, sorted, earlier revisions last."""
    rows = rows_where(connection, f"weights = ? AND NOT ({IN_TRASH})", (weights,))
    return [row.address for row in sorted(rows, key=lambda row: row.key.past_ms or 0)]


def bound_to(connection: sqlite3.Connection, weights: str) -> list[str]:
    """Addresses of the models that are bound to these weights, sorted."""
    rows = rows_where(connection, f"base_weights = ? AND NOT ({IN_TRASH})", (weights,))
    return sorted(row.address for row in rows)


def files(connection: sqlite3.Connection) -> set[str]:
    """What the manifests of all models are called, wherever they lie, also of those in the trash."""
    rows = connection.execute("SELECT name FROM models").fetchall()
    return {RowName.parse(str(name)).file for (name,) in rows}


def delete_row(connection: sqlite3.Connection, name: str) -> None:
    """Forget a model whose manifest cannot be read; the counts are the caller's concern."""
    connection.execute("DELETE FROM models WHERE name = ?", (name,))


def pin(connection: sqlite3.Connection, name: str, pinned: bool, priority: float) -> None:
    """Keep a model from eviction, or no longer."""
    values = (int(pinned), priority, name)
    connection.execute("UPDATE models SET pinned = ?, priority = ? WHERE name = ?", values)


def inherit_taste(connection: sqlite3.Connection, name: str, before: ModelRow) -> None:
    """Give a model the pin, priority and uses of its revision before."""
    pin(connection, name, before.pinned, before.priority)
    query = "UPDATE models SET uses = ?, used_at = ? WHERE name = ?"
    connection.execute(query, (before.uses, before.used_at, name))


def forget_counts(connection: sqlite3.Connection) -> None:
    """Set all counts of references to zero."""
    connection.execute("UPDATE blocks SET refs = 0, hot_refs = 0")
    connection.execute("DELETE FROM files")


def file_refs(connection: sqlite3.Connection) -> dict[bytes, int]:
    """Key of a file's sha256 -> models that have it."""
    return dict(connection.execute("SELECT sha256, refs FROM files").fetchall())


def totals(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Models, raw bytes of all their revisions, and those of their different files; without the trash."""
    (count,) = connection.execute(f"SELECT COUNT(*) FROM models WHERE {LIVE}").fetchone()
    query = f"SELECT COALESCE(SUM(raw_bytes), 0) FROM models WHERE NOT ({IN_TRASH})"
    (raw,) = connection.execute(query).fetchone()
    (different,) = connection.execute("SELECT COALESCE(SUM(size_bytes), 0) FROM files").fetchone()
    return count, raw, different


_TASTE = "pinned, priority, uses, used_at, added_at, name"


def read_taste(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Pins, priorities and use counts, which no manifest tells."""
    return connection.execute(f"SELECT {_TASTE} FROM models").fetchall()


def write_taste(connection: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    """Set what `read_taste` gave, of the models that are there."""
    query = "UPDATE models SET pinned = ?, priority = ?, uses = ?, used_at = ?, added_at = ? WHERE name = ?"
    connection.executemany(query, rows)
