"""Which models lean on one: adapters that are bound to it, and models that are stored against its tensors."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbstore.disk import identity
from pbstore.disk.index import locations as index
from pbstore.disk.index import model_rows as catalog
from pbstore.disk.index.model_rows import ModelRow
from pbstore.errors import IntegrityError
from pbstore.hashing import BlockId

if TYPE_CHECKING:
    from pbstore.disk.store import DiskBlockStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Models that lean on another one."""

    bound: tuple[str, ...] = ()
    """Models bound to it, if no other model has the same weights: their base is missing without it."""
    coded: tuple[str, ...] = ()
    """Models with blocks that are stored against its blocks: these stay as long as they are needed."""


def find(store: "DiskBlockStore", row: ModelRow, besides: Iterable[str] = ()) -> Dependents:
    """Models that lean on one, but for some that go with it."""
    going = {row.name, *besides}
    return Dependents(
        bound=tuple(name for name in _bound(store, row, going) if name not in going),
        coded=tuple(name for name in _coded(store, row, going) if name not in going),
    )


def _bound(store: "DiskBlockStore", row: ModelRow, going: set[str]) -> list[str]:
    query = f"SELECT name FROM models WHERE base_weights = ? AND NOT ({catalog.IN_TRASH}) ORDER BY name"
    try:
        hashes = identity.hashes_of(store, row.name, store.manifest_of(row))
    except IntegrityError:  # what is bound to it cannot be told by more than the index
        hashes = (row.weights,) if row.weights else ()
    bound: list[str] = []
    for weights in hashes:
        if not set(store.find_weights(weights)) - going:
            bound += (str(name) for (name,) in store.connection.execute(query, (weights,)).fetchall())
    return bound


def _coded(store: "DiskBlockStore", row: ModelRow, going: set[str]) -> list[str]:
    try:
        ids = store.manifest_of(row).block_ids()
    except IntegrityError:  # nobody knows
        return []
    users: set[BlockId] = set()
    for keys in index.key_batches(ids):
        query = f"SELECT DISTINCT block FROM needs WHERE base IN ({index.placeholders(len(keys))})"
        users.update(BlockId(key.hex()) for (key,) in store.connection.execute(query, keys).fetchall())
    users -= set(ids)
    found = []
    for other in store.model_rows() if users else ():
        with suppress(IntegrityError):
            if other.name not in going and not users.isdisjoint(store.manifest_of(other).block_ids()):
                found.append(other.name)
    return found
