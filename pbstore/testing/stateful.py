"""A block store beside a plain dictionary, driven at random.

class MyMachine(BlockStoreMachine):
def make_store(self, folder):
return MyStore(folder, self.capacity_bytes)

TestMine = MyMachine.TestCase
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from pbstore.errors import BlockInUseError, CapacityError
from pbstore.hashing import BlockId, hash_block
from pbstore.store import BlockStore


class BlockStoreMachine(RuleBasedStateMachine):
    """Blocks are put and deleted; subclasses may add rules of their own."""

    blocks = Bundle[BlockId]("blocks")
    capacity_bytes = 20_000
    """Capacity of the store: small, so that it gets full."""
    store: BlockStore

    def make_store(self, folder: Path) -> BlockStore:
        """A new store of `capacity_bytes`; `folder` does not exist yet."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with an empty store."""
        self.root = Path(tempfile.mkdtemp())
        self.store = self.make_store(self.root / "store")
        self.loose: dict[BlockId, bytes] = {}
        """Blocks that were put and are not deleted."""

    @rule(target=blocks, size=st.integers(0, 3000), seed=st.integers(0, 50))
    def put(self, size: int, seed: int) -> BlockId | MultipleResults[BlockId]:
        """A block goes in, or there is no room for it."""
        raw = np.random.default_rng(seed).bytes(size)
        try:
            block_id = self.store.put(raw)
        except CapacityError:
            assert self.store.used_bytes + size > self.capacity_bytes
            return multiple()
        assert block_id == hash_block(raw)
        self.loose[block_id] = raw
        return block_id

    @rule(block_id=consumes(blocks))
    def delete(self, block_id: BlockId) -> None:
        """A block goes, unless something needs it."""
        if block_id not in self.loose or not self.store.has(block_id):
            return
        try:
            self.store.delete_block(block_id)
        except BlockInUseError:
            return
        del self.loose[block_id]

    @invariant()
    def blocks_are_there(self) -> None:
        """Every block comes back as it was put, within the capacity."""
        if hasattr(self, "store"):
            assert all(bytes(self.store.get(i)) == raw for i, raw in self.loose.items())
            assert self.store.used_bytes <= self.capacity_bytes

    def teardown(self) -> None:
        """Sizes add up to what the store says it uses."""
        if not hasattr(self, "store"):
            return
        sizes = {
            hash_block(self.store.get(i)): self.store.info(i).stored_bytes for i in self.store.block_ids()
        }
        assert sum(sizes.values()) == self.store.used_bytes
        getattr(self.store, "close", lambda: None)()
        shutil.rmtree(self.root)
