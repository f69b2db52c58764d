"""Raw bytes of blocks as writable memory: mapped where the block lies raw in a pack, decoded elsewhere.

Maps are private and copy on write: whoever writes to a tensor gets a page of his own, the store never
changes. The pages that nobody writes to are the page cache's, shared by every process and every model that
maps them.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from pbstore.coding import check_hash
from pbstore.disk import index
from pbstore.disk.pack import pack_path
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockCorruptError
from pbstore.hashing import BlockId
from pbstore.pool import Pool, in_order
from pbstore.store import BlockStore

Place: TypeAlias = tuple[int, int, int]
"""Pack, offset and length of a raw block."""
_shared_maps: WeakValueDictionary[tuple[int, int, int], mmap.mmap] = WeakValueDictionary()
"""By device, inode and length: a pack that grew has several."""
_shared_blocks: WeakValueDictionary[BlockId, npt.NDArray[np.uint8]] = WeakValueDictionary()
_shared_mutex = threading.Lock()


class BlockMemory:
    """Writable memory of the blocks of one load.

    Args:
        store: Where the blocks are.
        verify: Hash every block before it is used; blocks that are decoded are hashed in any case.
        share: Use one map, and one decoded copy of a block, for all loads of this process that ask for it.
            Equal blocks are then the same memory, also between models: for inference only, whoever writes to
            one model writes to its siblings.
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

    def of(self, block_ids: Iterable[BlockId]) -> dict[BlockId, memoryview]:
        """Writable bytes of each block; equal ids give the same memory.

        Raises:
            BlockMissingError: If a block is not there.
            BlockCorruptError: If a block does not hash to its id (mapped blocks: only with `verify`).
        """
        wanted = list(dict.fromkeys(block_ids))
        found = self._raw(wanted)
        rest = [block_id for block_id in wanted if block_id not in found]
        jobs: list[Callable[[], object]] = [partial(self._decode_into, found, block_id) for block_id in rest]
        if self._verify:
            checked = list(found.items())
            jobs += [partial(_check_all, checked[part :: self._threads]) for part in range(self._threads)]
        _run(jobs, self._threads)
        return found

    def _decode_into(self, found: dict[BlockId, memoryview], block_id: BlockId) -> None:
        array = _shared_blocks.get(block_id) if self._share else None
        if array is None:
            raw = memoryview(self._store.get(block_id))
            array = np.frombuffer(bytearray(raw) if raw.readonly else raw, np.uint8)
            if self._share:
                array = _shared_blocks.setdefault(block_id, array)
        found[block_id] = array.data

    def _raw(self, wanted: Sequence[BlockId]) -> dict[BlockId, memoryview]:
        """Views of the blocks that lie raw in packs of a store on the disk, mapped or, if eager, read."""
        store = self._store
        if not isinstance(store, DiskBlockStore):
            return {}
        packs = store.layout.packs
        for last in (False, True):
            try:
                places = raw_places(store.connection, wanted)
                return read_places(packs, places, self._threads) if self._eager else self._map(packs, places)
            except FileNotFoundError:  # a pack was collected between the look-up and the map
                if last:
                    raise
        return {}

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
            maps = self._maps[pack] = _shared_maps_of(path, end) if self._share else [_private_map(path)]
        return maps


def raw_places(connection: sqlite3.Connection, wanted: Sequence[BlockId]) -> dict[BlockId, Place]:
    """Where the blocks lie that are stored raw; the others, and empty ones, are left out."""
    found: dict[BlockId, Place] = {}
    for keys in index.key_batches(wanted):
        rows = connection.execute(
            "SELECT id, pack, payload_offset, stored_bytes FROM blocks"
            f" WHERE codec = 'raw' AND stored_bytes > 0 AND id IN ({index.placeholders(len(keys))})",
            keys,
        ).fetchall()
        found |= {key.hex(): (pack, offset, length) for key, pack, offset, length in rows}
    return found


def read_places(packs: Path, places: Mapping[BlockId, Place], threads: int) -> dict[BlockId, memoryview]:
    """Read blocks from their packs, in the order in which they lie there, several at a time."""
    found: dict[BlockId, memoryview] = {}
    files = {
        pack: os.open(pack_path(packs, pack), os.O_RDONLY | os.O_CLOEXEC) for pack, _, _ in places.values()
    }

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

    try:
        ordered = sorted(places.items(), key=lambda item: item[1])
        _run([partial(read, block_id, *place) for block_id, place in ordered], threads)
    finally:
        for fd in files.values():
            os.close(fd)
    return found


def join(views: Sequence[memoryview]) -> memoryview:
    """A copy of several runs of bytes as one."""
    joined = np.empty(sum(map(len, views)), np.uint8)
    position = 0
    for view in views:
        joined[position : position + len(view)] = np.frombuffer(view, np.uint8)
        position += len(view)
    return joined.data


def _check_all(blocks: Sequence[tuple[BlockId, memoryview]]) -> None:
    for block_id, view in blocks:
        check_hash(block_id, view)


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


def _private_map(path: Path) -> memoryview:
    with _opened(path) as fd:
        return memoryview(_map_file(fd))


def _shared_maps_of(path: Path, end: int) -> list[memoryview]:
    """This process's maps of a file, shorter ones first; a new one if none reaches to `end`.

    A block stays in the map in which earlier loads have it, though its pack has grown since.
    """
    with _opened(path) as fd, _shared_mutex:
        status = os.fstat(fd)
        file = (status.st_dev, status.st_ino)
        maps = sorted((mapped for key, mapped in _shared_maps.items() if key[:2] == file), key=len)
        if not maps or len(maps[-1]) < end:
            mapped = _map_file(fd)
            maps.append(_shared_maps.setdefault((*file, len(mapped)), mapped))
    return [memoryview(mapped) for mapped in maps]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _map_file(fd: int) -> mmap.mmap:
    return mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
