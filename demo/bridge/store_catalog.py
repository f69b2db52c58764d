"""A block store as what `policy` knows: a catalog of blocks."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pbstore import BlockId, DiskBlockStore
from policy.interfaces import BlockCatalog

SMALL_BLOCK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class StoreCatalog:
    """A catalog of what a store holds."""

    catalog: BlockCatalog
    """Coded sizes, and which model needs which unit."""
    units: tuple[tuple[BlockId, ...], ...]
    """Stored blocks of each column of the catalog, each one behind the blocks that it needs."""


def catalog_from_store(
    store: DiskBlockStore, bases: Mapping[str, str | None] | None = None, small_bytes: int = SMALL_BLOCK_BYTES
) -> StoreCatalog:
    """The catalog of a store's models, in the form in which the blocks are stored: raw, delta or derived.

    Blocks below `small_bytes` that exactly the same models need (biases, norms, headers) count as one unit of
    placement: no policy could treat them differently to any effect.

    Args:
        store: Store with the models.
        bases: Base of each model that cannot run without it (an adapter): its blocks are needed too.
        small_bytes: Stored size below which blocks are put together.
    """
    names = store.models()
    wanted = {name: list(store.blocks(name)) for name in names}
    needs_base = {name: base for name, base in (bases or {}).items() if base is not None}
    for name, base in needs_base.items():
        wanted[name] = list(dict.fromkeys([*wanted[base], *wanted[name]]))
    needed_by: dict[BlockId, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        for block_id in wanted[name]:
            needed_by[block_id].append(row)
    infos = {block_id: store.info(block_id) for block_id in needed_by}
    grouped: dict[tuple[object, ...], list[BlockId]] = defaultdict(list)
    for block_id, rows in needed_by.items():
        small = infos[block_id].stored_bytes < small_bytes
        grouped[(*rows,) if small else (block_id,)].append(block_id)
    units = tuple(map(tuple, grouped.values()))
    column = {block_id: j for j, unit in enumerate(units) for block_id in unit}
    members = np.zeros((len(names), len(units)), dtype=bool)
    for block_id, rows in needed_by.items():
        members[rows, column[block_id]] = True
    manifests = {name: store.manifest(name) for name in names}
    whole = {name: manifest.raw_bytes for name, manifest in manifests.items()}
    for name, base in needs_base.items():
        whole[name] += manifests[base].raw_bytes
    pairs = {(column[b], column[need]) for b, info in infos.items() for need in info.needs}
    catalog = BlockCatalog(
        sizes_bytes=np.array([sum(infos[b].stored_bytes for b in unit) for unit in units]),
        members=members,
        model_names=names,
        block_names=tuple(unit[0] for unit in units),
        whole_bytes=np.array([whole[name] for name in names]),
        requires=np.array(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=np.int64).reshape(
            -1, 2
        ),
    )
    return StoreCatalog(catalog, units)
