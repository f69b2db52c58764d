"""Counting uses without a lock: each use is a line in a file, counted into the index by the next who asks.

A use that is lost in a crash does no harm, so nothing here waits for the disk.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pbstore.disk.files.layout import Layout
from pbstore.disk.index.model_rows import ModelRow
from pbstore.manifest import check_name

MAX_BYTES = 64 << 20
"""Uses beyond this are not noted until someone counts them."""


def note_use(layout: Layout, name: str) -> None:
    """Note one use of a model; a store that cannot be written to notes nothing."""
    line = f"{time.time():.3f} {check_name(name)}\n".encode()
    with suppress(OSError):
        fd = os.open(layout.uses, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(fd).st_size < MAX_BYTES:
                os.write(fd, line)
        finally:
            os.close(fd)


def count_uses(layout: Layout, connection: sqlite3.Connection) -> None:
    """In a transaction: count the noted uses into the index."""
    if not layout.uses.exists():
        return
    aside = layout.uses.with_name(".tmp-uses")
    layout.uses.replace(aside)
    for when, name in _noted(aside):
        connection.execute(
            "UPDATE models SET uses = uses + 1, used_at = MAX(used_at, ?) WHERE name = ?", (when, name)
        )
    aside.unlink()


def with_noted(layout: Layout, rows: "Sequence[ModelRow]") -> "list[ModelRow]":
    """Models with the uses that are noted and not yet counted, for a store that cannot be written to."""
    noted: dict[str, list[float]] = {}
    with suppress(FileNotFoundError):
        for when, name in _noted(layout.uses):
            noted.setdefault(name, []).append(when)
    return [
        replace(row, uses=row.uses + len(times), used_at=max(row.used_at, *times))
        if (times := noted.get(row.name))
        else row
        for row in rows
    ]


def _noted(path: Path) -> Iterator[tuple[float, str]]:
    """Time and name of each noted use; what is no such line is left out."""
    for line in path.read_bytes().decode("utf-8", "replace").splitlines():
        when, _, name = line.partition(" ")
        with suppress(ValueError):
            yield float(when), name
