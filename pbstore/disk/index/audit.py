"""What changed when: a line of JSON for each change of a model, appended to a file once it is committed.

Triggers of the writer's own connection take note, so that no verb can forget to. The file is for people:
nothing in the store depends on it. A crash between a commit and its lines loses these lines alone.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pbstore.disk.index.row_names import RowName
from pbstore.errors import IndexCorruptError

_COMMIT_DIGITS = 40
_WATCH = """
CREATE TEMP TABLE IF NOT EXISTS changes (
    number INTEGER PRIMARY KEY, old TEXT, new TEXT, hash TEXT, same INTEGER, form TEXT, was_form TEXT,
    pinned INTEGER, was_pinned INTEGER);
CREATE TEMP TRIGGER IF NOT EXISTS model_filed AFTER INSERT ON main.models BEGIN
    INSERT INTO changes VALUES (NULL, NULL, NEW.name, NEW.manifest_hash, 0, NEW.form, '', 0, 0); END;
CREATE TEMP TRIGGER IF NOT EXISTS model_gone AFTER DELETE ON main.models BEGIN
    INSERT INTO changes VALUES (NULL, OLD.name, NULL, OLD.manifest_hash, 0, '', OLD.form, 0, 0); END;
CREATE TEMP TRIGGER IF NOT EXISTS model_changed AFTER UPDATE OF name, form, pinned ON main.models
    WHEN OLD.name != NEW.name OR OLD.form != NEW.form OR OLD.pinned != NEW.pinned BEGIN
    INSERT INTO changes VALUES (NULL, OLD.name, NEW.name, NEW.manifest_hash, OLD.name = NEW.name,
        NEW.form, OLD.form, NEW.pinned, OLD.pinned); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a model."""

    at: float
    """When it was committed, seconds since 1970."""
    what: str
    """`filed`, `set aside` (an earlier revision now), `removed` (to the trash), `restored`, `renamed`,
    `deleted`, `hot`, `cold`, `pinned`, `unpinned`."""
    model: str
    commit: str
    new_name: str = ""
    """Of a model that was renamed."""


def watch(connection: sqlite3.Connection) -> None:
    """Take note of changes from now on; call it before a transaction."""
    connection.executescript(_WATCH)


def take(connection: sqlite3.Connection) -> list[Change]:
    """Changes that were noted since this was last called."""
    columns = "old, new, hash, same, form, was_form, pinned, was_pinned"
    rows = connection.execute(f"SELECT {columns} FROM temp.changes ORDER BY number").fetchall()
    if not rows:
        return []
    connection.execute("DELETE FROM temp.changes")
    now = round(time.time(), 3)
    return [
        Change(at=now, what=what, model=model, commit=str(row[2])[:_COMMIT_DIGITS], new_name=new_name)
        for row in rows
        for what, model, new_name in _told(row)
    ]


def _told(row: tuple[str | None, str | None, str, int, str, str, int, int]) -> Iterator[tuple[str, str, str]]:
    old_name, new_name, _, same, form, was_form, pinned, was_pinned = row
    with suppress(IndexCorruptError):  # a damaged row is told of elsewhere
        old = None if old_name is None else RowName.parse(old_name)
        new = None if new_name is None else RowName.parse(new_name)
        if old is None and new is not None:
            yield "filed", new.model, ""
        elif new is None and old is not None:
            yield "deleted", old.model, ""
        elif old is not None and new is not None and not same:
            yield _moved(old, new), old.model, new.model if new.model != old.model else ""
        elif new is not None:
            if form != was_form:
                yield form, new.model, ""
            if pinned != was_pinned:
                yield "pinned" if pinned else "unpinned", new.model, ""


def _moved(old: RowName, new: RowName) -> str:
    if old.removed_ms is None and new.removed_ms is not None:
        return "removed"
    if old.removed_ms is not None and new.removed_ms is None:
        return "restored"
    return "set aside" if old.past_ms is None and new.past_ms is not None else "renamed"


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
    return tree | ({"new_name": change.new_name} if change.new_name else {})


def read(path: Path) -> Iterator[Change]:
    """All lines, the oldest first; what is no such line is left out."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                tree = json.loads(line)
                yield Change(
                    at=float(tree["at"]),
                    what=str(tree["what"]),
                    model=str(tree["model"]),
                    commit=str(tree["commit"]),
                    new_name=str(tree.get("new_name", "")),
                )
