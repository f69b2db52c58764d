"""Packs in the index: how long each is, and how much of it is alive."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from pbstore.disk.files.pack import PACK_HEADER_BYTES, RECORD_ALIGN
from pbstore.disk.index import database
from pbstore.errors import IndexCorruptError

_LAST = "last_pack"


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack."""

    number: int
    end: int
    """Its length, bytes."""
    kept_bytes: int
    """Live bytes, with headers and padding."""


def rows(connection: sqlite3.Connection) -> list[PackRow]:
    """All packs."""
    found = connection.execute("SELECT number, end, live_bytes + live_overhead FROM packs").fetchall()
    return [PackRow(number, end, PACK_HEADER_BYTES + live) for number, end, live in found]


def ends(connection: sqlite3.Connection) -> dict[int, int]:
    """Pack -> its length, bytes."""
    return dict(connection.execute("SELECT number, end FROM packs").fetchall())


def end_of(connection: sqlite3.Connection, number: int) -> int:
    """Length of one pack, bytes."""
    return int(connection.execute("SELECT end FROM packs WHERE number = ?", (number,)).fetchone()[0])


def newest(connection: sqlite3.Connection) -> tuple[int, int] | None:
    """Number and length of the newest pack."""
    query = "SELECT number, end FROM packs ORDER BY number DESC LIMIT 1"
    row: tuple[int, int] | None = connection.execute(query).fetchone()
    return row


def last_number(connection: sqlite3.Connection) -> int:
    """The highest number that a pack has had."""
    row = newest(connection)
    noted = database.get_meta(connection, _LAST) or "0"
    if not noted.isdigit():
        raise IndexCorruptError(f"the last pack is noted as {noted[:20]!r}")
    return max(row[0] if row else 0, int(noted))


def note_last(connection: sqlite3.Connection, number: int) -> None:
    """Note the highest number that a pack has had."""
    database.set_meta(connection, _LAST, str(number))


def insert(connection: sqlite3.Connection, number: int, end: int) -> None:
    """Note a new pack without blocks."""
    connection.execute("INSERT INTO packs VALUES (?, ?, 0, 0)", (number, end))


def set_end(connection: sqlite3.Connection, number: int, end: int) -> None:
    """Note how long a pack is."""
    connection.execute("UPDATE packs SET end = ? WHERE number = ?", (end, number))


def delete(connection: sqlite3.Connection, number: int) -> None:
    """Forget a pack."""
    connection.execute("DELETE FROM packs WHERE number = ?", (number,))


def check_end(connection: sqlite3.Connection, number: int, end: int) -> None:
    """Raise IndexCorruptError if a block lies behind the end of its pack: one of the rows is damaged."""
    query = "SELECT MAX(payload_offset + stored_bytes) FROM blocks WHERE pack = ?"
    (last,) = connection.execute(query, (number,)).fetchone()
    if last is not None and last > end:
        raise IndexCorruptError(f"pack {number} ends at {end}, but a block at {last}")


def cut(connection: sqlite3.Connection, number: int, first: int) -> int:
    """Note where a pack ends without the records from `first` on that nothing points to; 0 if it goes."""
    query = "SELECT COUNT(*), COALESCE(MAX(payload_offset + stored_bytes), 0) FROM blocks WHERE pack = ?"
    live, live_end = connection.execute(query, (number,)).fetchone()
    end = int(live_end)
    if not live and first <= PACK_HEADER_BYTES:
        delete(connection, number)
        return 0
    if first - end >= RECORD_ALIGN:  # older records that nothing points to, or that cannot be read, stay
        end = first
    set_end(connection, number, end)
    return end


def live_bytes(connection: sqlite3.Connection, number: int) -> int:
    """About what the live records of a pack take; 0 if there is none."""
    query = "SELECT COALESCE(SUM(stored_bytes + payload_offset - offset), 0) FROM blocks WHERE pack = ?"
    return int(connection.execute(query, (number,)).fetchone()[0])


def bytes_between_records(connection: sqlite3.Connection, number: int) -> int:
    """Bytes from the ends of a pack's payloads to where the next records may begin."""
    query = "SELECT COALESCE(SUM(-(payload_offset + stored_bytes) & ?), 0) FROM blocks WHERE pack = ?"
    return int(connection.execute(query, (RECORD_ALIGN - 1, number)).fetchone()[0])


def counted(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All packs: number, end, live bytes and overhead as noted; then the two as counted, and the last end.

    What is noted of a pack without a row is None.
    """
    return connection.execute(
        "SELECT number, end, live_bytes, live_overhead, COALESCE(SUM(stored_bytes), 0),"
        " COALESCE(SUM(payload_offset - offset), 0), COALESCE(MAX(payload_offset + stored_bytes), 0) FROM"
        " (SELECT number FROM packs UNION SELECT pack FROM blocks)"
        " LEFT JOIN packs USING (number) LEFT JOIN blocks ON pack = number GROUP BY number"
    ).fetchall()


def count(connection: sqlite3.Connection) -> None:
    """Count the live bytes of each pack anew from the rows of its blocks."""
    wrong = [
        (live, overhead, number)
        for number, _, *was, live, overhead, _ in counted(connection)
        if was != [live, overhead]
    ]
    connection.executemany("UPDATE packs SET live_bytes = ?, live_overhead = ? WHERE number = ?", wrong)
