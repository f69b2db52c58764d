"""An edge node: a store of limited size for what it caches, and a buffer for what it only relays."""

import json
import shutil
import threading
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path

from demo.parts import CodedPart, Part, cut, decode_alone, join
from pbstore import (
    BlockId,
    BlockInfo,
    BlockMissingError,
    DiskBlockStore,
    IntegrityError,
    PBStoreError,
    StoredBlock,
    open_store,
)

JOURNAL = "parts.jsonl"
"""File in a shelf's folder that says which part is filed under which hash."""


class EdgeNode:
    """Caches coded blocks, or ranges of them, in a store of its own.

    A node need not hold the base of a delta that it caches, nor all ranges of a block: other nodes may send
    them. So it files the coded payload itself under the hash of the payload, and checks that whenever it
    reads; the device, which has all, checks the decoded bytes.
    """

    def __init__(self, folder: Path, capacity_bytes: int, *, comes_back: bool = False) -> None:
        """Open the node's store and its relay buffer below a folder.

        Args:
            folder: Where they are.
            capacity_bytes: Payload bytes that the cache may hold.
            comes_back: Keep what an earlier node left in the cache, instead of starting empty.
        """
        self.cache = PartShelf(folder / "cache", capacity_bytes, comes_back=comes_back)
        self.relay = PartShelf(folder / "relay", None)
        self._decoded: dict[BlockId, StoredBlock] = {}
        self._relayed_alone: set[Part] = set()

    def close(self) -> None:
        """Close both stores."""
        self.cache.close()
        self.relay.close()

    def take(self, coded: CodedPart, *, alone: bool) -> None:
        """Keep a part in the relay buffer; of one part it holds one form, that which came last."""
        if self.relay.has(coded.part) and (coded.part in self._relayed_alone) != alone:
            self.relay.drop(coded.part)
        (self._relayed_alone.add if alone else self._relayed_alone.discard)(coded.part)
        self.relay.write(coded)

    def can_read(self, part: Part, *, alone: bool) -> bool:
        """Whether `read` has the part in that form without a look at the bytes."""
        if self.relays(part, alone=alone):
            return True
        if not self.cache.has(part):
            return False
        needs = self.cache.info(part).needs if alone else ()
        return all(self.cache.has_block(block_id) for block_id in ((part.block_id, *needs) if needs else ()))

    def relays(self, part: Part, *, alone: bool) -> bool:
        """Whether the relay buffer has a part in a form."""
        return self.relay.has(part) and (part in self._relayed_alone) == alone

    def read(self, part: Part, *, alone: bool = False) -> CodedPart:
        """A part from the relay buffer, else from the cache, see `PartShelf.read`.

        Args:
            part: Which.
            alone: In the form that needs no other block; the node makes it from what it caches if it must.
        """
        if self.relays(part, alone=alone):
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
        self._relayed_alone.clear()
        self._decoded.clear()


class PartShelf:
    """Coded parts of blocks, over a store that knows them by the hash of their payload.

    Safe to use from many threads. Which part is filed where stands in a journal beside the store, so that a
    node that comes back finds what it had.
    """

    def __init__(self, folder: Path, capacity_bytes: int | None, *, comes_back: bool = False) -> None:
        """Open a store in a folder; unless it comes back, what was there is deleted."""
        self._folder, self._capacity_bytes = folder, capacity_bytes
        self._mutex = threading.RLock()
        self._open(comes_back)

    @property
    def store(self) -> DiskBlockStore:
        """The store: payloads, as raw blocks."""
        return self._store

    def close(self) -> None:
        """Close the store; what it holds stays."""
        with self._mutex:
            self._store.close()

    def has(self, part: Part) -> bool:
        """Whether the part is here."""
        return part in self._held

    def has_block(self, block_id: BlockId) -> bool:
        """Whether all parts of a block are here."""
        with self._mutex:
            held = self._by_block.get(block_id, ())
            return bool(held) and len(held) == next(iter(held)).count

    def info(self, part: Part) -> BlockInfo:
        """What the whole block of a part that is here is."""
        return self._held[part][1]

    def payload_id(self, part: Part) -> BlockId:
        """Hash of the payload of a part that is here."""
        return self._held[part][0]

    def parts(self) -> frozenset[Part]:
        """All parts here."""
        with self._mutex:
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
        with self._mutex:
            if coded.part not in self._held:
                self._file(coded.part, self._store.put(coded.payload), coded.info)
                self._note(coded.part)

    def read(self, part: Part) -> CodedPart:
        """The coded part, hash-checked.

        Raises:
            BlockMissingError: If it is not here.
            BlockCorruptError: If its bytes changed on the disk.
        """
        with self._mutex:
            if part not in self._held:
                raise BlockMissingError(part.block_id)
            payload_id, info = self._held[part]
        return CodedPart(part=part, info=info, payload=bytes(self._store.get(payload_id)))

    def read_block(self, block_id: BlockId) -> StoredBlock:
        """A whole block out of its parts.

        Raises:
            BlockMissingError: If not all of them are here.
        """
        if not self.has_block(block_id):
            raise BlockMissingError(block_id)
        with self._mutex:
            held = sorted(self._by_block[block_id])
        return join([self.read(part) for part in held])

    def drop(self, part: Part) -> None:
        """Evict a part."""
        with self._mutex:
            payload_id, _ = self._held.pop(part)
            self._by_block[part.block_id].discard(part)
            self._note(part)
            if all(
                payload_id != other for other, _ in self._held.values()
            ):  # two parts may be the same bytes
                self._store.delete_block(payload_id)

    def drop_if_damaged(self, part: Part) -> None:
        """Evict a part that is here and cannot be read; nothing happens to others."""
        if not self.has(part):
            return
        try:
            self.read(part)
        except IntegrityError:
            with suppress(PBStoreError):  # what is damaged so that it cannot be deleted is not counted on
                self.drop(part)

    def clear(self) -> None:
        """Evict everything."""
        with self._mutex:
            if self._held:
                self._store.close()
                self._open(False)

    def _open(self, comes_back: bool) -> None:
        if not comes_back:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._store = open_store(self._folder, capacity_bytes=self._capacity_bytes, durable=False)
        self._held: dict[Part, tuple[BlockId, BlockInfo]] = {}
        self._by_block: dict[BlockId, set[Part]] = {}
        if comes_back:
            self._recall()

    def _file(self, part: Part, payload_id: BlockId, info: BlockInfo) -> None:
        self._held[part] = (payload_id, info)
        self._by_block.setdefault(part.block_id, set()).add(part)

    def _note(self, part: Part) -> None:
        """Write into the journal what is so of a part now."""
        row: list[object] = [part.block_id, part.index, part.count]
        if part in self._held:
            payload_id, info = self._held[part]
            row += [payload_id, asdict(info)]
        with (self._folder / JOURNAL).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _recall(self) -> None:
        """Take up what the journal says, as far as the store has it; a torn line ends it."""
        journal = self._folder / JOURNAL
        for line in journal.read_text().splitlines() if journal.is_file() else ():
            try:
                block_id, index, count, *filed = json.loads(line)
            except ValueError:
                break
            part = Part(block_id, index, count)
            self._held.pop(part, None)
            self._by_block.get(block_id, set()).discard(part)
            if filed and self._store.has(filed[0]):
                self._file(part, filed[0], BlockInfo(**{**filed[1], "needs": tuple(filed[1]["needs"])}))
