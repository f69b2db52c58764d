"""Tensors by what their models call them: where an edit leaves nothing that a sketch would show.

A name is known by a number: the hash of its end, from the first part that is a number on, or of its last
three parts. So prefixes of models and of wrappers do not matter. Small tensors have none.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

from pbstore.hashing import BlockId
from pbstore.spec import HEAD_BYTES, TensorSpec

NAMED_BYTES = 4096
"""Smaller tensors are found by their places only."""
_LAST_PARTS = 3
_LONGEST_LIST = 4096
_WEIGHT = ".weight"
_SCALES = (
    "_scale_inv", "_scale", "_scales", ".scale", ".scales", ".SCB", ".absmax", "_absmax",
    ".zero_point", "_zero_point",
)  # fmt: skip
"""Ends of names of what is stored beside quantised weights, as usual tools have them."""
REACH = 24
"""How far from its likely place a tensor may lie that another one is a part of, or has as a part."""
MOST_CHILDREN = 64
"""Differences to a base that are looked at."""
NEIGHBOURS = 2
"""How far from its likely place a tensor may lie."""


def name_key(name: str | None, spec: TensorSpec) -> int | None:
    """Number of a tensor's name; None for a small tensor, or one without a name."""
    return None if name is None or spec.num_bytes < NAMED_BYTES else number_of(name)


def number_of(name: str) -> int:
    """Number of a name."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdigit()), -_LAST_PARTS)
    tail = ".".join(parts[first:])
    return int.from_bytes(
        blake3(tail.encode("utf-8", "surrogatepass")).digest(length=8), "little", signed=True
    )


def owner(name: str) -> str | None:
    """Name of the weight that a scale of this name belongs to; None if it is none of a scale."""
    for end in _SCALES:
        if name.endswith(end):
            whole = name.removesuffix(end)
            return whole if whole.endswith(_WEIGHT) else whole + _WEIGHT
    return None


def heads(connection: sqlite3.Connection) -> list[tuple[bytes, BlockId, int]]:
    """First bytes, id and length of the newest tensors that have probes."""
    rows = connection.execute(
        "SELECT probe, block, raw_bytes FROM tensors JOIN blocks ON id = block WHERE probe IS NOT NULL"
        " ORDER BY number DESC LIMIT ?",
        (_LONGEST_LIST,),
    ).fetchall()
    return [(probe[:HEAD_BYTES], BlockId(block.hex()), size) for probe, block, size in rows]


class Relative(NamedTuple):
    """A tensor that may be a relative of another."""

    block_id: BlockId
    dtype: str
    probe: bytes | None
    """A few exact elements; None of a small tensor, and of one that an earlier version stored."""


def named(
    connection: sqlite3.Connection, name: str, near: int | None, newest: int, limit: int
) -> list[Relative]:
    """Tensors that are called so: those nearest to a place, or the newest ones.

    Args:
        connection: To the index.
        name: What a model calls the tensor.
        near: A place in the order in which tensors came into the store; None if none is likely.
        newest: None that came into the store after this place.
        limit: Most tensors to return.
    """
    order = "number DESC" if near is None else f"ABS(number - {int(near)}), number DESC"
    columns = "block, dtype, probe"
    some = (
        f"SELECT number, {columns} FROM tensors WHERE name = ? AND number <= ? ORDER BY number DESC LIMIT ?"
    )
    query = f"SELECT {columns} FROM ({some}) ORDER BY {order} LIMIT ?"
    rows = connection.execute(query, (number_of(name), newest, _LONGEST_LIST, limit)).fetchall()
    return [Relative(BlockId(block.hex()), dtype, probe) for block, dtype, probe in rows]


def around(connection: sqlite3.Connection, place: int, spec: TensorSpec, newest: int) -> list[BlockId]:
    """Tensors of a shape that came into the store at about a place, the nearest first."""
    rows = connection.execute(
        "SELECT block FROM tensors WHERE number BETWEEN ? AND ? AND number <= ? AND shape = ?"
        " ORDER BY ABS(number - ?)",
        (place - NEIGHBOURS, place + NEIGHBOURS, newest, json.dumps(list(spec.shape)), place),
    ).fetchall()
    return [BlockId(block.hex()) for (block,) in rows]


class Beside(NamedTuple):
    """A tensor that came into the store at about a place."""

    block_id: BlockId
    number: int
    spec: TensorSpec
    probe: bytes


_BESIDE = "SELECT block, number, dtype, shape, probe FROM tensors WHERE probe IS NOT NULL AND number <= ? AND"


def beside(connection: sqlite3.Connection, place: int, spec: TensorSpec, newest: int) -> list[Beside]:
    """Tensors with as long rows that came into the store at about a place, the nearest first."""
    query = f"{_BESIDE} number BETWEEN ? AND ? ORDER BY ABS(number - ?), number"
    values = (newest, place - REACH, place + REACH, place)
    return _with_rows_of(connection.execute(query, values).fetchall(), spec)


def children(connection: sqlite3.Connection, base: BlockId, spec: TensorSpec, newest: int) -> list[Beside]:
    """Tensors with as long rows that are differences to a base or casts of it, the newest first."""
    some = "block IN (SELECT block FROM needs WHERE base = ? AND position = 0)"
    query = f"{_BESIDE} {some} ORDER BY number DESC LIMIT ?"
    return _with_rows_of(
        connection.execute(query, (newest, bytes.fromhex(base), MOST_CHILDREN)).fetchall(), spec
    )


def _with_rows_of(rows: Sequence[tuple[bytes, int, str, str, bytes]], spec: TensorSpec) -> list[Beside]:
    found = [
        Beside(BlockId(block.hex()), number, TensorSpec(dtype, tuple(json.loads(shape))), probe)
        for block, number, dtype, shape, probe in rows
    ]
    return [one for one in found if len(one.spec.shape) > 1 and one.spec.shape[-1] == spec.shape[-1]]


def family(
    connection: sqlite3.Connection, base: BlockId, spec: TensorSpec, name: str | None, newest: int
) -> list[Relative]:
    """Tensors that are differences to a base or called the same, the newest first."""
    rows = connection.execute(
        "SELECT block, dtype, probe FROM tensors WHERE probe IS NOT NULL AND number <= ? AND shape = ?"
        " AND block IN (SELECT block FROM needs WHERE base = ? AND position = 0"
        " UNION SELECT block FROM tensors WHERE name = ?)"
        " ORDER BY number DESC LIMIT ?",
        (
            newest,
            json.dumps(list(spec.shape)),
            bytes.fromhex(base),
            None if name is None else number_of(name),
            _LONGEST_LIST,
        ),
    ).fetchall()
    return [Relative(BlockId(block.hex()), dtype, probe) for block, dtype, probe in rows]
