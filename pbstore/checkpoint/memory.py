"""Raw bytes of blocks as writable memory: mapped where the block lies raw in a pack, decoded elsewhere.

Maps are private and copy on write: whoever writes to a tensor gets a page of his own, the store never
changes. The pages that nobody writes to are the page cache's, shared by every process and every model that
maps them. That two tensors have equal bytes, and so one block, does not make them one memory: each use of a
block is a map, or a copy, of its own, unless the caller asks to share.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pbstore.checkpoint import patchwork, shared
from pbstore.checkpoint.into import Filling
from pbstore.checkpoint.patchwork import Span
from pbstore.coding import check_hash
from pbstore.disk.files.pack import pack_path
from pbstore.disk.index import database, locations
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockCorruptError, BlockMissingError, IntegrityError
from pbstore.hashing import BlockId
from pbstore.pool import Pool, in_order
from pbstore.store import BlockStore

Place: TypeAlias = tuple[int, int, int]
"""Pack, offset and length of a raw block."""
Run: TypeAlias = tuple[BlockId, ...]
"""Blocks that stand behind one another in a tensor."""
MAP_AGAIN_BYTES = 64 << 10
"""A block that is used once more is mapped once more from this length on; shorter ones are copied."""


class BlockMemory:
    """Writable memory of the blocks of one load.

    Args:
        store: Where the blocks are.
        verify: Hash every block before it is used; blocks that are decoded are hashed in any case.
        share: Use one map, and one decoded copy of a block, for all loads of this process that ask for it.
            Equal blocks are then the same memory, also between models: for inference only, whoever writes to
            one model writes to its siblings. With `verify`, a block that was written to is not shared again.
        eager: Read instead of mapping: for network disks, where each touched page is a round trip.
        threads: Blocks decoded or hashed at a time.
    """

    def __init__(
        self,
        store: BlockStore,
        *,
        verify: bool = False,
        share: bool = False,
        eager: bool = False,
        threads: int = 2,
    ) -> None:
        self._store, self._verify, self._share, self._eager = store, verify, share, eager
        self._threads = max(1, threads)
        self._maps: dict[int, list[memoryview]] = {}
        self._places: dict[BlockId, Place] = {}

    def of(self, runs: Sequence[Run]) -> list[memoryview]:
        """Writable bytes of each run of blocks.

        Equal runs are the same memory with `share`; without it no byte of one is memory of another.

        Raises:
            BlockMissingError: If a block is not there.
            BlockCorruptError: If a block does not hash to its id (mapped blocks: only with `verify`).
        """
        if not self._share:
            return self._own(runs)
        known = {} if self._verify else self._joined_before(runs)
        views = self._blocks(block_id for run in runs if run not in known for block_id in run)
        for run in dict.fromkeys(runs):
            if run not in known:
                known[run] = self._common(run, views)
        return [known[run] for run in runs]

    def _own(self, runs: Sequence[Run]) -> list[memoryview]:
        """Memory of each run: mapped where all of its blocks lie raw, else filled."""
        raw = self._raw(list(dict.fromkeys(block_id for run in runs for block_id in run)))
        is_filled = [any(block_id not in raw for block_id in run) for run in runs]
        to_fill = [run for run, filled in zip(runs, is_filled, strict=True) if filled]
        filling = Filling(self._store, to_fill, raw, self._threads)
        ids = list(raw)
        checks = [partial(self._check, raw, ids[part :: self._threads]) for part in range(self._threads)]
        _run([*(checks if self._verify else ()), *filling.jobs()], self._threads)
        mapped = [run for run, filled in zip(runs, is_filled, strict=True) if not filled]
        filled_ones, others = iter(filling.memory), iter(self._each_its_own(mapped, raw))
        return [next(filled_ones if filled else others) for filled in is_filled]

    def _joined_before(self, runs: Sequence[Run]) -> dict[Run, memoryview]:
        """Runs of several blocks that are shared with an earlier load."""
        return {run: view for run in runs if len(run) > 1 and (view := shared.find(run)) is not None}

    def _common(self, run: Run, views: Mapping[BlockId, memoryview]) -> memoryview:
        """The memory of a run that all loads which share have in common."""
        if len(run) < 2:
            return views[run[0]] if run else memoryview(b"")
        mine = self._once_more(run, views)
        common = shared.keep(run, mine)
        written = self._verify and common != mine  # by a load that has it too
        return mine if written else common

    def _each_its_own(self, runs: Sequence[Run], views: dict[BlockId, memoryview]) -> list[memoryview]:
        """Memory of each run; a map or a copy for each use of a block but its last one."""
        left, own = Counter(block_id for run in runs for block_id in run), []
        for run in runs:
            last = []
            for block_id in run:
                left[block_id] -= 1
                if not left[block_id]:
                    last.append(block_id)
            own.append(views[run[0]] if last and len(run) == 1 else self._once_more(run, views))
            for block_id in last:  # what was decoded and copied is not needed twice
                del views[block_id]
        return own

    def _once_more(self, run: Run, views: Mapping[BlockId, memoryview]) -> memoryview:
        """Memory of a run that is not that of its blocks."""
        parts = [views[block_id] for block_id in run]
        large = len(run) > 1 or sum(map(len, parts)) >= MAP_AGAIN_BYTES
        return (self._mapped(run) if large else None) or _joined(parts)

    def _mapped(self, run: Run) -> memoryview | None:
        """A map of a run for itself; None where its blocks do not all lie so that they can be mapped."""
        places = [self._places[block_id] for block_id in run if block_id in self._places]
        if self._eager or len(places) < len(run) or not isinstance(self._store, DiskBlockStore):
            return None
        packs = {pack for pack, _, _ in places}
        try:
            with ExitStack() as stack:
                paths = {pack: pack_path(self._store.disk.layout.packs, pack) for pack in packs}
                files = {pack: stack.enter_context(shared.opened(paths[pack])) for pack in packs}
                return patchwork.side_by_side([Span(files[pack], *rest) for pack, *rest in places])
        except FileNotFoundError:  # a pack was collected since
            return None

    def _blocks(self, block_ids: Iterable[BlockId]) -> dict[BlockId, memoryview]:
        """Bytes of each block."""
        wanted = list(dict.fromkeys(block_ids))
        found = self._raw(wanted)
        raw = list(found)
        jobs = [partial(self._decode_into, found, block_id) for block_id in wanted if block_id not in found]
        if self._verify:
            jobs += [partial(self._check, found, raw[part :: self._threads]) for part in range(self._threads)]
        _run(jobs, self._threads)
        return found

    def _decode_into(self, found: dict[BlockId, memoryview], block_id: BlockId) -> None:
        view = shared.find((block_id,)) if self._share else None
        if view is not None:
            found[block_id] = view
            if self._verify:
                self._check(found, [block_id])
        else:
            view = self._decoded(block_id)
            found[block_id] = shared.keep((block_id,), view) if self._share else view

    def _decoded(self, block_id: BlockId) -> memoryview:
        """A block's bytes in memory of its own, checked."""
        for last in (False, True):
            try:
                raw = memoryview(self._store.get(block_id))
                break
            except (IntegrityError, BlockMissingError, FileNotFoundError):
                if last:  # else it may be that it was just being stored anew, on other bases
                    raise
        own = isinstance(self._store, DiskBlockStore) and not raw.readonly
        return raw if own else memoryview(bytearray(raw))  # else it may be what a store in memory holds

    def _check(self, found: dict[BlockId, memoryview], block_ids: Sequence[BlockId]) -> None:
        """Check blocks; where another load wrote to what they share, take the store's bytes instead."""
        for block_id in block_ids:
            try:
                check_hash(block_id, found[block_id])
            except BlockCorruptError:
                if not self._share:
                    raise
                found[block_id] = self._decoded(block_id)

    def _raw(self, wanted: Sequence[BlockId]) -> dict[BlockId, memoryview]:
        """Views of the blocks that lie raw in packs of a store on the disk, mapped or, if eager, read."""
        store = self._store
        if not isinstance(store, DiskBlockStore):
            return {}
        packs = store.disk.layout.packs
        for last in (False, True):
            try:
                self._places = places = raw_places(store.disk.connection, wanted)
                return self._read(packs, places) if self._eager else self._map(packs, places)
            except FileNotFoundError:  # a pack was collected between the look-up and the map
                if last:
                    raise
        return {}

    def _read(self, packs: Path, places: Mapping[BlockId, Place]) -> dict[BlockId, memoryview]:
        """Blocks read from their packs, and with `share` those that another load has read."""
        if not self._share:
            return read_places(packs, places, self._threads)
        found = {block_id: view for block_id in places if (view := shared.find((block_id,))) is not None}
        rest = {block_id: place for block_id, place in places.items() if block_id not in found}
        read = read_places(packs, rest, self._threads)
        for block_id, view in read.items():  # before another load, perhaps of another store, relies on it
            check_hash(block_id, view)
        return found | {block_id: shared.keep((block_id,), view) for block_id, view in read.items()}

    def _map(self, packs: Path, places: Mapping[BlockId, Place]) -> dict[BlockId, memoryview]:
        """Views of blocks in maps of their packs; each in the first map that reaches behind it."""
        ends: dict[int, int] = {}
        for pack, offset, length in places.values():
            ends[pack] = max(ends.get(pack, 0), offset + length)
        maps = {pack: self._maps_of(packs, pack, end) for pack, end in ends.items()}
        found = {}
        for block_id, (pack, offset, length) in places.items():
            for mapped in maps[pack]:
                if offset + length <= len(mapped):
                    found[block_id] = mapped[offset : offset + length]
                    break
            else:
                raise BlockCorruptError(block_id, f"its pack ends before byte {offset + length}")
        return found

    def _maps_of(self, packs: Path, pack: int, end: int) -> list[memoryview]:
        """Maps of a pack, shorter ones first, of which the last reaches to `end` if the file does."""
        maps = self._maps.get(pack, [])
        if not maps or len(maps[-1]) < end:
            path = pack_path(packs, pack)
            maps = self._maps[pack] = (
                shared.shared_maps(path, end) if self._share else [shared.private_map(path)]
            )
        return maps


def _joined(parts: Sequence[memoryview]) -> memoryview:
    """A copy of some bytes behind one another."""
    if not parts:
        return memoryview(b"")
    return np.concatenate([np.frombuffer(part, np.uint8) for part in parts]).data


def raw_places(connection: sqlite3.Connection, wanted: Sequence[BlockId]) -> dict[BlockId, Place]:
    """Where the blocks lie that are stored raw; the others, and empty ones, are left out."""
    found: dict[BlockId, Place] = {}
    for keys in locations.key_batches(wanted):
        rows = connection.execute(
            "SELECT id, pack, payload_offset, stored_bytes FROM blocks"
            f" WHERE codec = 'raw' AND stored_bytes > 0 AND id IN ({database.placeholders(len(keys))})",
            keys,
        ).fetchall()
        found |= {key.hex(): (pack, offset, length) for key, pack, offset, length in rows}
    return found


def read_places(packs: Path, places: Mapping[BlockId, Place], threads: int) -> dict[BlockId, memoryview]:
    """Read blocks from their packs, in the order in which they lie there, several at a time."""
    found: dict[BlockId, memoryview] = {}
    files: dict[int, int] = {}

    def read(block_id: BlockId, pack: int, offset: int, length: int) -> None:
        view = np.empty(length, np.uint8).data
        done = 0
        while done < length:
            count = os.preadv(files[pack], [view[done:]], offset + done)
            if not count:
                raise BlockCorruptError(
                    block_id, f"its pack ends at {offset + done}, before {offset + length}"
                )
            done += count
        found[block_id] = view

    with ExitStack() as stack:
        for pack in {pack for pack, _, _ in places.values()}:
            files[pack] = stack.enter_context(shared.opened(pack_path(packs, pack)))
        ordered = sorted(places.items(), key=lambda item: item[1])
        _run([partial(read, block_id, *place) for block_id, place in ordered], threads)
    return found


def _run(jobs: Sequence[Callable[[], object]], threads: int) -> None:
    """Run jobs on some threads; the first error is raised, the jobs not yet begun are dropped."""
    if threads == 1 or len(jobs) < 2:
        for job in jobs:
            job()
        return
    with Pool(threads, "pbstore-load") as pool:
        for _ in in_order(pool, _call, jobs):
            pass


def _call(job: Callable[[], object]) -> object:
    return job()
