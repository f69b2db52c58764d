"""Settings of both ends of the air."""

from dataclasses import dataclass

from demo.emulation.air.wire import FRAME_BYTES, HEADER_BYTES, MAX_PIECE_BYTES, MAX_SYMBOL_BYTES

_IP_UDP_BYTES = FRAME_BYTES - 14


@dataclass(frozen=True, slots=True, kw_only=True)
class AirSettings:
    """How a broadcast is cut, sent, asked for again and given up."""

    mtu_bytes: int = 1500
    """Largest IP packet of the link, bytes; a symbol is what remains after headers, in whole words."""
    piece_bytes: int = MAX_PIECE_BYTES
    """Bytes that RaptorQ codes as one, at most 4 MiB: larger ones cost more processor time a byte."""
    batch_symbols: int = 44
    """Datagrams handed to the kernel at once: 44 of 1472 bytes are just below the 64 KiB of one sending."""
    ahead_sigmas: float = 2.0
    """Standard deviations beyond the mean that are sent unasked where losses are foreseen."""
    sigmas: float = 2.0
    """Standard deviations of the binomial sent beyond the mean when symbols are asked for."""
    blind_sigmas: float = 5.0
    """The same where nobody can ask."""
    answer_s: float = 0.02
    """How long answers to a poll are waited for at first, s; twice as long each time somebody is silent."""
    most_answer_s: float = 0.25
    """How long at most, s."""
    patience: int = 16
    """Polls in a row that a user may leave unanswered before it is given up."""
    max_stalls: int = 40
    """Repairs in a row after which a user may lack as much as before."""
    offload: bool = True
    """Whether the kernel cuts and joins datagrams (UDP_SEGMENT, UDP_GRO) where it can."""
    receive_buffer_bytes: int = 8 << 20
    """Asked for as socket buffer of a receiver, bytes; the kernel may give less."""
    credit_bytes: int = 2 << 20
    """How far a sender that was held up may catch up at once, bytes."""

    def __post_init__(self) -> None:
        if not HEADER_BYTES + _IP_UDP_BYTES + 8 <= self.mtu_bytes <= MAX_SYMBOL_BYTES:
            raise ValueError(f"mtu_bytes must be in 52 .. {MAX_SYMBOL_BYTES}, got {self.mtu_bytes}")
        if not 0 < self.piece_bytes <= MAX_PIECE_BYTES:
            raise ValueError(f"piece_bytes must be in 1 .. {MAX_PIECE_BYTES}, got {self.piece_bytes}")
        if not 1 <= self.batch_symbols <= 64:
            raise ValueError(f"batch_symbols must be in 1 .. 64, got {self.batch_symbols}")
        if not (
            0 < self.answer_s <= self.most_answer_s
            and self.patience > 0
            and self.max_stalls > 0
            and self.credit_bytes > 0
        ):
            raise ValueError("answer_s <= most_answer_s, patience, max_stalls and credit_bytes must be > 0")
        if -(-self.piece_bytes // self.symbol_bytes) > 2**15:
            raise ValueError(f"a piece must have at most 32768 symbols, got symbols of {self.symbol_bytes}")

    @property
    def symbol_bytes(self) -> int:
        """Bytes of payload in a datagram."""
        return (self.mtu_bytes - _IP_UDP_BYTES - HEADER_BYTES) // 8 * 8

    @property
    def datagram_bytes(self) -> int:
        """Bytes of a datagram that carries a whole symbol."""
        return HEADER_BYTES + self.symbol_bytes
