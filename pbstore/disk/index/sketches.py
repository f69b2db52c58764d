"""Sketches in the index: which stored tensor is most like a new one.

Only blocks that are stored on their own have marks, so that only they are found as bases. Those that need
others have cast keys: an exact cast of such a block is the one form that may be based on it. A look-up reads
a few short lists, however many tensors there are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

from pbstore.disk.index import database, locations, names
from pbstore.errors import IndexCorruptError
from pbstore.formats.groups import is_group
from pbstore.hashing import BlockId
from pbstore.spec import TensorSpec

MIN_BYTES = 4096
"""Smaller tensors get no sketch, and an add stores them raw: coding them costs more than it saves."""
SMALL_BYTES = 8192
"""What the index knows of a tensor takes about 150 bytes: too much for long beside smaller ones."""
REACH = 12
"""How far behind the last match a tensor of the next layer is looked for."""
NO_LIMIT = (1 << 63) - 1
MOST_SOURCES = 2
"""Blocks that are tried as what a tensor is a cast of."""


def note_tensor(
    connection: sqlite3.Connection,
    block_id: BlockId,
    spec: TensorSpec,
    *,
    tried: bool = False,
    name: str | None = None,
) -> None:
    """Remember a block's dtype, shape and name, and whether it has its sketch if it can have one."""
    key = bytes.fromhex(block_id)
    connection.execute(
        "INSERT OR IGNORE INTO tensors (block, dtype, shape, tried) VALUES (?, ?, ?, ?)",
        (key, spec.dtype, json.dumps(list(spec.shape)), int(tried)),
    )
    if (number := names.name_key(name, spec)) is not None:
        connection.execute("UPDATE tensors SET name = ? WHERE block = ? AND name IS NULL", (number, key))


CastKeys = Mapping[str, int]
"""See `pbstore.codecs.sketch.cast_keys`."""


class Marked(Protocol):
    """A sketch as the index keeps it: see `pbstore.codecs.sketch.Sketch`, which needs numpy."""

    @property
    def marks(self) -> Any:  # noqa: ANN401 - an array of numpy
        """Hashes shared by similar tensors."""

    def within(self, num_bytes: int, *, group: bool = False) -> Self:
        """What of it is kept of a tensor of so many bytes."""

    def to_bytes(self) -> bytes:
        """As bytes."""


class Noted(NamedTuple):
    """A tensor for the index."""

    block_id: BlockId
    spec: TensorSpec
    found: Marked | CastKeys | None
    """By what it is found: its sketch if it is stored on its own, else its cast keys."""
    tried: bool
    """Whether it has its sketch if it can have one."""
    name: str | None = None
    """What its model calls it, where that is known."""
    probe: bytes | None = None
    """A few of its elements, see `pbstore.codecs.sketch.probe`."""


def note_many(connection: sqlite3.Connection, tensors: Sequence[Noted]) -> int:
    """`note_tensor` and `offer` for blocks that the index does not have; returns `newest_number`."""
    number = newest_number(connection)
    known = locations.keys_in(connection, "tensors", "block", [tensor.block_id for tensor in tensors])
    rows: list[tuple[object, ...]] = []
    marks: list[tuple[int, int]] = []
    casts: list[tuple[int, int]] = []
    for block_id, spec, found, tried, name, probe in tensors:
        if block_id in known:
            continue
        number += 1
        own = None if found is None or isinstance(found, Mapping) else _kept_of(found, spec, name)
        stored = None if own is None else own.to_bytes()
        shape = json.dumps(list(spec.shape))
        key = names.name_key(name, spec)
        rows.append((number, bytes.fromhex(block_id), spec.dtype, shape, stored, int(tried), key, probe))
        if own is not None:
            marks += [(mark, number) for mark in own.marks.tolist()]
        elif isinstance(found, Mapping):
            casts += [(key, number) for key in found.values()]
    database.insert_rows(
        connection, "INSERT INTO tensors (number, block, dtype, shape, sketch, tried, name, probe)", rows
    )
    database.insert_rows(connection, "INSERT OR IGNORE INTO marks (mark, tensor)", marks)
    database.insert_rows(connection, "INSERT OR IGNORE INTO casts (key, tensor)", casts)
    for block_id, _, found, *_ in tensors:
        if block_id in known and found is not None:
            offer(connection, block_id, found)
    return number


def _kept_of(found: Marked, spec: TensorSpec, name: str | None) -> Marked:
    """What the index keeps of a tensor's sketch; of a group's less, which is found by its name, too."""
    return found.within(spec.num_bytes, group=is_group(name))


def spec_of(connection: sqlite3.Connection, block_id: BlockId) -> TensorSpec | None:
    """A block's dtype and shape, None if it is not known to be a tensor."""
    query = "SELECT dtype, shape, raw_bytes FROM tensors JOIN blocks ON id = block WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    spec = None if row is None else as_spec(*row[:2])
    return spec if spec is not None and spec.num_bytes == row[2] else None


def as_spec(dtype: str, shape: str) -> TensorSpec:
    """Dtype and shape from a tensor's row.

    Raises:
        IndexCorruptError: If they are none.
    """
    try:
        return TensorSpec(dtype, tuple(int(size) for size in json.loads(shape)))
    except (ValueError, TypeError, RecursionError):
        raise IndexCorruptError("a tensor's row has an impossible dtype or shape") from None


def untried(
    connection: sqlite3.Connection, *, other_than: str | None = None
) -> list[tuple[BlockId, TensorSpec]]:
    """Tensors whose sketch was put off; or, given a dtype, blocks of others whose cast keys were."""
    rows = connection.execute(
        "SELECT block, dtype, shape FROM tensors JOIN blocks ON id = block"
        " WHERE tried = 0 AND (codec IN (SELECT value FROM json_each(?))) = ? AND dtype != ? ORDER BY number",
        (json.dumps(sorted(locations.ALONE)), other_than is None, other_than or ""),
    ).fetchall()
    return [(BlockId(block.hex()), as_spec(dtype, shape)) for block, dtype, shape in rows]


def mark_tried(connection: sqlite3.Connection, block_id: BlockId, *, tried: bool = True) -> None:
    """Note whether a tensor's sketch still has to be made."""
    key = bytes.fromhex(block_id)
    connection.execute("UPDATE tensors SET tried = ? WHERE block = ? AND sketch IS NULL", (int(tried), key))


def offer(connection: sqlite3.Connection, block_id: BlockId, found: Marked | CastKeys) -> None:
    """Let a block be found as a base; nothing happens if its tensor was not noted."""
    query = "SELECT number, sketch, dtype, shape FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    if row is None:
        return
    number = row[0]
    if isinstance(found, Mapping):
        casts = [(key, number) for key in found.values()]
        connection.executemany("INSERT OR IGNORE INTO casts VALUES (?, ?)", casts)
    elif row[1] is None:
        found = found.within(as_spec(*row[2:]).num_bytes)
        connection.execute("UPDATE tensors SET sketch = ? WHERE number = ?", (found.to_bytes(), number))
        marks = [(mark, number) for mark in found.marks.tolist()]
        connection.executemany("INSERT OR IGNORE INTO marks VALUES (?, ?)", marks)


def withdraw(connection: sqlite3.Connection, block_id: BlockId) -> None:
    """Let a block no longer be found as a base."""
    query = "SELECT number, sketch FROM tensors WHERE block = ? AND sketch IS NOT NULL"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    if row is not None:
        from pbstore.disk.index.stored_sketch import as_sketch  # it needs numpy

        marks = as_sketch(row[1]).marks.tolist()
        connection.executemany(
            "DELETE FROM marks WHERE mark = ? AND tensor = ?", [(mark, row[0]) for mark in marks]
        )
        connection.execute("UPDATE tensors SET sketch = NULL WHERE number = ?", (row[0],))


def forget(connection: sqlite3.Connection, block_id: BlockId) -> None:
    """Drop all that is known of a deleted block."""
    withdraw(connection, block_id)
    key = bytes.fromhex(block_id)
    connection.execute(
        "DELETE FROM casts WHERE tensor IN (SELECT number FROM tensors WHERE block = ?)", (key,)
    )
    connection.execute("DELETE FROM tensors WHERE block = ?", (key,))


def forget_small(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> None:
    """Let go of what is known of old factors of adapters, if it takes much beside them and nobody uses it."""
    query = (
        "SELECT block FROM tensors JOIN blocks ON id = block WHERE block IN ({}) AND raw_bytes < ?"
        " AND codec IN (SELECT value FROM json_each(?)) AND block NOT IN (SELECT base FROM needs)"
        " AND block NOT IN (SELECT substr(down, 1, 32) FROM pairs UNION SELECT substr(up, 1, 32) FROM pairs)"
    )
    for keys in locations.key_batches(ids):
        values = (*keys, SMALL_BYTES, json.dumps(sorted(locations.ALONE)))
        found = connection.execute(query.format(database.placeholders(len(keys))), values).fetchall()
        for (block,) in found:
            forget(connection, BlockId(block.hex()))


def number_of(connection: sqlite3.Connection, block_id: BlockId) -> int | None:
    """Place of a tensor in the order in which tensors came into the store; None if it is not known."""
    query = "SELECT number FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    return None if row is None else int(row[0])


class Neighbour(NamedTuple):
    """A stored tensor near another one in the order in which tensors came into the store."""

    block_id: BlockId
    number: int
    """Its place in that order."""
    sketch: bytes | None


def neighbour(connection: sqlite3.Connection, number: int, spec: TensorSpec) -> Neighbour | None:
    """The tensor of the same shape that came into the store next after one."""
    row = connection.execute(
        "SELECT block, number, sketch FROM tensors WHERE number > ? AND number <= ? AND shape = ?"
        " ORDER BY number LIMIT 1",
        (number, number + REACH, json.dumps(list(spec.shape))),
    ).fetchone()
    return None if row is None else Neighbour(BlockId(row[0].hex()), int(row[1]), row[2])


def described(connection: sqlite3.Connection, block_id: BlockId) -> Neighbour:
    """A block as one to be tried as a base."""
    query = "SELECT number, sketch FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    return Neighbour(block_id, *(row or (0, None)))


def has_casts(connection: sqlite3.Connection) -> bool:
    """Whether there are blocks that `cast_sources` may find."""
    return connection.execute("SELECT 1 FROM casts LIMIT 1").fetchone() is not None


def cast_sources(
    connection: sqlite3.Connection, keys: CastKeys, spec: TensorSpec, newest: int = NO_LIMIT
) -> list[BlockId]:
    """Blocks that need others and of which a tensor may be an exact cast, the newest first.

    Args:
        connection: To the index.
        keys: The tensor's cast keys.
        spec: Its dtype and shape.
        newest: None that came into the store after this place.
    """
    own = [keys[spec.dtype]] if spec.dtype in keys else list(keys.values())
    query = (
        "SELECT DISTINCT block FROM casts JOIN tensors ON number = tensor"
        f" WHERE key IN ({database.placeholders(len(own))}) AND tensor <= ? AND dtype != ?"
        " ORDER BY tensor DESC LIMIT ?"
    )
    rows = connection.execute(query, (*own, newest, spec.dtype, MOST_SOURCES))
    return [BlockId(block.hex()) for (block,) in rows.fetchall()]


def newest_number(connection: sqlite3.Connection) -> int:
    """Place of the tensor that came into the store last."""
    return int(connection.execute("SELECT COALESCE(MAX(number), 0) FROM tensors").fetchone()[0])
