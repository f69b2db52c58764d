"""Keeping fetched blocks in a node's store, in one thread, within the store's capacity.

Fetched blocks are blocks that no model names: the store's models are its owner's and are never touched. What
has to go for them goes by `delete_block`, which refuses what a model or another block needs.
"""

import asyncio
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.index import locations
from pbstore.disk.store import DiskBlockStore
from pbstore.errors import BlockInUseError, BlockMissingError, CapacityError, PBStoreError
from pbstore.hashing import BlockId
from pbstore.pool import Pool
from pbstore.serve.fetch import take
from pbstore.serve.fetch.policy import MOST_REMEMBERED, CachePolicy, LeastRecentlyUsed
from pbstore.serve.fetch.take import Checked
from pbstore.serve.meter import Meter

P = ParamSpec("P")
R = TypeVar("R")
SLACK = 0.02
"""Share of the capacity that is freed beyond what is wanted, so that not every block frees some."""
_LOOKED_UP = 64
"""Blocks that are looked up at a time."""
log = logging.getLogger(__name__)


class Keeper:
    """Keeps fetched blocks of one store; the store stays its owner's.

    Blocks come in as they are fetched, and those that came while the last ones were made durable go to the
    disk together.
    """

    def __init__(self, store: DiskBlockStore, meter: Meter, policy: CachePolicy | None = None) -> None:
        self._store, self._meter = store, meter
        self._policy = policy or LeastRecentlyUsed()
        self._pool = Pool(1, "serve-keep")
        self._mutex = threading.Lock()
        self._held: Counter[BlockId] = Counter()
        self._coming: list[tuple[Checked, asyncio.Future[bool]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._found = False
        self._let_go: OrderedDict[BlockId, None] = OrderedDict()

    async def keep(self, block: Checked) -> bool:
        """Keep a block, if there is room and the policy wants it; whether it is kept."""
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._coming.append((block, kept))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.ensure_future(self._flush())
        return await kept

    def used(self, block_ids: Iterable[BlockId]) -> None:
        """Note that blocks are used."""
        with self._mutex:
            self._policy.used(block_ids)

    @contextmanager
    def holding(self, block_ids: Iterable[BlockId]) -> Iterator[None]:
        """Let no block of these, nor what it needs, go."""
        ids = tuple(block_ids)
        with self._mutex:
            self._held.update(ids)
        try:
            yield
        finally:
            with self._mutex:
                self._held.subtract(ids)
                for block_id in ids:
                    if self._held[block_id] <= 0:
                        del self._held[block_id]

    def is_held(self, block_id: BlockId) -> bool:
        """Whether a request in progress holds a block."""
        return self._held[block_id] > 0

    def was_let_go(self, block_id: BlockId) -> bool:
        """Whether a block came, and is not kept, or not any more."""
        return block_id in self._let_go

    async def close(self) -> None:
        """Let what is on its way come to the disk, and end the thread."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.gather(self._flushing, return_exceptions=True)
        self._pool.shutdown(wait=False)

    async def _flush(self) -> None:
        while self._coming:
            batch, self._coming = self._coming, []
            kept: set[BlockId] = set()
            try:
                kept = await self._call(self._keep, [block for block, _ in batch])
            except (PBStoreError, OSError) as error:
                log.warning("fetched blocks are not kept: %s", error)
            finally:
                for block, future in batch:
                    if not future.done():
                        future.set_result(block.stored.block_id in kept)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def _keep(self, blocks: Sequence[Checked]) -> set[BlockId]:
        """Keep blocks in one transaction; ids of those that are in the store then."""
        self._find_kept()
        with self._mutex:
            wanted = [block for block in blocks if self._policy.wants(block.stored.info)]
        kept: set[BlockId] = set()
        gone: list[BlockId] = []
        passed: list[BlockId] = []
        with self._store.disk.writing() as tx:
            for block in wanted:
                try:
                    gone += self._make_room(tx, block)
                    take.keep(self._store.disk, tx, [block])
                except CapacityError:
                    passed.append(block.stored.block_id)
                    continue
                kept.add(block.stored.block_id)
        with self._mutex:
            for block_id in gone:
                self._policy.gone(block_id)
            for block_id in passed:
                self._policy.passed(block_id)
            self._policy.used(block_id for block in wanted for block_id in _with_needs(block, kept))
            self._note_let_go([*gone, *passed])
        if gone:
            self._meter.evictions(len(gone))
        return kept

    def _make_room(self, tx: Transaction, block: Checked) -> list[BlockId]:
        """Let go of blocks until one fits, if it can be made to fit; those that went."""
        store, gone = self._store, dict[BlockId, None]()
        capacity = store.capacity_bytes
        wanted = block.stored.stored_bytes
        if capacity is None or store.used_bytes + wanted <= capacity or store.disk.has(block.stored.block_id):
            return []
        may_go = self._may_go(tx, block)
        if not self._is_enough(tx, may_go, store.used_bytes + wanted - capacity):
            return []
        goal = capacity - wanted - int(SLACK * capacity)
        for block_id in [*may_go, *may_go]:  # again, for what was needed by one that went later
            if store.used_bytes <= max(goal, 0):
                break
            if block_id in gone:
                continue
            try:
                store.delete_block(block_id)
            except BlockInUseError:
                continue
            except BlockMissingError:  # a gc took it
                pass
            gone[block_id] = None
        return list(gone)

    def _may_go(self, tx: Transaction, block: Checked) -> list[BlockId]:
        """Blocks that may go, the first first."""
        with self._mutex:
            order, held = list(self._policy.first_to_go(block.stored.block_id)), set(self._held)
        found = locations.find_many(tx.connection, list(held))
        held |= {need for one in found.values() for need in one.info.needs}
        held |= tx.spared | set(block.stored.needs)
        return [block_id for block_id in order if block_id not in held]

    def _is_enough(self, tx: Transaction, block_ids: Sequence[BlockId], wanted_bytes: int) -> bool:
        """Whether some blocks are as many bytes as are wanted."""
        for start in range(0, len(block_ids), _LOOKED_UP):
            found = locations.find_many(tx.connection, block_ids[start : start + _LOOKED_UP])
            wanted_bytes -= sum(one.info.stored_bytes for one in found.values())
            if wanted_bytes <= 0:
                return True
        return False

    def _note_let_go(self, block_ids: Iterable[BlockId]) -> None:
        for block_id in block_ids:
            self._let_go.pop(block_id, None)
            self._let_go[block_id] = None
        while len(self._let_go) > MOST_REMEMBERED:
            self._let_go.popitem(last=False)

    def _find_kept(self) -> None:
        """Once: learn of the blocks that an earlier run kept."""
        if self._found:
            return
        self._found = True
        orphans = sorted(
            locations.orphans(self._store.disk.connection), key=lambda one: (one.pack, one.record.offset)
        )
        with self._mutex:
            self._policy.used(one.record.block_id for one in orphans)


def _with_needs(block: Checked, kept: set[BlockId]) -> list[BlockId]:
    """A block and, used just behind it, what it needs: it goes before them."""
    block_id = block.stored.block_id
    return [block_id, *block.stored.needs] if block_id in kept else []
