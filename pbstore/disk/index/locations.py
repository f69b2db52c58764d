"""Where each block lies, what it needs, and how many models name it."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pbstore.blocks import CAST, FOLLOWERS, MAX_BLOCK_BYTES, RAW, BlockInfo
from pbstore.disk.files.pack import MAX_OVERHEAD, Record
from pbstore.disk.index import database
from pbstore.errors import IndexCorruptError
from pbstore.hashing import BlockId

ALONE = frozenset({"raw", "zstd", "planes", "grid"})
"""Codecs that need no other block."""
BLOCK_COLUMNS = "id, pack, offset, payload_offset, raw_bytes, stored_bytes, codec, checksum, refs, hot_refs"
_CODEC = BLOCK_COLUMNS.split(", ").index("codec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A block and where its record lies."""

    pack: int
    record: Record
    refs: int
    """Number of manifests that name the block."""
    hot_refs: int = 0
    """Number of these that are of hot models."""

    @property
    def info(self) -> BlockInfo:
        """The block itself."""
        record = self.record
        return BlockInfo(
            block_id=record.block_id,
            raw_bytes=record.raw_bytes,
            stored_bytes=record.stored_bytes,
            codec=record.codec,
            needs=record.needs,
        )


def find(connection: sqlite3.Connection, block_id: BlockId) -> Location | None:
    """Where a block lies, None if it is not there."""
    query, key = f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE id = ?", (bytes.fromhex(block_id),)
    row = connection.execute(query, key).fetchone()
    while row is not None and row[_CODEC] not in ALONE:
        needs = needs_of(connection, row[0])
        again = connection.execute(query, key).fetchone()
        if again == row:
            return _location(row, needs)
        row = again  # stored anew between the two
    return None if row is None else _location(row, ())


def find_many(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> dict[BlockId, Location]:
    """Where some blocks and what they need lie, as far as they are there; all at one moment."""
    if connection.in_transaction:
        return find_many_as_writer(connection, ids)
    try:
        connection.execute("BEGIN")
        return find_many_as_writer(connection, ids)
    finally:
        database.roll_back(connection)


def find_many_as_writer(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> dict[BlockId, Location]:
    """As `find_many`, on the writer's connection from any thread, while its lock keeps others from writing.

    It begins and ends no transaction: between two of the writer's, that would be the writer's next one.
    """
    needs = _needs_of_many(connection, ids)
    wanted = list(dict.fromkeys([*ids, *(base for bases in needs.values() for base in bases)]))
    query = f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE id IN ({{}})"
    rows = {BlockId(row[0].hex()): row for row in _rows_of(connection, query, wanted)}
    further = [one for one in wanted[len(set(ids)) :] if one in rows and rows[one][_CODEC] not in ALONE]
    needs |= _needs_of_many(connection, further)
    return {one: _location(row, tuple(needs.get(one, ()))) for one, row in rows.items()}


def _needs_of_many(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> dict[BlockId, list[BlockId]]:
    """What blocks need, of those that need something."""
    needs: dict[BlockId, list[BlockId]] = {}
    query = "SELECT block, base FROM needs WHERE block IN ({}) ORDER BY block, position"
    for block, base in _rows_of(connection, query, ids):
        needs.setdefault(BlockId(block.hex()), []).append(BlockId(base.hex()))
    return needs


def key_batches(ids: Sequence[BlockId]) -> Iterator[list[bytes]]:
    """Block ids as keys of the index, as many at a time as one statement takes."""
    for start in range(0, len(ids), database.MOST_PARAMETERS):
        yield [bytes.fromhex(block_id) for block_id in ids[start : start + database.MOST_PARAMETERS]]


def _rows_of(connection: sqlite3.Connection, query: str, ids: Sequence[BlockId]) -> Iterator[Any]:
    """Rows of a query whose `{}` stands for block ids."""
    for keys in key_batches(ids):
        yield from connection.execute(query.format(database.placeholders(len(keys))), keys).fetchall()


def _row_needs(connection: sqlite3.Connection, row: Sequence[Any]) -> tuple[BlockId, ...]:
    """What the block of a row needs; only asked for where its codec may need something."""
    return () if row[_CODEC] in ALONE else needs_of(connection, row[0])


def find_tensor(connection: sqlite3.Connection, block_id: BlockId) -> tuple[Location, str, str] | None:
    """Where a tensor lies, with its dtype and shape (JSON); None if it is not there or no tensor."""
    row = connection.execute(
        f"SELECT {BLOCK_COLUMNS}, dtype, shape FROM blocks JOIN tensors ON block = id WHERE id = ?",
        (bytes.fromhex(block_id),),
    ).fetchone()
    return None if row is None else (_location(row[:-2], _row_needs(connection, row)), *row[-2:])


def matching(
    connection: sqlite3.Connection, where: str = "", arguments: Iterable[object] = ()
) -> Iterator[Location]:
    """All blocks that meet a condition, read as they are asked for."""
    query = f"SELECT {BLOCK_COLUMNS} FROM blocks {where}"
    cursor = connection.execute(query, tuple(arguments))
    while rows := cursor.fetchmany(512):
        for row in rows:
            yield _location(row, _row_needs(connection, row))


def behind(connection: sqlite3.Connection, block_id: str, most: int) -> list[Location]:
    """The next blocks in the order of their ids, at most so many; the first ones if the id is empty."""
    where = "WHERE id > ? ORDER BY id LIMIT ?"
    return list(matching(connection, where, (bytes.fromhex(block_id), most)))


def all_locations(connection: sqlite3.Connection) -> Iterator[Location]:
    """All blocks in the order in which they lie in the packs; what they need is read in one go."""
    needs: dict[bytes, list[BlockId]] = {}
    for block, base in connection.execute("SELECT block, base FROM needs ORDER BY block, position"):
        needs.setdefault(block, []).append(BlockId(base.hex()))
    for row in connection.execute(f"SELECT {BLOCK_COLUMNS} FROM blocks ORDER BY pack, offset").fetchall():
        yield _location(row, tuple(needs.get(row[0], ())))


def needs_of(connection: sqlite3.Connection, key: bytes) -> tuple[BlockId, ...]:
    """Blocks that a block needs, its bases first, in the order in which its codec wants them."""
    rows = connection.execute("SELECT base FROM needs WHERE block = ? ORDER BY position", (key,))
    return tuple(BlockId(base.hex()) for (base,) in rows)


def dependents(connection: sqlite3.Connection, block_id: BlockId) -> tuple[BlockId, ...]:
    """Blocks that need this one."""
    rows = connection.execute("SELECT DISTINCT block FROM needs WHERE base = ?", (bytes.fromhex(block_id),))
    return tuple(BlockId(block.hex()) for (block,) in rows)


_FOLLOWS = "(" + " OR ".join(f"codec = '{one}' AND position < {n}" for one, n in FOLLOWERS.items()) + ")"
_MAY_FOLLOW = ", ".join(f"'{codec}'" for codec in FOLLOWERS if codec != CAST)


def followers_of(connection: sqlite3.Connection, block_id: BlockId) -> list[BlockId]:
    """Blocks that have this one as a base, which may need blocks itself: casts of it, and derived ones."""
    query = f"SELECT block FROM needs JOIN blocks ON id = block WHERE base = ? AND {_FOLLOWS}"
    return [BlockId(key.hex()) for (key,) in connection.execute(query, (bytes.fromhex(block_id),)).fetchall()]


def only_followers_need(connection: sqlite3.Connection, block_id: BlockId) -> bool:
    """Whether all blocks that need this one may have a base that needs blocks itself."""
    query = f"SELECT 1 FROM needs JOIN blocks ON id = block WHERE base = ? AND NOT {_FOLLOWS} LIMIT 1"
    return connection.execute(query, (bytes.fromhex(block_id),)).fetchone() is None


def unclosed(connection: sqlite3.Connection) -> list[BlockId]:
    """Blocks that lack one they need, or that name less than what their bases need: see FORMAT.md, 2."""
    rows = connection.execute(
        "SELECT block FROM needs WHERE base NOT IN (SELECT id FROM blocks)"
        " UNION SELECT one.block FROM needs AS one JOIN needs AS further ON further.block = one.base"
        " WHERE further.base NOT IN (SELECT base FROM needs WHERE block = one.block)"
        f" OR (SELECT codec FROM blocks WHERE id = one.block) NOT IN ({_MAY_FOLLOW})"
    )
    return [BlockId(key.hex()) for (key,) in rows.fetchall()]


def insert(
    connection: sqlite3.Connection, pack: int, record: Record, refs: int = 0, hot_refs: int = 0
) -> None:
    """Note a new block."""
    insert_many(connection, [(pack, record)], refs, hot_refs)


def insert_many(
    connection: sqlite3.Connection, records: Sequence[tuple[int, Record]], refs: int = 0, hot_refs: int = 0
) -> None:
    """Note new blocks: packs and records."""
    blocks, needs = [], []
    for pack, record in records:
        key = bytes.fromhex(record.block_id)
        places = (pack, record.offset, record.payload_offset, record.raw_bytes, record.stored_bytes)
        blocks.append((key, *places, record.codec, record.check, refs, hot_refs))
        needs += [(key, position, bytes.fromhex(base)) for position, base in enumerate(record.needs)]
    database.insert_rows(connection, f"INSERT INTO blocks ({BLOCK_COLUMNS})", blocks)
    database.insert_rows(connection, "INSERT INTO needs (block, position, base)", needs)
    for pack in {pack for pack, _ in records}:
        _count(connection, pack, [record for number, record in records if number == pack], 1)


def keys_in(
    connection: sqlite3.Connection, table: str, column: str, ids: Sequence[BlockId], also: str = "TRUE"
) -> set[BlockId]:
    """Those of some block ids that stand in a table's column, where `also` holds."""
    found: set[BlockId] = set()
    for keys in key_batches(ids):
        # one row: each row would let another thread take the interpreter
        query = (
            f"SELECT group_concat(lower(hex({column}))) FROM {table}"
            f" WHERE {column} IN ({database.placeholders(len(keys))}) AND {also}"
        )
        (joined,) = connection.execute(query, keys).fetchone()
        found.update(BlockId(block_id) for block_id in (joined or "").split(",") if block_id)
    return found


def delete(connection: sqlite3.Connection, location: Location) -> None:
    """Forget a block; its record stays in the pack as dead bytes until a gc."""
    key = bytes.fromhex(location.record.block_id)
    connection.execute("DELETE FROM blocks WHERE id = ?", (key,))
    connection.execute("DELETE FROM needs WHERE block = ?", (key,))
    _count(connection, location.pack, [location.record], -1)


def replace(connection: sqlite3.Connection, old: Location, pack: int, record: Record) -> None:
    """Point a block to a new record of the same content."""
    delete(connection, old)
    insert(connection, pack, record, old.refs, old.hot_refs)


def used_bytes(connection: sqlite3.Connection) -> int:
    """Payload bytes of all blocks."""
    return int(connection.execute("SELECT COALESCE(SUM(live_bytes), 0) FROM packs").fetchone()[0])


def _count(connection: sqlite3.Connection, pack: int, records: Sequence[Record], sign: int) -> None:
    stored, overhead = (
        sum(item.stored_bytes for item in records),
        sum(item.overhead_bytes for item in records),
    )
    connection.execute(
        "UPDATE packs SET live_bytes = live_bytes + ?, live_overhead = live_overhead + ? WHERE number = ?",
        (sign * stored, sign * overhead, pack),
    )


def _location(row: Sequence[Any], needs: tuple[BlockId, ...]) -> Location:
    """A block's row, in the order of BLOCK_COLUMNS, and what the block needs."""
    key, pack, offset, payload_offset, raw_bytes, stored_bytes, codec, checksum, refs, hot_refs = row
    numbers = (pack, offset, payload_offset, raw_bytes, stored_bytes, refs, hot_refs)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise IndexCorruptError("a block's row has impossible numbers")
    sane = raw_bytes <= MAX_BLOCK_BYTES and stored_bytes <= 2 * MAX_BLOCK_BYTES
    if not sane or not 0 < payload_offset - offset <= MAX_OVERHEAD:
        raise IndexCorruptError("a block's row has impossible sizes")
    if (
        not isinstance(key, bytes)
        or len(key) != 32
        or not isinstance(checksum, bytes)
        or not isinstance(codec, str)
    ):
        raise IndexCorruptError("a block's row has impossible fields")
    record = Record(
        block_id=BlockId(key.hex()),
        codec=codec,
        raw_bytes=raw_bytes,
        stored_bytes=stored_bytes,
        check=checksum,
        needs=needs,
        offset=offset,
        payload_offset=payload_offset,
    )
    return Location(pack=pack, record=record, refs=refs, hot_refs=hot_refs)


def has(connection: sqlite3.Connection, block_id: BlockId) -> bool:
    """Whether a block is there."""
    query = "SELECT 1 FROM blocks WHERE id = ?"
    return connection.execute(query, (bytes.fromhex(block_id),)).fetchone() is not None


def keys(connection: sqlite3.Connection) -> list[bytes]:
    """Keys of all blocks, in no particular order."""
    return [key for (key,) in connection.execute("SELECT id FROM blocks").fetchall()]


def keys_in_order(connection: sqlite3.Connection) -> bytes:
    """Keys of all blocks, one behind the other, as they lie in the packs."""
    return b"".join(
        key for (key,) in connection.execute("SELECT id FROM blocks ORDER BY pack, offset").fetchall()
    )


def in_pack(connection: sqlite3.Connection, number: int) -> list[BlockId]:
    """Blocks in a pack, in order."""
    rows = connection.execute("SELECT id FROM blocks WHERE pack = ? ORDER BY offset", (number,)).fetchall()
    return [BlockId(key.hex()) for (key,) in rows]


def records_in_pack(connection: sqlite3.Connection, number: int) -> list[Record]:
    """Live records of a pack."""
    return [item.record for item in matching(connection, "WHERE pack = ?", (number,))]


def coded(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> set[BlockId]:
    """Those of some blocks that are there and not raw."""
    return keys_in(connection, "blocks", "id", ids, also=f"codec != '{RAW}'")


_NEEDED = "(SELECT base FROM needs JOIN blocks AS user ON user.id = needs.block WHERE user.refs > 0)"


def orphans(connection: sqlite3.Connection) -> Iterator[Location]:
    """Blocks that no model names and that no block of a model needs."""
    return matching(connection, f"WHERE refs = 0 AND id NOT IN {_NEEDED}")


def unnamed_bases(connection: sqlite3.Connection) -> list[Location]:
    """Blocks that no manifest names and that blocks of models need."""
    return list(matching(connection, f"WHERE refs = 0 AND id IN {_NEEDED}"))


def raw_bytes_of_users(connection: sqlite3.Connection, block_id: BlockId) -> int:
    """Raw bytes of the blocks that need one."""
    query = "SELECT COALESCE(SUM(raw_bytes), 0) FROM needs JOIN blocks ON id = block WHERE base = ?"
    return int(connection.execute(query, (bytes.fromhex(block_id),)).fetchone()[0])


def users_of(connection: sqlite3.Connection, ids: Sequence[BlockId]) -> set[BlockId]:
    """Blocks that need one of these."""
    query = "SELECT DISTINCT block FROM needs WHERE base IN ({})"
    return {BlockId(key.hex()) for (key,) in _rows_of(connection, query, ids)}


def counts(connection: sqlite3.Connection) -> list[tuple[bytes, object, object]]:
    """Key, and how many models and hot models name the block, of all blocks."""
    return connection.execute("SELECT id, refs, hot_refs FROM blocks").fetchall()


def set_counts(connection: sqlite3.Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
    """Correct how many models and hot models name some blocks, by their keys."""
    connection.executemany("UPDATE blocks SET refs = ?, hot_refs = ? WHERE id = ?", rows)


def leave_out(connection: sqlite3.Connection, ids: Iterable[BlockId]) -> None:
    """Forget blocks; the live bytes of packs are the caller's concern."""
    keys = [(bytes.fromhex(block_id),) for block_id in ids]
    connection.executemany("DELETE FROM blocks WHERE id = ?", keys)
    connection.executemany("DELETE FROM needs WHERE block = ?", keys)


def totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many blocks models name, and their raw bytes."""
    query = "SELECT COUNT(*), COALESCE(SUM(raw_bytes), 0) FROM blocks WHERE refs > 0"
    count, raw = connection.execute(query).fetchone()
    return count, raw


def by_codec(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Blocks, raw and stored bytes of each codec."""
    query = "SELECT codec, COUNT(*), SUM(raw_bytes), SUM(stored_bytes) FROM blocks GROUP BY codec"
    return {
        codec: {"blocks": count, "raw_bytes": raw_bytes, "stored_bytes": stored}
        for codec, count, raw_bytes, stored in connection.execute(query)
    }
