"""Blocks straight into the memory of the tensors that they are parts of: decoded there, and never copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from pbstore.codecs.scratch import new_pages
from pbstore.coding import check_hash
from pbstore.disk.blocks.read import NOWHERE
from pbstore.disk.index import locations
from pbstore.disk.index.locations import Location
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockMissingError, IntegrityError
from pbstore.hashing import BlockId
from pbstore.store import BlockStore

Filled = Mapping[BlockId, memoryview]
_CHANGING = (IntegrityError, BlockMissingError, FileNotFoundError)
"""What a look-up may end with while the block is just being stored anew; not twice."""


class Filling:
    """Memory of runs of blocks, and the jobs that fill it.

    Args:
        store: Where the blocks are.
        runs: Blocks that stand behind one another in memory.
        there: Bytes of some of them, to be copied.
        threads: How many jobs are done at a time; so many further ones' payloads are asked for from the disk.
    """

    def __init__(
        self, store: BlockStore, runs: Collection[Sequence[BlockId]], there: Filled, threads: int
    ) -> None:
        self._store, self._threads = store, threads
        self._disk = store.disk if isinstance(store, DiskBlockStore) else None
        wanted = dict.fromkeys(block_id for run in runs for block_id in run)
        coded = [block_id for block_id in wanted if block_id not in there]
        self._known = locations.find_many(self._disk.connection, coded) if self._disk is not None else {}
        sizes = {
            block_id: len(there[block_id]) if block_id in there else self._size(block_id)
            for block_id in wanted
        }
        self._parts: dict[BlockId, list[memoryview]] = {block_id: [] for block_id in wanted}
        self.memory = [self._take(run, sizes) for run in runs]
        """Bytes of each run; right when all jobs are done."""
        self._coded = sorted(coded, key=self._lies_at)
        self._there = there

    def jobs(self) -> list[Callable[[], None]]:
        """What is to be done for the memory to be right, in the order in which the blocks lie on the disk.

        They are not kept here: memory in a circle would stay until somebody looks for circles.
        """
        ahead = [
            self._coded[place : place + 1] for place in range(self._threads, len(self._coded) + self._threads)
        ]
        jobs = [partial(self._decode, one, later) for one, later in zip(self._coded, ahead, strict=True)]
        copies = [one for one in self._parts if one in self._there]
        return [*jobs, *(partial(self._copy, one, self._there[one]) for one in copies)]

    def _take(self, run: Sequence[BlockId], sizes: Mapping[BlockId, int]) -> memoryview:
        memory, end = new_pages(sum(sizes[block_id] for block_id in run)), 0
        for block_id in run:
            start, end = end, end + sizes[block_id]
            self._parts[block_id].append(memory[start:end])
        return memory

    def _size(self, block_id: BlockId) -> int:
        if self._disk is None:
            return self._store.info(block_id).raw_bytes
        if block_id not in self._known:
            raise BlockMissingError(block_id)
        return self._known[block_id].record.raw_bytes

    def _lies_at(self, block_id: BlockId) -> tuple[int, int]:
        found = self._known.get(block_id)
        return (0, 0) if found is None else (found.pack, found.record.offset)

    def _decode(self, block_id: BlockId, later: Sequence[BlockId]) -> None:
        """Read, decode and check a block where it is wanted first; copy it from there."""
        first = self._parts[block_id][0]
        for other in later:
            self._ask_for(other)
        try:
            self._fill(block_id, first, self._known)
        except _CHANGING:
            self._fill(block_id, first, NOWHERE)
        self._copy(block_id, first)

    def _fill(self, block_id: BlockId, out: memoryview, known: Mapping[BlockId, Location]) -> None:
        if self._disk is None:
            raw = self._store.get(block_id)
        else:
            workers = self._threads if len(self._parts) == 1 else 1
            raw = self._disk.get_unchecked(block_id, workers, known, out=out)
        if raw is not out:
            np.copyto(np.frombuffer(out, np.uint8), np.frombuffer(raw, np.uint8))
        check_hash(block_id, out)

    def _copy(self, block_id: BlockId, source: memoryview) -> None:
        for part in self._parts[block_id]:
            if part is not source:
                np.copyto(np.frombuffer(part, np.uint8), np.frombuffer(source, np.uint8))

    def _ask_for(self, block_id: BlockId) -> None:
        """Let the system begin to read what a block is decoded from; it does not wait."""
        if self._disk is None:
            return
        location = self._known[block_id]
        bases = [self._known[base] for base in location.record.needs if base in self._known]
        for one in (location, *bases):
            record = one.record
            with suppress(FileNotFoundError):  # collected since: it is looked up again when it is read
                file = self._disk.open_pack(one)
                os.posix_fadvise(file.fd, record.payload_offset, record.stored_bytes, os.POSIX_FADV_WILLNEED)
