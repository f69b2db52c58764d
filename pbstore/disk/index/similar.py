"""Which stored tensor is most like a new one: a look-up of marks, ranked by values.

It needs numpy; what the index keeps of sketches is in `sketches`, which does not.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable

from pbstore.codecs.sketch import MAX_HITS, Sketch, gap, rank
from pbstore.disk.index import database
from pbstore.disk.index.sketches import NO_LIMIT
from pbstore.disk.index.stored_sketch import as_sketch
from pbstore.hashing import BlockId, Buffer
from pbstore.spec import TensorSpec

NEAR_BITS = 5.0
"""Mean difference of sampled values up to which a guessed base is taken at once."""
LONGEST_LIST = 64
"""Blocks looked at per mark, the newest first."""


def kept(stored: bytes | None) -> Sketch | None:
    """What a tensor's row keeps to find it by; perhaps without values."""
    return None if stored is None else as_sketch(stored)


def is_near(raw: Buffer, spec: TensorSpec, other: Sketch | None) -> bool:
    """Whether a block with a sketch is so much like a tensor that no other base need be looked for."""
    return other is not None and other.has_values and gap(raw, spec, other) < NEAR_BITS


def similar(
    connection: sqlite3.Connection,
    wanted: Sketch,
    look: Callable[[BlockId], Sketch | None],
    newest: int = NO_LIMIT,
) -> list[BlockId]:
    """Blocks most like a tensor, the likeliest base first.

    Args:
        connection: To the index.
        wanted: The tensor's sketch.
        look: Gives the sketch of a block of which only marks are kept, None if it can be no base.
        newest: None that came into the store after this place.
    """
    marks = wanted.marks.tolist()
    some = "SELECT tensor FROM marks WHERE mark = value AND tensor <= ? ORDER BY tensor DESC LIMIT ?"
    # one row for all marks: each row would let another thread take the interpreter
    query = f"SELECT group_concat((SELECT group_concat(tensor) FROM ({some}))) FROM json_each(?)"
    (joined,) = connection.execute(query, (newest, LONGEST_LIST, json.dumps(marks))).fetchone()
    votes = Counter(map(int, joined.split(","))) if joined else Counter()
    best = [number for number, _ in votes.most_common(MAX_HITS)]
    query = f"SELECT number, block, sketch FROM tensors WHERE number IN ({database.placeholders(len(best))})"
    rows = {row[0]: row for row in connection.execute(query, best).fetchall()}
    hits = []
    for number in (one for one in best if one in rows):
        block_id, found = BlockId(rows[number][1].hex()), kept(rows[number][2])
        if found is not None and not found.has_values:
            found = look(block_id)
        if found is not None:
            hits.append((block_id, found))
    return [BlockId(block_id) for block_id in rank(wanted, hits)]
