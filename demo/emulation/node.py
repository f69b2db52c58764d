"""An edge node: a store of limited size for the blocks it caches, and a buffer for those it only relays."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from pbstore import BlockId, BlockInfo, BlockMissingError, StoredBlock, open_store


class EdgeNode:
    """Caches coded blocks in a store of its own.

    A node need not hold the base of a delta that it caches: other nodes may send it. So it files the coded
    payload itself under the hash of the payload, and checks that whenever it reads; the device, which has
    the base, checks the decoded bytes.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        """Open the node's store and its relay buffer below a folder."""
        self.cache = BlockShelf(folder / "cache", capacity_bytes)
        self.relay = BlockShelf(folder / "relay", None)

    def read(self, block_id: BlockId) -> StoredBlock:
        """The coded block from cache or relay buffer, see `BlockShelf.read`."""
        return (self.cache if self.cache.has(block_id) else self.relay).read(block_id)

    def end_slot(self) -> None:
        """Drop what was only relayed."""
        self.relay.clear()


class BlockShelf:
    """Coded blocks by block id, over a store that knows them by the hash of their payload."""

    def __init__(self, folder: Path, capacity_bytes: int | None) -> None:
        """Open an empty store in a folder; what was there is deleted."""
        self._folder, self._capacity_bytes = folder, capacity_bytes
        self._open()

    def has(self, block_id: BlockId) -> bool:
        """Whether the block is here."""
        return block_id in self._held

    def block_ids(self) -> frozenset[BlockId]:
        """Ids of all blocks here."""
        return frozenset(self._held)

    @property
    def used_bytes(self) -> int:
        """Coded bytes of all blocks here."""
        return self._store.used_bytes

    def batch(self) -> AbstractContextManager[object]:
        """Writes inside the context are one commit, at its end."""
        return self._store.disk.writing()

    def write(self, coded: StoredBlock) -> None:
        """Keep a block.

        Raises:
            CapacityError: If it does not fit.
        """
        if coded.block_id not in self._held:
            self._held[coded.block_id] = (self._store.put(coded.payload), coded.info)

    def read(self, block_id: BlockId) -> StoredBlock:
        """The coded block, hash-checked.

        Raises:
            BlockMissingError: If it is not here.
            BlockCorruptError: If its bytes changed on the disk.
        """
        if block_id not in self._held:
            raise BlockMissingError(block_id)
        payload_id, info = self._held[block_id]
        return StoredBlock(
            block_id=block_id,
            raw_bytes=info.raw_bytes,
            codec=info.codec,
            payload=bytes(self._store.get(payload_id)),
            needs=info.needs,
        )

    def drop(self, block_id: BlockId) -> None:
        """Evict a block."""
        payload_id, _ = self._held.pop(block_id)
        if all(payload_id != other for other, _ in self._held.values()):  # two blocks may code alike
            self._store.delete_block(payload_id)

    def clear(self) -> None:
        """Evict everything."""
        if self._held:
            self._store.close()
            self._open()

    def _open(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._store = open_store(self._folder, capacity_bytes=self._capacity_bytes, durable=False)
        self._held: dict[BlockId, tuple[BlockId, BlockInfo]] = {}
