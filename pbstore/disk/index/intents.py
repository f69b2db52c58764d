"""What becomes of manifest files once a transaction is committed: a killed writer's successor finishes it."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbstore.disk.index import database
from pbstore.errors import IndexCorruptError

INTENT = "intent"
"""Setting that names the manifest files that a writer is about to put in place or to take away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What becomes of manifest files once the open transaction is committed.

    Attributes:
        place: Files that come into their place.
        remove: Files that go.
        file: Files of earlier writers, which filed a model after its manifest was in place.
    """

    place: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    file: tuple[str, ...] = ()


def set_intent(connection: sqlite3.Connection, intent: Intent) -> None:
    """Note it in the open transaction."""
    database.set_meta(connection, INTENT, json.dumps(["change", intent.place, intent.remove]))


def get_intent(connection: sqlite3.Connection) -> Intent | None:
    """What the last writer noted and nobody cleared."""
    text = database.get_meta(connection, INTENT)
    if text is None:
        return None
    try:
        return _as_intent(*json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise IndexCorruptError("the writer's intent makes no sense") from None


def _as_intent(action: str, *rest: Any) -> Intent:  # noqa: ANN401
    if action == "change":
        place, remove = ([Path(file).name for file in files] for files in rest)
        return Intent(place=tuple(place), remove=tuple(remove))
    files = tuple(Path(file).name for file in rest)  # how earlier writers noted one file
    return Intent(remove=files) if action == "remove" else Intent(file=files)
