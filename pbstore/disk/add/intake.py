"""New blocks of an add: their records go to the pack at once, their rows to the index many at a time.

Each statement of SQLite lets another thread take the interpreter, and waits to get it back: one statement of
many rows takes a tenth of the time of many statements.
"""

from pbstore.blocks import RAW, StoredBlock
from pbstore.codecs.sketch import Sketch, probe
from pbstore.codecs.types import TensorSpec
from pbstore.disk.blocks.read import BlockReader
from pbstore.disk.blocks.transaction import Transaction
from pbstore.disk.files.pack import Record
from pbstore.disk.index import locations, sketches
from pbstore.disk.index.sketches import CastKeys, Noted

ROWS = 16
"""Blocks whose rows wait; they cannot be bases meanwhile."""


class Intake:
    """Stores new blocks in a transaction; nothing of them can be looked up before `flush`."""

    def __init__(self, blocks: BlockReader, tx: Transaction) -> None:
        self._tx, self._buffers = tx, blocks.buffers
        self._most = ROWS if blocks.capacity_bytes is None else 1  # the room left shows in the index
        self._blocks: list[tuple[int, Record]] = []
        self._tensors: list[Noted] = []
        self.newest = sketches.newest_number(tx.connection)
        """Place of the tensor that came into the index last."""

    def keep(
        self,
        stored: StoredBlock,
        spec: TensorSpec | None,
        found: Sketch | CastKeys | None,
        *,
        tried: bool,
        name: str | None = None,
        probed: bytes | None = None,
    ) -> None:
        """Store a block that the store does not have; its payload must not be used any more.

        Args:
            stored: The block; whoever encoded it has checked it.
            spec: Its dtype and shape, None if it is no tensor.
            found: By what it is found as a base, see `Noted`; None if it cannot be one.
            tried: Whether it has its sketch if it can have one.
            name: What its model calls it, where that is known.
            probed: A few of its elements, see `probe`; those of a raw block need not be given.

        Raises:
            CapacityError: If it does not fit.
        """
        self._tx.spared.update((stored.block_id, *stored.needs))
        self._blocks.append(self._tx.append_record(stored))
        if spec is not None and stored.raw_bytes == spec.num_bytes:
            probed = probe(stored.payload, spec) if stored.codec == RAW else probed
            self._tensors.append(Noted(stored.block_id, spec, found, tried, name, probed))
        if stored.codec != RAW:
            self._buffers.give(memoryview(stored.payload))
        if len(self._blocks) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        locations.insert_many(self._tx.connection, self._blocks)
        self.newest = sketches.note_many(self._tx.connection, self._tensors)
        self._blocks.clear()
        self._tensors.clear()
