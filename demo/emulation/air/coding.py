"""RaptorQ (RFC 6330) of one piece: repair symbols, and the piece out of any K symbols and a few."""

import math

import raptorq

from demo.emulation.air.wire import Bytes

ID_BYTES = 4
"""RaptorQ's payload id before each symbol: source block 0, then the symbol's number, 3 bytes."""
MAX_SYMBOL = 2**24
SURPLUS = 2
"""Symbols beyond K that make a failed decoding unlikely: 1e-2 at K, 1e-6 at K + 2."""


class Coder:
    """Repair symbols of one piece."""

    def __init__(self, data: bytes, symbol_bytes: int) -> None:
        """Prepare the code: this is the dear step."""
        self._source = -(-len(data) // symbol_bytes)
        self._encoder = raptorq.Encoder.with_defaults(data, symbol_bytes)
        self._made: list[bytes] = []

    def symbols(self, start: int, stop: int, *, ahead: int = 0) -> list[bytes]:
        """Symbols start .. stop, from K upwards, each after its id; those up to `ahead` are made at once."""
        if stop - self._source > len(self._made):
            count = max(stop, ahead) - self._source
            self._made = self._encoder.get_encoded_packets(count)[self._source :]
        return self._made[start - self._source : stop - self._source]


def decode(length: int, symbols: Bytes) -> bytes | None:
    """A piece out of its symbols.

    Args:
        length: Bytes of the piece.
        symbols: Distinct symbols, each with its id in front, (some, 4 + symbol_bytes).

    Returns:
        The piece, or None: too few symbols, or (once in a hundred) exactly K that do not suffice.
    """
    decoder = raptorq.Decoder.with_defaults(length, symbols.shape[1] - ID_BYTES)
    for packet in symbols:
        data = decoder.decode(packet.tobytes())
        if data is not None:
            return bytes(data)
    return None


def enough(need: int, loss: float, sigmas: float) -> int:
    """Symbols to send so that `need` arrive, even when so many standard deviations fewer than the mean do.

    Solves n (1 - p) - sigmas sqrt(n p (1 - p)) = need for n.
    """
    if not need:
        return 0
    spread = sigmas * math.sqrt(loss * (1.0 - loss))
    root = (spread + math.sqrt(spread**2 + 4.0 * need * (1.0 - loss))) / (2.0 * (1.0 - loss))
    return math.ceil(root**2 - 1e-9)


def tries(loss: float) -> int:
    """How often to send a datagram so that all copies are lost once in a million, >= 1."""
    return 1 if loss <= 0 else max(1, math.ceil(math.log(1e-6) / math.log(loss)))
