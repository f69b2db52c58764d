"""One piece at a receiver: the symbols that have arrived, until they are enough."""

import numpy as np
from numpy.typing import NDArray

from demo.emulation.air.coding import ID_BYTES, MAX_SYMBOL, SURPLUS, decode
from demo.emulation.air.wire import Bytes, numbers


class Piece:
    """Symbols of a piece of known length."""

    def __init__(self, length: int, symbol_bytes: int) -> None:
        """Nothing has arrived."""
        self.length, self.num_symbols = length, -(-length // symbol_bytes)
        self.have: NDArray[np.bool_] = np.zeros(self.num_symbols, np.bool_)
        self._width, self._failed_at = symbol_bytes, 0
        self._source: Bytes | None = None
        self._coded: dict[int, bytes] = {}

    @property
    def count(self) -> int:
        """Distinct symbols that are here."""
        return int(np.count_nonzero(self.have)) + len(self._coded)

    @property
    def need(self) -> int:
        """Symbols that are missing, at least 1 as long as the piece is not whole."""
        if self._failed_at:
            return max(1, self._failed_at + SURPLUS - self.count)
        return max(1, self.num_symbols - self.count)

    @property
    def in_memory(self) -> bool:
        """Whether its symbols take memory."""
        return self._source is not None

    def add(self, which: NDArray[np.uint32], symbols: Bytes) -> None:
        """Take symbols, (some,) numbers and (some, symbol_bytes); what is here already changes nothing."""
        if self._source is None:
            self._source = np.zeros((self.num_symbols, self._width), np.uint8)
        plain = which < self.num_symbols
        if plain.all():
            self._source[which] = symbols
            self.have[which] = True
            return
        self._source[which[plain]] = symbols[plain]
        self.have[which[plain]] = True
        for number, symbol in zip(which[~plain].tolist(), symbols[~plain], strict=True):
            if number < MAX_SYMBOL and len(self._coded) < self.num_symbols + SURPLUS:
                self._coded[number] = symbol.tobytes()

    def data(self) -> bytes | memoryview | None:
        """The piece if its symbols suffice; not to be added to from then on."""
        count = self.count
        if self._source is None or count < self.num_symbols or count == self._failed_at:
            return None
        if self.have.all():
            return self._source.data.cast("B")[: self.length]
        data = decode(self.length, self._with_ids())
        self._failed_at = 0 if data else count
        return data

    def spill(self) -> bytes:
        """Give its source symbols away, as long as the piece, and forget the others."""
        data = b"" if self._source is None else self._source.reshape(-1)[: self.length].tobytes()
        self._source, self._failed_at = None, 0
        self._coded.clear()
        return data

    def restore(self, data: bytes) -> None:
        """Take back what `spill` gave."""
        flat = np.zeros(self.num_symbols * self._width, np.uint8)
        flat[: len(data)] = np.frombuffer(data, np.uint8)
        self._source = flat.reshape(self.num_symbols, self._width)

    def _with_ids(self) -> Bytes:
        here = np.flatnonzero(self.have)
        rows = np.empty((self.count, ID_BYTES + self._width), np.uint8)
        rows[: len(here), :ID_BYTES] = numbers(0, self.num_symbols)[here]
        if self._source is not None:
            rows[: len(here), ID_BYTES:] = self._source[here]
        for row, (number, symbol) in zip(rows[len(here) :], self._coded.items(), strict=True):
            row[:ID_BYTES] = np.frombuffer(number.to_bytes(ID_BYTES, "big"), np.uint8)
            row[ID_BYTES:] = np.frombuffer(symbol, np.uint8)
        return rows
