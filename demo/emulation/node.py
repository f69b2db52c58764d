"""An edge node: a store of limited size for what it caches, and a buffer for what it only relays."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from demo.parts import CodedPart, Part, cut, decode_alone, join
from pbstore import BlockId, BlockInfo, BlockMissingError, StoredBlock, open_store


class EdgeNode:
    """Caches coded blocks, or ranges of them, in a store of its own.

    A node need not hold the base of a delta that it caches, nor all ranges of a block: other nodes may send
    them. So it files the coded payload itself under the hash of the payload, and checks that whenever it
    reads; the device, which has all, checks the decoded bytes.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        """Open the node's store and its relay buffer below a folder."""
        self.cache = PartShelf(folder / "cache", capacity_bytes)
        self.relay = PartShelf(folder / "relay", None)
        self._decoded: dict[BlockId, StoredBlock] = {}

    def read(self, part: Part, *, alone: bool = False) -> CodedPart:
        """A part from the relay buffer, else from the cache, see `PartShelf.read`.

        Args:
            part: Which.
            alone: In the form that needs no other block; the node makes it from what it caches if it must.
        """
        if self.relay.has(part):
            return self.relay.read(part)
        kept = self.cache.read(part)
        if not alone or not kept.info.needs:
            return kept
        if part.block_id not in self._decoded:
            wanted = (part.block_id, *kept.info.needs)
            self._decoded[part.block_id] = decode_alone(part.block_id, map(self.cache.read_block, wanted))
        return cut(self._decoded[part.block_id], part)

    def end_slot(self) -> None:
        """Drop what was only relayed."""
        self.relay.clear()
        self._decoded.clear()


class PartShelf:
    """Coded parts of blocks, over a store that knows them by the hash of their payload."""

    def __init__(self, folder: Path, capacity_bytes: int | None) -> None:
        """Open an empty store in a folder; what was there is deleted."""
        self._folder, self._capacity_bytes = folder, capacity_bytes
        self._open()

    def has(self, part: Part) -> bool:
        """Whether the part is here."""
        return part in self._held

    def parts(self) -> frozenset[Part]:
        """All parts here."""
        return frozenset(self._held)

    @property
    def used_bytes(self) -> int:
        """Coded bytes of all parts here."""
        return self._store.used_bytes

    def batch(self) -> AbstractContextManager[object]:
        """Writes inside the context are one commit, at its end."""
        return self._store.disk.writing()

    def write(self, coded: CodedPart) -> None:
        """Keep a part.

        Raises:
            CapacityError: If it does not fit.
        """
        if coded.part not in self._held:
            self._held[coded.part] = (self._store.put(coded.payload), coded.info)

    def read(self, part: Part) -> CodedPart:
        """The coded part, hash-checked.

        Raises:
            BlockMissingError: If it is not here.
            BlockCorruptError: If its bytes changed on the disk.
        """
        if part not in self._held:
            raise BlockMissingError(part.block_id)
        payload_id, info = self._held[part]
        return CodedPart(part=part, info=info, payload=bytes(self._store.get(payload_id)))

    def read_block(self, block_id: BlockId) -> StoredBlock:
        """A whole block out of its parts.

        Raises:
            BlockMissingError: If not all of them are here.
        """
        held = [part for part in self._held if part.block_id == block_id]
        if not held or len(held) != held[0].count:
            raise BlockMissingError(block_id)
        return join([self.read(part) for part in held])

    def drop(self, part: Part) -> None:
        """Evict a part."""
        payload_id, _ = self._held.pop(part)
        if all(payload_id != other for other, _ in self._held.values()):  # two parts may be the same bytes
            self._store.delete_block(payload_id)

    def clear(self) -> None:
        """Evict everything."""
        if self._held:
            self._store.close()
            self._open()

    def _open(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._store = open_store(self._folder, capacity_bytes=self._capacity_bytes, durable=False)
        self._held: dict[Part, tuple[BlockId, BlockInfo]] = {}
