"""Decoded blocks of cold models, kept for the next request while there is room."""

import threading
from collections import OrderedDict

from pbstore.hashing import BlockId, Buffer


class DecodedBlocks:
    """The blocks used last, up to so many bytes; safe to use from several threads."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._held: OrderedDict[BlockId, Buffer] = OrderedDict()
        self._bytes = 0
        self._mutex = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of all blocks that are kept."""
        return self._bytes

    def get(self, block_id: BlockId) -> Buffer | None:
        """A block's raw bytes, None if they are not kept."""
        with self._mutex:
            raw = self._held.get(block_id)
            if raw is not None:
                self._held.move_to_end(block_id)
            return raw

    def put(self, block_id: BlockId, raw: Buffer) -> None:
        """Keep a block's raw bytes, and let go of those that were used longest ago."""
        if len(raw) > self._capacity:
            return
        with self._mutex:
            old = self._held.pop(block_id, b"")
            self._held[block_id] = raw
            self._bytes += len(raw) - len(old)
            while self._bytes > self._capacity:
                self._bytes -= len(self._held.popitem(last=False)[1])
