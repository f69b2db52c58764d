"""One object at a receiver: its pieces, the memory that they may take, and its hash."""

from collections import OrderedDict
from itertools import islice
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from demo.emulation.air.piece import Piece
from demo.emulation.air.spool import Spool
from demo.emulation.air.wire import MAX_NEEDS, Bytes, Description


class Reception:
    """An object of which some pieces are whole, some half here and the rest unheard of."""

    def __init__(self, what: Description, folder: Path | None, memory_bytes: int, window_bytes: int) -> None:
        """Nothing has arrived.

        Args:
            what: The object, as announced.
            folder: Where a large one is spooled; None: the system's folder for temporary files.
            memory_bytes: Objects up to this size stay in memory.
            window_bytes: Half pieces beyond this go to disk; at least `memory_bytes`.
        """
        self.what = what
        self._spool = Spool(what.size_bytes, folder, memory_bytes)
        self._window = max(window_bytes, memory_bytes, what.piece_bytes)
        self._pieces: OrderedDict[int, Piece] = OrderedDict()  # half here, the last touched last
        self._whole: dict[int, bool] = {}  # whether its own hash was known and right
        self._hashes: dict[int, bytes] = {}
        self._digest, self._hashed = blake3(), 0

    @property
    def complete(self) -> bool:
        """Whether every piece is whole."""
        return len(self._whole) == self.what.num_pieces

    def expect(self, piece: int, piece_hash: bytes) -> None:
        """Know the hash that a piece has to have; the first word counts."""
        self._hashes.setdefault(piece, piece_hash)

    def needs(self, upto: int) -> dict[int, int]:
        """Symbols missing by piece, of the first pieces below `upto` that are not whole."""
        lacking = (piece for piece in range(upto) if piece not in self._whole)
        return {piece: self._need(piece) for piece in islice(lacking, MAX_NEEDS)}

    def add(self, piece: int, which: NDArray[np.uint32], symbols: Bytes) -> bool:
        """Take symbols of one piece; whether the piece became whole by them.

        Raises:
            OSError: If the disk is full.
        """
        if piece in self._whole:
            return False
        one = self._open(piece)
        one.add(which, symbols)
        data = one.data()
        if data is None:
            return False
        expected = self._hashes.get(piece)
        if expected is not None and blake3(data).digest() != expected:
            del self._pieces[piece]
            return False
        self._keep(piece, data, sure=expected is not None)
        return True

    def finish(self) -> tuple[bytes | None, Path | None] | None:
        """The object, or None if it does not hash to its id: pieces without hash are asked for anew."""
        while self._hashed < self.what.num_pieces:
            self._digest.update(self._read(self._hashed))
            self._hashed += 1
        if self._digest.digest() == self.what.object_id:
            return self._spool.take()
        for piece in [piece for piece, sure in self._whole.items() if not sure]:
            del self._whole[piece]
        self._digest, self._hashed = blake3(), 0
        return None

    def drop(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._spool.drop()

    def _need(self, piece: int) -> int:
        return self._pieces[piece].need if piece in self._pieces else self.what.num_symbols(piece)

    def _open(self, piece: int) -> Piece:
        one = self._pieces.get(piece)
        if one is None:
            one = self._pieces[piece] = Piece(self.what.length(piece), self.what.symbol_bytes)
        elif not one.in_memory:
            one.restore(self._read(piece))
        self._pieces.move_to_end(piece)
        held = [number for number, other in self._pieces.items() if other.in_memory and number != piece]
        if (len(held) + 1) * self.what.piece_bytes > self._window:
            self._write(held[0], self._pieces[held[0]].spill())
        return one

    def _keep(self, piece: int, data: bytes | memoryview, *, sure: bool) -> None:
        self._write(piece, data)
        del self._pieces[piece]
        self._whole[piece] = sure
        if piece == self._hashed:
            self._digest.update(data)
            self._hashed += 1

    def _write(self, piece: int, data: bytes | memoryview) -> None:
        self._spool.write(piece * self.what.piece_bytes, data)

    def _read(self, piece: int) -> bytes:
        return self._spool.read(piece * self.what.piece_bytes, self.what.length(piece))
