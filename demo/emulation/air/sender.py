"""The sending end of one broadcast, without a socket or a clock: what to send next, given the answers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from demo.emulation.air.cast import Cast
from demo.emulation.air.coding import ID_BYTES, SURPLUS, Coder, enough, tries
from demo.emulation.air.ledger import Ledger
from demo.emulation.air.settings import AirSettings
from demo.emulation.air.wire import (
    HEADER_BYTES,
    MAX_PIECES,
    Bytes,
    Description,
    Kind,
    announcement,
    as_rows,
    numbers,
    seal,
    symbol_head,
)

_CYCLE = 8
"""Numbers of symbols in use, in K: after them the first are sent again, as another copy."""
_COPIES = 256
_KEPT_CODERS = 3
_SURE_NEED = 2.0
"""Symbols of a piece that the worst user is expected to lose, from which on repair is sent unasked."""
_SHARES = 2**16


@dataclass(frozen=True, slots=True)
class Batch:
    """Datagrams of one length (the last may be shorter) in one buffer, valid until the next is made."""

    data: bytes | memoryview
    segment: int
    repair: bool = False


class Wait:
    """Nothing to send before the poll is answered, or is not in time."""


class Sender:
    """One broadcast: iterate over `run`, send each batch, and hand in every status that comes back."""

    def __init__(self, cast: Cast, settings: AirSettings) -> None:
        """Describe the object.

        Raises:
            ValueError: If it has more pieces than can be named.
        """
        self.cast, self.settings, self.rounds = cast, settings, 0
        shares = {user: min(round(cast.loss.get(user, 0.0) * _SHARES), _SHARES - 1) for user in cast.users}
        self.what = Description(
            object_id=bytes.fromhex(cast.payload.object_id),
            size_bytes=cast.payload.size_bytes,
            piece_bytes=settings.piece_bytes,
            symbol_bytes=settings.symbol_bytes,
            feedback=cast.feedback,
            users=shares,
        )
        if self.what.num_pieces > MAX_PIECES:
            raise ValueError(f"a broadcast has at most {MAX_PIECES} pieces, got {self.what.num_pieces}")
        self.ledger = Ledger(cast, self.what, settings)
        self._worst = max(cast.loss.values(), default=0.0)
        self._hashes: dict[int, bytes] = {}
        self._sent: dict[int, int] = {}  # symbols of each piece so far, all cycles
        self._coders: dict[int, Coder] = {}
        self._buffer = np.empty((settings.batch_symbols, settings.datagram_bytes), np.uint8)
        self._told = 0  # announcements: no two are alike, so that not all are lost alike

    def run(self) -> Iterator[Batch | Wait]:
        """Everything that is sent, in order."""
        count, asks, unheard = self.what.num_pieces, self.cast.feedback, set(range(self.what.num_pieces))
        if self.cast.resume and asks:
            yield self._poll(count, must_answer=True)
            yield Wait()
            unheard = self.ledger.unheard()
        for piece in sorted(unheard):
            yield from self._first_pass(piece)
            if asks and piece + 1 < count:
                yield self._poll(piece + 1, must_answer=False)
                yield from self._repairs(whole=False)
        while asks and self.ledger.pending:
            yield self._poll(count, must_answer=True)
            yield Wait()
            self.ledger.close_round()
            yield from self._repairs(whole=True)

    def _first_pass(self, piece: int) -> Iterator[Batch]:
        data = self._read(piece)
        for _ in range(1 if self._told else max(2, tries(self._worst))):
            yield self._announce(piece, data, repair=False)
        yield from self._symbols(piece, data, self._at_first(piece))

    def _at_first(self, piece: int) -> int:
        """Symbols that go out before anybody asks: where losses are foreseen, what replaces them, too."""
        count = self.what.num_symbols(piece)
        if not self.cast.feedback:
            return enough(count + SURPLUS, self._worst, self.settings.blind_sigmas) if self._worst else count
        foreseen = count * self._worst >= _SURE_NEED
        return max(count, enough(count, self._worst, self.settings.ahead_sigmas)) if foreseen else count

    def _repairs(self, *, whole: bool) -> Iterator[Batch]:
        demands = self.ledger.demands(whole=whole)
        self.rounds += bool(demands)
        for piece, demand in demands.items():
            data, count = self._read(piece), demand.symbols
            yield self._announce(piece, data, repair=True)
            if demand.whole:
                self._sent[piece] = -(-self._sent.get(piece, 0) // self._cycle(piece)) * self._cycle(piece)
            yield from self._symbols(piece, data, count)
            self.ledger.repaired(piece)

    def _symbols(self, piece: int, data: bytes | memoryview, count: int) -> Iterator[Batch]:
        """The next symbols of a piece: sliced out of it up to K, coded beyond, then from the start again."""
        step, source, cycle = self.settings.batch_symbols, self.what.num_symbols(piece), self._cycle(piece)
        begin = self._sent.get(piece, 0)
        end = begin + count
        while begin < end:
            copy, number = divmod(begin, cycle)
            stop = min(number + step, source if number < source else cycle, number + end - begin)
            if number < source:
                rows, length = self._sliced(data, number, stop)
            else:
                ahead = min(cycle, number + end - begin)
                rows = self._rows(self._coder(piece, data).symbols(number, stop, ahead=ahead))
                length = rows.size
            yield self._batch(piece, copy, rows, length, repair=begin >= source)
            begin += stop - number
            if number == 0 and end > source:
                self._coder(piece, data)  # the dear step, while the air is busy
        self._sent[piece] = end

    def _sliced(self, data: bytes | memoryview, start: int, stop: int) -> tuple[Bytes, int]:
        """Datagrams, without their heads, of source symbols; and their length, for the last may be short."""
        width = self.settings.symbol_bytes
        view = memoryview(data)[start * width : stop * width]
        rows = self._buffer[: stop - start]
        rows[:, HEADER_BYTES - ID_BYTES : HEADER_BYTES] = numbers(start, stop)
        rows[:, HEADER_BYTES:] = as_rows(view, width)
        return rows, rows.size - ((stop - start) * width - len(view))

    def _rows(self, packets: list[bytes]) -> Bytes:
        """Datagrams, without their heads, of coded symbols."""
        rows = self._buffer[: len(packets)]
        rows[:, HEADER_BYTES - ID_BYTES :] = np.frombuffer(b"".join(packets), np.uint8).reshape(
            len(packets), -1
        )
        return rows

    def _batch(self, piece: int, copy: int, rows: Bytes, length: int, *, repair: bool) -> Batch:
        rows[:, : HEADER_BYTES - ID_BYTES] = symbol_head(self.cast.cast_id, piece, copy % _COPIES)
        seal(rows)
        return Batch(rows.data.cast("B")[:length], rows.shape[1], repair)

    def _coder(self, piece: int, data: bytes | memoryview) -> Coder:
        if piece not in self._coders:
            while len(self._coders) >= _KEPT_CODERS:
                del self._coders[next(iter(self._coders))]
            self._coders[piece] = Coder(bytes(data), self.settings.symbol_bytes)
        return self._coders[piece]

    def _cycle(self, piece: int) -> int:
        return _CYCLE * self.what.num_symbols(piece)

    def _read(self, piece: int) -> bytes | memoryview:
        return self.cast.payload.read(piece * self.what.piece_bytes, self.what.length(piece))

    def _announce(self, piece: int, data: bytes | memoryview, *, repair: bool) -> Batch:
        self._told += 1
        if piece not in self._hashes:
            self._hashes[piece] = blake3(data).digest()
        data = announcement(
            Kind.ANNOUNCE, self.cast.cast_id, piece, self._told, self.what, self._hashes[piece]
        )
        return Batch(data, len(data), repair)

    def _poll(self, piece: int, *, must_answer: bool) -> Batch:
        self.ledger.poll += 1
        data = announcement(
            Kind.POLL, self.cast.cast_id, piece, self.ledger.poll, self.what, must_answer=must_answer
        )
        return Batch(data, len(data), repair=False)
