"""A block store as what `policy` knows: a catalog of blocks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from demo.parts import Part, alone_form
from pbstore import BlockId, BlockInfo, DiskBlockStore
from policy.interfaces import BlockCatalog, BlockForms, Bool, Int
from policy.world.ranges import in_ranges

UNIT_BYTES = 4 << 20
"""Most bytes of a unit of placement: 34 ms on the air at 1 Gbit/s, far below what a node holds."""
BUNDLE_BYTES = 1 << 20
"""Smaller blocks of the same models are put together, up to so many bytes."""
NODE_SHARE = 1 / 16
"""Most of the smallest node's room that one unit takes: what no longer fits wastes little."""
_LEAST_UNIT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class StoreCatalog:
    """A catalog of what a store holds."""

    catalog: BlockCatalog
    """Coded sizes, and which model needs which unit."""
    units: tuple[tuple[Part, ...], ...]
    """Blocks, or the range of one, of each column of the catalog; blocks behind those that they need."""


def catalog_from_store(
    store: DiskBlockStore,
    bases: Mapping[str, str | None] | None = None,
    *,
    room_bytes: float | None = None,
    bundle_bytes: int = BUNDLE_BYTES,
    forms: bool = True,
) -> StoreCatalog:
    """The catalog of a store's models, kept in the form in which blocks are stored: raw, delta or derived.

    A unit of placement is a bundle of small blocks that exactly the same models need (no policy could treat
    them differently to any effect), a block, or a range of a block that is larger than `UNIT_BYTES` or
    `NODE_SHARE` of a node.

    Args:
        store: Store with the models.
        bases: Base of each model that cannot run without it (an adapter): its blocks are needed too.
        room_bytes: Room of the smallest node, if known.
        bundle_bytes: Most bytes of small blocks that are put together; 0: none are.
        forms: Whether a block that is stored as a delta or derived may also be delivered on its own. Its
            size in that form is found by coding it, about 20 ms a megabyte, once.

    Raises:
        ValueError: If the store holds no model, or a base is not among its models.
    """
    names = store.models()
    if not names:
        raise ValueError(f"{store.path} holds no model: add one with `pbcast store add`")
    needs_base = {name: base for name, base in (bases or {}).items() if base is not None}
    content = {name: store.manifest(name).block_ids() for name in names}
    kept = {name: store.blocks(name) for name in names}
    for name, base in needs_base.items():
        if base not in names:
            raise ValueError(f"{name} needs {base}, which the store does not hold")
    rows = _Rows(content=_rows_of(names, content, needs_base), members=_rows_of(names, kept, needs_base))
    infos = {block_id: store.info(block_id) for block_id in rows.members}
    alone = {
        block_id: _alone_bytes(store, info) if forms else info.stored_bytes
        for block_id, info in infos.items()
    }
    most = UNIT_BYTES if room_bytes is None else min(UNIT_BYTES, room_bytes * NODE_SHARE)
    most = max(most, _LEAST_UNIT_BYTES)
    bundles = _bundles(rows, infos, alone, min(bundle_bytes, int(most)))
    whole = {name: store.manifest(name).raw_bytes for name in names}
    catalog = _catalog(
        rows, infos, alone, bundles, names, [whole[n] + whole.get(needs_base.get(n, ""), 0) for n in names]
    )
    cut = in_ranges(catalog if forms else replace(catalog, forms=None), most)
    units = [
        bundles[j] if count == 1 else (Part(bundles[j][0].block_id, index, count),)
        for j, index, count in zip(cut.block.tolist(), cut.index.tolist(), cut.count.tolist(), strict=True)
    ]
    return StoreCatalog(cut.catalog, tuple(units))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Models, by number, that each block is content of, and that need it."""

    content: Mapping[BlockId, tuple[int, ...]]
    members: Mapping[BlockId, tuple[int, ...]]


def _rows_of(
    names: Sequence[str], blocks: Mapping[str, Sequence[BlockId]], bases: Mapping[str, str]
) -> dict[BlockId, tuple[int, ...]]:
    needed_by: dict[BlockId, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        own = blocks[name]
        for block_id in dict.fromkeys([*blocks[bases[name]], *own] if name in bases else own):
            needed_by[block_id].append(row)
    return {block_id: tuple(rows) for block_id, rows in needed_by.items()}


def _bundles(
    rows: _Rows, infos: Mapping[BlockId, BlockInfo], alone: Mapping[BlockId, int], most_bytes: int
) -> list[tuple[Part, ...]]:
    """Blocks put together: same models, all or none with a need of others, up to so many bytes."""
    bundles: list[list[Part]] = []
    filling: dict[object, tuple[int, int]] = {}  # bundle that is being filled, and its bytes
    for block_id, needed_by in rows.members.items():
        size = max(infos[block_id].stored_bytes, alone[block_id])
        key = (needed_by, rows.content.get(block_id), bool(infos[block_id].needs))
        place, filled = filling.get(key, (-1, most_bytes))
        if filled + size > most_bytes:
            bundles.append([])
            place, filled = len(bundles) - 1, 0
        bundles[place].append(Part(block_id))
        filling[key] = (place, filled + size)
    return [tuple(bundle) for bundle in bundles]


def _catalog(
    rows: _Rows,
    infos: Mapping[BlockId, BlockInfo],
    alone: Mapping[BlockId, int],
    bundles: Sequence[Sequence[Part]],
    names: Sequence[str],
    whole_bytes: Sequence[int],
) -> BlockCatalog:
    """The catalog of bundles, before any is cut."""
    column = {part.block_id: j for j, bundle in enumerate(bundles) for part in bundle}
    pairs = {(column[b], column[base]) for b, info in infos.items() for base in info.bases}
    requires = np.array(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=np.int64)
    return BlockCatalog(
        sizes_bytes=_sizes(bundles, {b: info.stored_bytes for b, info in infos.items()}),
        members=_table(rows.members, column, (len(names), len(bundles))),
        model_names=tuple(names),
        block_names=tuple(bundle[0].block_id for bundle in bundles),
        whole_bytes=np.array(whole_bytes),
        requires=requires.reshape(-1, 2),
        forms=BlockForms(
            alone_bytes=_sizes(bundles, alone),
            content=_table(rows.content, column, (len(names), len(bundles))),
            together=np.arange(len(bundles)),
        ),
    )


def _sizes(bundles: Sequence[Sequence[Part]], sizes: Mapping[BlockId, int]) -> Int:
    return np.array([sum(sizes[part.block_id] for part in bundle) for bundle in bundles], dtype=np.int64)


def _table(
    rows: Mapping[BlockId, tuple[int, ...]], column: Mapping[BlockId, int], shape: tuple[int, int]
) -> Bool:
    table = np.zeros(shape, dtype=bool)
    for block_id, needed_by in rows.items():
        table[list(needed_by), column[block_id]] = True
    return table


def _alone_bytes(store: DiskBlockStore, info: BlockInfo) -> int:
    """Size of a block's form that needs no other; found once, for an id always means the same bytes."""
    if not info.needs:
        return info.stored_bytes
    if info.block_id not in _ALONE_BYTES:
        _ALONE_BYTES[info.block_id] = alone_form(store, info.block_id).stored_bytes
    return _ALONE_BYTES[info.block_id]


_ALONE_BYTES: dict[BlockId, int] = {}
