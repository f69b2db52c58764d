"""What changed when: a line of JSON for each change of a model or the store, appended once it is committed.

Triggers of the writer's own connection take note, so that no verb can forget to. The file is for people:
nothing in the store depends on it. A crash between a commit and its lines loses these lines alone.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbstore.disk.index.row_names import RowName
from pbstore.errors import IndexCorruptError

_COMMIT_DIGITS = 40
_TAGS = "tags"
_WATCH = """
CREATE TEMP TABLE IF NOT EXISTS changes (
    number INTEGER PRIMARY KEY, old TEXT, new TEXT, hash TEXT, same INTEGER, form TEXT, was_form TEXT,
    pinned INTEGER, was_pinned INTEGER, priority REAL, was_priority REAL);
CREATE TEMP TABLE IF NOT EXISTS notes (
    number INTEGER PRIMARY KEY, behind INTEGER, what TEXT, model TEXT, hash TEXT, new_name TEXT, detail TEXT);
CREATE TEMP TRIGGER IF NOT EXISTS model_filed AFTER INSERT ON main.models BEGIN
    INSERT INTO changes VALUES (NULL, NULL, NEW.name, NEW.manifest_hash, 0, NEW.form, '', 0, 0, 0, 0); END;
CREATE TEMP TRIGGER IF NOT EXISTS model_gone AFTER DELETE ON main.models BEGIN
    INSERT INTO changes VALUES (NULL, OLD.name, NULL, OLD.manifest_hash, 0, '', OLD.form, 0, 0, 0, 0); END;
CREATE TEMP TRIGGER IF NOT EXISTS model_changed AFTER UPDATE OF name, form, pinned, priority ON main.models
    WHEN OLD.name != NEW.name OR OLD.form != NEW.form OR OLD.pinned != NEW.pinned
        OR OLD.priority != NEW.priority BEGIN
    INSERT INTO changes VALUES (NULL, OLD.name, NEW.name, NEW.manifest_hash, OLD.name = NEW.name,
        NEW.form, OLD.form, NEW.pinned, OLD.pinned, NEW.priority, OLD.priority); END;
CREATE TEMP TRIGGER IF NOT EXISTS tags_set BEFORE INSERT ON main.meta
    WHEN NEW.key >= 'tags/' AND NEW.key < 'tags0' BEGIN
    INSERT INTO notes VALUES (NULL, (SELECT MAX(number) FROM changes), 'tags', substr(NEW.key, 6),
        (SELECT value FROM main.meta WHERE key = NEW.key), NEW.value, ''); END;
CREATE TEMP TRIGGER IF NOT EXISTS tags_gone AFTER DELETE ON main.meta
    WHEN OLD.key >= 'tags/' AND OLD.key < 'tags0' BEGIN
    INSERT INTO notes VALUES (NULL, (SELECT MAX(number) FROM changes), 'tags', substr(OLD.key, 6),
        OLD.value, NULL, ''); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a model, or of the store."""

    at: float
    """When it was committed, seconds since 1970."""
    what: str
    """`filed`, `set aside` (an earlier revision now), `removed` (to the trash), `restored`, `renamed`,
    `deleted`, `hot`, `cold`, `pinned`, `unpinned`, `priority`, `copied`, `tagged`, `untagged`; of the store
    `collected`, `trash days`, `index built anew`, `index from its snapshot`."""
    model: str
    """Empty of a change of the store."""
    commit: str
    new_name: str = ""
    """Of a model that was renamed or copied."""
    detail: str = ""
    """The tag, the priority, what was collected."""


def watch(connection: sqlite3.Connection) -> None:
    """Take note of changes from now on; call it before a transaction."""
    connection.executescript(_WATCH)


def take(connection: sqlite3.Connection) -> list[Change]:
    """Changes that were noted since this was last called."""
    columns = "number, old, new, hash, same, form, was_form, pinned, was_pinned, priority, was_priority"
    rows = connection.execute(f"SELECT {columns} FROM temp.changes ORDER BY number").fetchall()
    query = "SELECT COALESCE(behind, 0), what, model, hash, new_name, detail FROM temp.notes ORDER BY number"
    notes = connection.execute(query).fetchall()
    if not rows and not notes:
        return []
    connection.execute("DELETE FROM temp.changes")
    connection.execute("DELETE FROM temp.notes")
    now = round(time.time(), 3)
    found = [(int(row[0]), change) for row in rows for change in _changes(now, *row[1:])]
    found += [(int(behind), change) for behind, *note in notes for change in _noted(now, *note)]
    return [change for _, change in sorted(found, key=lambda one: one[0])]


def note(
    connection: sqlite3.Connection,
    what: str,
    model: str = "",
    commit: str = "",
    new_name: str = "",
    detail: str = "",
) -> None:
    """Take note, in the open transaction, of what no row of a model tells."""
    values = (what, model, commit, new_name, detail)
    query = "INSERT INTO temp.notes VALUES (NULL, (SELECT MAX(number) FROM temp.changes), ?, ?, ?, ?, ?)"
    connection.execute(query, values)


def _noted(
    now: float, what: str, model: str, hash_: str | None, new: str | None, detail: str
) -> Iterator[Change]:
    if what != _TAGS:
        yield Change(at=now, what=what, model=model, commit=hash_ or "", new_name=new or "", detail=detail)
        return
    before, after = _tags(hash_), _tags(new)
    for tag in sorted(before.keys() | after.keys()):
        if before.get(tag) != after.get(tag):
            verb = "tagged" if tag in after else "untagged"
            yield Change(at=now, what=verb, model=model, commit=after.get(tag) or before[tag], detail=tag)


def _tags(text: str | None) -> dict[str, str]:
    """Tag -> commit, of a row of tags; none if it is damaged, which is told of elsewhere."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        return {str(tag): str(commit) for tag, commit in json.loads(text or "{}").get("tags", {}).items()}
    return {}


def _changes(now: float, *row: Any) -> Iterator[Change]:  # noqa: ANN401
    commit = str(row[2])[:_COMMIT_DIGITS]
    for what, model, new_name, detail in _told(row):
        yield Change(at=now, what=what, model=model, commit=commit, new_name=new_name, detail=detail)


def _told(row: Sequence[Any]) -> Iterator[tuple[str, str, str, str]]:
    old_name, new_name, _, same, form, was_form, pinned, was_pinned, priority, was_priority = row
    with suppress(IndexCorruptError):  # a damaged row is told of elsewhere
        old = None if old_name is None else RowName.parse(old_name)
        new = None if new_name is None else RowName.parse(new_name)
        if old is None and new is not None:
            yield "filed", new.model, "", ""
        elif new is None and old is not None:
            yield "deleted", old.model, "", ""
        elif old is not None and new is not None and not same:
            yield _moved(old, new), old.model, new.model if new.model != old.model else "", ""
        elif new is not None:
            if form != was_form:
                yield form, new.model, "", ""
            if pinned != was_pinned:
                yield "pinned" if pinned else "unpinned", new.model, "", ""
            if priority != was_priority:
                yield "priority", new.model, "", f"{priority:g}"


def _moved(old: RowName, new: RowName) -> str:
    if old.removed_ms is None and new.removed_ms is not None:
        return "removed"
    if old.removed_ms is not None and new.removed_ms is None:
        return "restored"
    return "set aside" if old.past_ms is None and new.past_ms is not None else "renamed"


def of_store(what: str) -> Change:
    """A change of the store, now."""
    return Change(at=round(time.time(), 3), what=what, model="", commit="")


def append(path: Path, changes: list[Change]) -> None:
    """Append lines; what cannot be written is lost, and no reason to fail."""
    if not changes:
        return
    text = "".join(f"{json.dumps(_tree(change))}\n" for change in changes).encode()
    with suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)


def _tree(change: Change) -> dict[str, object]:
    tree: dict[str, object] = {
        "at": change.at,
        "what": change.what,
        "model": change.model,
        "commit": change.commit,
    }
    rare = {"new_name": change.new_name, "detail": change.detail}
    return tree | {key: text for key, text in rare.items() if text}


def read(path: Path, start: int = 0) -> Iterator[Change]:
    """All lines from a place on, the oldest first; what is no such line is left out."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                tree = json.loads(line)
                yield Change(
                    at=float(tree["at"]),
                    what=str(tree["what"]),
                    model=str(tree["model"]),
                    commit=str(tree["commit"]),
                    new_name=str(tree.get("new_name", "")),
                    detail=str(tree.get("detail", "")),
                )
