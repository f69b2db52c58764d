"""Sketches in the index: which stored tensor is most like a new one.

Only blocks that are stored on their own have marks, so that only they are found as bases. A look-up reads a
few short lists, however many tensors there are.
"""

import json
import sqlite3
from collections import Counter

from pbstore.codecs.sketch import MAX_HITS, Sketch, gap, rank
from pbstore.codecs.types import TensorSpec
from pbstore.hashing import BlockId, Buffer

MIN_BYTES = 4096
"""Smaller tensors get no sketch: it would cost more than it can save."""
REACH = 12
"""How far behind the last match a tensor of the next layer is looked for."""
MAX_NEIGHBOURS = 1
NO_LIMIT = (1 << 63) - 1
NEAR_BITS = 2.0
"""Mean difference of sampled values up to which a guessed base is taken at once."""
LONGEST_LIST = 64
"""Blocks looked at per mark, the newest first."""


def note_tensor(
    connection: sqlite3.Connection, block_id: BlockId, spec: TensorSpec, *, tried: bool = False
) -> None:
    """Remember a block's dtype and shape, and whether it has its sketch if it can have one."""
    connection.execute(
        "INSERT OR IGNORE INTO tensors (block, dtype, shape, tried) VALUES (?, ?, ?, ?)",
        (bytes.fromhex(block_id), spec.dtype, json.dumps(list(spec.shape)), int(tried)),
    )


def spec_of(connection: sqlite3.Connection, block_id: BlockId) -> TensorSpec | None:
    """A block's dtype and shape, None if it is not known to be a tensor."""
    query = "SELECT dtype, shape FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    return None if row is None else TensorSpec(row[0], tuple(json.loads(row[1])))


def untried(connection: sqlite3.Connection) -> list[tuple[BlockId, TensorSpec]]:
    """Tensors whose sketch was put off."""
    query = "SELECT block, dtype, shape FROM tensors WHERE tried = 0 ORDER BY number"
    rows = connection.execute(query).fetchall()
    return [
        (BlockId(block.hex()), TensorSpec(dtype, tuple(json.loads(shape)))) for block, dtype, shape in rows
    ]


def mark_tried(connection: sqlite3.Connection, block_id: BlockId, *, tried: bool = True) -> None:
    """Note whether a tensor's sketch still has to be made."""
    key = bytes.fromhex(block_id)
    connection.execute("UPDATE tensors SET tried = ? WHERE block = ? AND sketch IS NULL", (int(tried), key))


def offer(connection: sqlite3.Connection, block_id: BlockId, found: Sketch) -> None:
    """Let a block be found as a base; nothing happens if its tensor was not noted."""
    key = bytes.fromhex(block_id)
    row = connection.execute("SELECT number, sketch FROM tensors WHERE block = ?", (key,)).fetchone()
    if row is not None and row[1] is None:
        number = row[0]
        connection.execute("UPDATE tensors SET sketch = ? WHERE number = ?", (found.to_bytes(), number))
        marks = [(mark, number) for mark in found.marks.tolist()]
        connection.executemany("INSERT OR IGNORE INTO marks VALUES (?, ?)", marks)


def withdraw(connection: sqlite3.Connection, block_id: BlockId) -> None:
    """Let a block no longer be found as a base."""
    query = "SELECT number, sketch FROM tensors WHERE block = ? AND sketch IS NOT NULL"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    if row is not None:
        marks = Sketch.from_bytes(row[1]).marks.tolist()
        connection.executemany(
            "DELETE FROM marks WHERE mark = ? AND tensor = ?", [(mark, row[0]) for mark in marks]
        )
        connection.execute("UPDATE tensors SET sketch = NULL WHERE number = ?", (row[0],))


def forget(connection: sqlite3.Connection, block_id: BlockId) -> None:
    """Drop all that is known of a deleted block."""
    withdraw(connection, block_id)
    connection.execute("DELETE FROM tensors WHERE block = ?", (bytes.fromhex(block_id),))


def number_of(connection: sqlite3.Connection, block_id: BlockId) -> int | None:
    """Place of a tensor in the order in which tensors came into the store; None if it is not known."""
    query = "SELECT number FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    return None if row is None else int(row[0])


def neighbours(connection: sqlite3.Connection, number: int, spec: TensorSpec) -> list[BlockId]:
    """Tensors of the same shape that came into the store shortly after one, the nearest first."""
    rows = connection.execute(
        "SELECT block FROM tensors WHERE number > ? AND number <= ? AND shape = ? LIMIT ?",
        (number, number + REACH, json.dumps(list(spec.shape)), MAX_NEIGHBOURS),
    )
    return [BlockId(block.hex()) for (block,) in rows]


def is_near(connection: sqlite3.Connection, raw: Buffer, spec: TensorSpec, block_id: BlockId) -> bool:
    """Whether a block is so much like a tensor that no other base need be looked for."""
    query = "SELECT sketch FROM tensors WHERE block = ?"
    row = connection.execute(query, (bytes.fromhex(block_id),)).fetchone()
    if row is None or row[0] is None:
        return False
    return gap(raw, spec, Sketch.from_bytes(row[0])) < NEAR_BITS


def newest_number(connection: sqlite3.Connection) -> int:
    """Place of the tensor that came into the store last."""
    return int(connection.execute("SELECT COALESCE(MAX(number), 0) FROM tensors").fetchone()[0])


def similar(connection: sqlite3.Connection, wanted: Sketch, newest: int = NO_LIMIT) -> list[BlockId]:
    """Blocks most like a tensor, the likeliest base first; none that came into the store after `newest`."""
    votes: Counter[int] = Counter()
    query = "SELECT tensor FROM marks WHERE mark = ? AND tensor <= ? ORDER BY tensor DESC LIMIT ?"
    for mark in wanted.marks.tolist():
        votes.update(number for (number,) in connection.execute(query, (mark, newest, LONGEST_LIST)))
    hits = []
    for number, _ in votes.most_common(MAX_HITS):
        query_one = "SELECT block, sketch FROM tensors WHERE number = ?"
        block, stored = connection.execute(query_one, (number,)).fetchone()
        hits.append((BlockId(block.hex()), Sketch.from_bytes(stored)))
    return [BlockId(block_id) for block_id in rank(wanted, hits)]
