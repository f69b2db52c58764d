"""The index as a file: opened, kept short, and its small settings. It can be built again at any time."""

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pbstore.disk.files import fsio, room
from pbstore.disk.files.layout import Layout
from pbstore.disk.index.sqlite import FAILURES, Connection, named
from pbstore.errors import StoreLockedError

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (
    number INTEGER PRIMARY KEY, end INTEGER NOT NULL, live_bytes INTEGER NOT NULL,
    live_overhead INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    id BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL, payload_offset INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL, stored_bytes INTEGER NOT NULL, codec TEXT NOT NULL, checksum BLOB NOT NULL,
    refs INTEGER NOT NULL DEFAULT 0, hot_refs INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS needs (
    block BLOB NOT NULL, position INTEGER NOT NULL, base BLOB NOT NULL,
    PRIMARY KEY (block, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS needs_base ON needs (base);
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY, file TEXT NOT NULL, manifest_hash TEXT NOT NULL, weights TEXT NOT NULL,
    raw_bytes INTEGER NOT NULL, num_files INTEGER NOT NULL, num_blocks INTEGER NOT NULL,
    base TEXT, base_weights TEXT, form TEXT NOT NULL DEFAULT 'hot', pinned INTEGER NOT NULL DEFAULT 0,
    priority REAL NOT NULL DEFAULT 0, uses INTEGER NOT NULL DEFAULT 0, used_at REAL NOT NULL DEFAULT 0,
    added_at REAL NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS models_weights ON models (weights);
CREATE TABLE IF NOT EXISTS tensors (
    number INTEGER PRIMARY KEY, block BLOB NOT NULL UNIQUE, dtype TEXT NOT NULL, shape TEXT NOT NULL,
    sketch BLOB, tried INTEGER NOT NULL DEFAULT 0, name INTEGER, probe BLOB);
CREATE INDEX IF NOT EXISTS tensors_untried ON tensors (number) WHERE tried = 0;
CREATE INDEX IF NOT EXISTS tensors_name ON tensors (name, number) WHERE name IS NOT NULL;
CREATE TABLE IF NOT EXISTS marks (
    mark INTEGER NOT NULL, tensor INTEGER NOT NULL, PRIMARY KEY (mark, tensor)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS casts (
    key INTEGER NOT NULL, tensor INTEGER NOT NULL, PRIMARY KEY (key, tensor)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS casts_tensor ON casts (tensor);
CREATE TABLE IF NOT EXISTS pairs (
    model TEXT NOT NULL, module TEXT NOT NULL, tail TEXT NOT NULL, down BLOB NOT NULL, up BLOB NOT NULL,
    scale REAL NOT NULL, UNIQUE (model, module));
CREATE INDEX IF NOT EXISTS pairs_tail ON pairs (tail);
CREATE TABLE IF NOT EXISTS files (
    sha256 BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, refs INTEGER NOT NULL) WITHOUT ROWID;
"""
WAIT_S = 30
"""How long one process waits for another's step in the index, s."""
MOST_PARAMETERS = 960
"""Values of one statement: every SQLite takes 999."""
FEW_PAGES = 32
"""A shorter index is left as it is."""
GROWTH = 1.25
"""Rows come in at random places, so that pages are two thirds full: what has grown is packed again."""
_PACKED = "packed"
"""Pages and blocks of the index when it was last written anew."""
SETTINGS = "settings"
"""A copy of STORE.json, from which it is written anew if it is lost."""


def connect(path: Path, *, read_only: bool = False, durable: bool = True) -> sqlite3.Connection:
    """Open the index; every commit is on the disk when it returns, if it is to be durable.

    With `read_only` nothing is written, not even a lock: for read-only disks that nobody else writes to.
    On a full disk the reserve is freed for SQLite's passing files; without one, their place is memory, and
    nobody else can use the index meanwhile.
    """
    try:
        return _connect(path, read_only, durable)
    except OSError as error:
        if not fsio.is_no_room(error):
            raise
    if room.free_reserve(Layout(path.parent).reserve):
        with suppress(OSError):
            return _connect(path, read_only, durable)
    return _connect(path, read_only, durable, alone=True)


def _connect(path: Path, read_only: bool, durable: bool, alone: bool = False) -> sqlite3.Connection:
    mode = "ro&immutable=1" if read_only else "rwc"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        connection = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=WAIT_S,
            factory=Connection,
        )
    except FAILURES as error:
        raise named(error) from None
    try:
        if alone:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        if not read_only:
            _keep_log(connection)
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_log(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait by itself while another process does the same."""
    last = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except StoreLockedError:
            if time.monotonic() > last:
                raise
            time.sleep(0.01)
        else:
            return


def create(connection: sqlite3.Connection) -> None:
    """Make the tables that are missing."""
    connection.executescript(SCHEMA)


def add_missing(connection: sqlite3.Connection) -> None:
    """Add what indexes of earlier versions lack."""
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if "tensors_name" not in known and "tensors" in known:
        connection.execute("ALTER TABLE tensors ADD COLUMN name INTEGER")
        connection.execute("ALTER TABLE tensors ADD COLUMN probe BLOB")
        create(connection)
    if "casts_tensor" not in known:
        create(connection)
        connection.execute("UPDATE tensors SET tried = 0 WHERE block IN (SELECT block FROM needs)")


def commit(connection: sqlite3.Connection) -> None:
    """Make the open transaction durable."""
    fsio.step("commit")
    connection.execute("COMMIT")


def shorten_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the index and empty it, as far as others allow, without waiting."""
    if connection.in_transaction:
        return
    connection.execute("PRAGMA busy_timeout = 0").fetchall()
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * WAIT_S)}").fetchall()


def size_bytes(connection: sqlite3.Connection) -> int:
    """Length of the index once its log is in it, bytes."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


def sizes(connection: sqlite3.Connection) -> room.Sizes:
    """How long the index, once its log is in it, and the packs are."""
    (packs,) = connection.execute("SELECT COALESCE(SUM(end), 0) FROM packs").fetchone()
    return room.Sizes(size_bytes(connection), int(packs))


def is_untidy(connection: sqlite3.Connection, growth: float = GROWTH, few: int = FEW_PAGES) -> bool:
    """Whether the index has at least a few pages and would be much shorter if it were written anew."""
    pages, blocks = _pages_and_blocks(connection)
    (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
    noted = (get_meta(connection, _PACKED) or "").split()
    packed = [int(number) if number.isdigit() else 0 for number in noted] or [0, 0]
    changed = pages > growth * packed[0] or blocks * growth < packed[-1]
    return pages >= few and (unused > pages // 8 or changed)


def write_anew(connection: sqlite3.Connection) -> None:
    """Write the index anew without unused room; a crash leaves the old one or the new one."""
    fsio.step("vacuum")
    connection.execute("VACUUM")
    set_meta(connection, _PACKED, "{} {}".format(*_pages_and_blocks(connection)))


def _pages_and_blocks(connection: sqlite3.Connection) -> tuple[int, int]:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (blocks,) = connection.execute("SELECT COUNT(*) FROM blocks").fetchone()
    return int(pages), int(blocks)


def note_settings(connection: sqlite3.Connection, text: str) -> None:
    """Keep a copy of STORE.json."""
    if get_meta(connection, SETTINGS) != text:
        set_meta(connection, SETTINGS, text)


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A small setting."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(connection: sqlite3.Connection, key: str, value: str | None) -> None:
    """Set or clear a small setting."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction, if there is one."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def set_savepoint(connection: sqlite3.Connection) -> None:
    """Begin a part of the open transaction that can be undone alone; parts nest."""
    connection.execute("SAVEPOINT part")


def release_savepoint(connection: sqlite3.Connection) -> None:
    """End the newest such part."""
    connection.execute("RELEASE part")


def go_back_to_savepoint(connection: sqlite3.Connection) -> None:
    """Undo the newest such part, and end it."""
    connection.execute("ROLLBACK TO part")
    connection.execute("RELEASE part")


def placeholders(count: int) -> str:
    """`?, ?, ...`."""
    return ", ".join("?" * count)


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[object]]) -> None:
    """Run an `INSERT INTO ...` for many rows in as few statements as SQLite allows."""
    most = MOST_PARAMETERS // len(rows[0]) if rows else 1
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        values = ", ".join([f"({placeholders(len(part[0]))})"] * len(part))
        connection.execute(f"{into} VALUES {values}", [value for row in part for value in row])


def begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes."""
    connection.execute("BEGIN IMMEDIATE")


def version(connection: sqlite3.Connection) -> int:
    """A number that changes with each commit of another connection."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def check(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the index's file, at most five lines."""
    return [text for (text,) in connection.execute("PRAGMA quick_check(5)").fetchall() if text != "ok"]


def look(connection: sqlite3.Connection) -> None:
    """Read a table of ours; raises what the file's damage makes SQLite raise."""
    connection.execute("SELECT COUNT(*) FROM packs").fetchone()


def build(path: Path) -> sqlite3.Connection:
    """A new index in an open transaction, without a log: it is put in place when it is done."""
    connection = sqlite3.connect(path, isolation_level=None, factory=Connection)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        create(connection)
        connection.execute("BEGIN")
    except BaseException:
        connection.close()
        raise
    return connection


def state(connection: sqlite3.Connection) -> str:
    """A hash that changes with models, their forms, pins and priorities, and with the packs."""
    digest = hashlib.sha256()
    queries = (
        "SELECT name, manifest_hash, form, pinned, priority FROM models ORDER BY name",
        "SELECT number, end, live_bytes, live_overhead FROM packs ORDER BY number",
        "SELECT COUNT(*), TOTAL(stored_bytes), TOTAL(refs) FROM blocks",
    )
    for query in queries:
        for row in connection.execute(query).fetchall():
            digest.update(repr(row).encode())
    return digest.hexdigest()


def finish_build(connection: sqlite3.Connection) -> None:
    """Commit what `build` began; it is forced to the disk when it is put in place."""
    connection.execute("COMMIT")
