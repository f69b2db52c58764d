"""Sheaves of manifests in the index: the hash of each, and which manifests have files of their own."""

import sqlite3
from pathlib import Path

from pbstore.disk.files.sheaf import sheaf_file
from pbstore.disk.index import database

_PREFIX, _BEHIND = "sheaf/", "sheaf0"
_LAST = "last_sheaf"


def hashes(connection: sqlite3.Connection) -> dict[str, str]:
    """Sheaf's file -> BLAKE3 of it."""
    query = "SELECT key, value FROM meta WHERE key >= ? AND key < ?"
    rows = connection.execute(query, (_PREFIX, _BEHIND)).fetchall()
    return {str(key).removeprefix(_PREFIX): str(value) for key, value in rows}


def are_there(connection: sqlite3.Connection) -> bool:
    """Whether the store has a sheaf."""
    query = "SELECT 1 FROM meta WHERE key >= ? AND key < ? LIMIT 1"
    return connection.execute(query, (_PREFIX, _BEHIND)).fetchone() is not None


def note(connection: sqlite3.Connection, file: str, digest: str | None) -> None:
    """Note what a sheaf is; None if it goes."""
    database.set_meta(connection, f"{_PREFIX}{file}", digest)


def next_file(connection: sqlite3.Connection) -> str:
    """A name that no sheaf has had while this index lasted; it is noted as taken."""
    noted = database.get_meta(connection, _LAST) or "0"
    known = [int(Path(file).stem) for file in hashes(connection)]
    number = max([int(noted) if noted.isdigit() else 0, *known]) + 1
    database.set_meta(connection, _LAST, str(number))
    return sheaf_file(number)


def put_into(connection: sqlite3.Connection, file: str, rows: list[str]) -> None:
    """Note that the manifests of some rows, by name, lie in a sheaf."""
    connection.executemany("UPDATE models SET file = ? WHERE name = ?", [(file, name) for name in rows])


def places(connection: sqlite3.Connection) -> set[str]:
    """Files in which the manifests of all models lie, also of those in the trash."""
    return {file for (file,) in connection.execute("SELECT file FROM models").fetchall()}


def loose(connection: sqlite3.Connection) -> list[str]:
    """Names of the rows whose manifests have files of their own."""
    query = "SELECT name FROM models WHERE file NOT GLOB '*.sheaf'"
    return [str(name) for (name,) in connection.execute(query).fetchall()]


def held(connection: sqlite3.Connection) -> dict[str, int]:
    """Sheaf's file -> rows whose manifests lie in it."""
    query = "SELECT file, COUNT(*) FROM models WHERE file GLOB '*.sheaf' GROUP BY file"
    return {str(file): int(count) for file, count in connection.execute(query).fetchall()}
