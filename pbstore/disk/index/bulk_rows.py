"""All blocks at once, for questions about the whole store: two queries in place of one for each block."""

import sqlite3
from typing import NamedTuple


class BlockFacts(NamedTuple):
    """What the index says of a block."""

    raw_bytes: int
    stored_bytes: int
    codec: str
    refs: int
    """Models and revisions that name it, also those in the trash."""


def all_blocks(connection: sqlite3.Connection) -> dict[bytes, BlockFacts]:
    """Key of each block -> what is known of it."""
    rows = connection.execute("SELECT id, raw_bytes, stored_bytes, codec, refs FROM blocks").fetchall()
    return {key: BlockFacts(*facts) for key, *facts in rows}


def all_needs(connection: sqlite3.Connection) -> dict[bytes, tuple[bytes, ...]]:
    """Key of each block that needs others -> keys of these."""
    needs: dict[bytes, list[bytes]] = {}
    for key, base in connection.execute("SELECT block, base FROM needs ORDER BY block, position").fetchall():
        needs.setdefault(key, []).append(base)
    return {key: tuple(bases) for key, bases in needs.items()}
