"""New blocks of an add: their records go to the pack at once, their rows to the index many at a time.

Each statement of SQLite lets another thread take the interpreter, and waits to get it back: one statement of
many rows takes a tenth of the time of many statements.
"""

from typing import TYPE_CHECKING

from pbstore.blocks import RAW, StoredBlock
from pbstore.codecs.sketch import Sketch
from pbstore.codecs.types import TensorSpec
from pbstore.disk.files.pack import Record
from pbstore.disk.index import locations as index
from pbstore.disk.index import sketches as similar
from pbstore.disk.index.sketches import CastKeys, Noted

if TYPE_CHECKING:
    from pbstore.disk.blocks.disk_blocks import DiskBlocks

ROWS = 16
"""Blocks whose rows wait; they cannot be bases meanwhile."""


class Intake:
    """Stores new blocks inside `writing`; nothing of them can be looked up before `flush`."""

    def __init__(self, store: "DiskBlocks") -> None:
        self._store = store
        self._most = ROWS if store.capacity_bytes is None else 1  # the room left shows in the index
        self._blocks: list[tuple[int, Record]] = []
        self._tensors: list[Noted] = []
        self.newest = similar.newest_number(store.connection)
        """Place of the tensor that came into the index last."""

    def keep(
        self, stored: StoredBlock, spec: TensorSpec | None, found: Sketch | CastKeys | None, *, tried: bool
    ) -> None:
        """Store a block that the store does not have; its payload must not be used any more.

        Args:
            stored: The block; whoever encoded it has checked it.
            spec: Its dtype and shape, None if it is no tensor.
            found: By what it is found as a base, see `Noted`; None if it cannot be one.
            tried: Whether it has its sketch if it can have one.

        Raises:
            CapacityError: If it does not fit.
        """
        self._store.spared.update((stored.block_id, *stored.needs))
        self._blocks.append(self._store.append_record(stored))
        if spec is not None and stored.raw_bytes == spec.num_bytes:
            self._tensors.append(Noted(stored.block_id, spec, found, tried))
        if stored.codec != RAW:
            self._store.buffers.give(memoryview(stored.payload))
        if len(self._blocks) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        index.insert_many(self._store.connection, self._blocks)
        self.newest = similar.note_many(self._store.connection, self._tensors)
        self._blocks.clear()
        self._tensors.clear()
