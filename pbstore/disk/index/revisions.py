"""Revisions of models in the index: which there are, what a name with a revision means, and tags.

A model is asked for as `NAME` or `NAME@REVISION`; a revision is `main`, a tag, the first digits of a commit
(four at least), or `~N`, the N-th before the one that the name means.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from pbstore.disk.index import database, model_rows
from pbstore.disk.index.model_rows import ModelRow
from pbstore.disk.index.row_names import IN_TRASH, IS_PAST, PAST
from pbstore.errors import IndexCorruptError, ManifestError, ModelMissingError, RevisionMissingError
from pbstore.manifest import check_name

MAIN = "main"
"""The revision that a name means by itself."""
AT = "@"
"""Stands between a model's name and a revision; no name has it."""
_COMMIT = re.compile(r"[0-9a-f]{4,40}")
_BEFORE = re.compile(r"~([0-9]{1,6})")
_FORMAT = "pbstore-tags"
_NEWEST = 1 << 62


def split_address(address: str) -> tuple[str, str]:
    """Name and revision, `main` if none is given."""
    name, at, revision = address.partition(AT)
    return name, revision if at else MAIN


def of_model(connection: sqlite3.Connection, model: str) -> list[ModelRow]:
    """Rows of all revisions of a model, the newest first: what the name means by itself, if it means one."""
    if not model_rows.is_text(model):
        return []
    where, values = "name = ? OR (name >= ? AND name < ?)", (model, f"{PAST}{model}:", f"{PAST}{model};")
    rows = model_rows.rows_where(connection, where, values)
    return sorted(rows, key=lambda row: -(row.key.past_ms or _NEWEST))


def earlier(connection: sqlite3.Connection) -> list[ModelRow]:
    """Rows of all earlier revisions, those that were made first first."""
    rows = model_rows.rows_where(connection, IS_PAST)
    return sorted(rows, key=lambda row: row.key.past_ms or 0)


def find(connection: sqlite3.Connection, address: str) -> ModelRow:
    """The row that a name, with or without a revision, means.

    Raises:
        ModelMissingError: If there is no such model.
        RevisionMissingError: If there is, and no such revision, or several begin so.
    """
    name, revision = split_address(address)
    if revision == MAIN:
        row = model_rows.find_model(connection, name)
        if row is None:
            raise ModelMissingError(name)
        return row
    rows = of_model(connection, name)
    if not rows:
        raise ModelMissingError(name)
    return _of_rows(rows, name, revision, tags(connection, name))


def _of_rows(rows: list[ModelRow], name: str, revision: str, known: Mapping[str, str]) -> ModelRow:
    if before := _BEFORE.fullmatch(revision):
        found = rows[int(before[1]) :][:1]
    else:
        start = known.get(revision) or (revision if _COMMIT.fullmatch(revision) else None)
        found = [row for row in rows if start is not None and row.commit.startswith(start)]
    if len({row.commit for row in found}) != 1:
        raise RevisionMissingError(name, revision)
    return found[0]


def tags(connection: sqlite3.Connection, model: str) -> dict[str, str]:
    """Tag -> commit, of a model's tags."""
    text = database.get_meta(connection, f"tags/{model}")
    return {} if text is None else read_tags(text)[1]


def all_tags(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Models with tags, and the text of these."""
    query = "SELECT key, value FROM meta WHERE key >= 'tags/' AND key < 'tags0'"
    for key, text in connection.execute(query).fetchall():
        yield str(key).removeprefix("tags/"), str(text)


def note_tags(connection: sqlite3.Connection, model: str, named: Mapping[str, str]) -> bytes | None:
    """Note all tags of a model in the open transaction; the text of the file that tells of them, or None."""
    text = tags_text(model, named) if named else None
    database.set_meta(connection, f"tags/{model}", text)
    return None if text is None else text.encode()


def tags_text(model: str, named: Mapping[str, str]) -> str:
    """A model's tags as JSON."""
    tree = {"format": _FORMAT, "version": 1, "name": model, "tags": dict(named)}
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def read_tags(text: str | bytes) -> tuple[str, dict[str, str]]:
    """A model's name and its tags from JSON.

    Raises:
        IndexCorruptError: If it is no such JSON.
    """
    try:
        tree = json.loads(text)
        if tree["format"] != _FORMAT or tree["version"] != 1:
            raise ValueError("of another format")
        named = {check_tag(tag): str(commit) for tag, commit in tree["tags"].items()}
        if not all(_COMMIT.fullmatch(commit) for commit in named.values()):
            raise ValueError("a tag names no commit")
        return check_name(tree["name"]), named
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise IndexCorruptError("the tags of a model make no sense") from None


def check_tag(tag: object) -> str:
    """Check a tag's name: as a model's, and not `main`.

    Raises:
        ValueError: If it is none.
    """
    try:
        checked = check_name(tag)
    except ManifestError:
        raise ManifestError("tag", f"expected letters, digits, . _ - and /, got {str(tag)[:80]!r}") from None
    if checked == MAIN:
        raise ManifestError("tag", "`main` is what the name means by itself")
    return checked


def trashed_models(connection: sqlite3.Connection) -> list[ModelRow]:
    """Rows of what is in the trash, the oldest first, a model behind its earlier revisions."""
    return oldest_first(model_rows.rows_where(connection, IN_TRASH))


def oldest_first(rows: Iterable[ModelRow]) -> list[ModelRow]:
    """Rows of the trash, what was removed first first, a model behind its earlier revisions."""
    return sorted(rows, key=lambda row: (row.removed_ms or 0, row.key.past_ms is None, row.name))


def in_trash(connection: sqlite3.Connection, model: str) -> list[ModelRow]:
    """Rows of the trash that are of a model or of its earlier revisions, what was removed last last."""
    if not model_rows.is_text(model):
        return []
    where = f"{IN_TRASH} AND (substr(name, -length(?)) = ? OR instr(name, ?) > 0)"
    itself, earlier = f":{model}", f":{PAST}{model}:"
    rows = model_rows.rows_where(connection, where, (itself, itself, earlier))
    return oldest_first(row for row in rows if row.key.model == model)
