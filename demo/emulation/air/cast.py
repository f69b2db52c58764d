"""What is broadcast and what became of it: the names that both ends of the air share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from demo.emulation.air.pace import Tempo
from demo.emulation.air.payload import Payload

MAX_USERS = 256
"""Users that one announcement can name."""
MAX_CAST_ID = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One broadcast: some bytes, sent once, to all these users."""

    cast_id: int
    """Names the broadcast on the air, 0 .. 2^32 - 1; two that overlap in time must differ in it."""
    payload: Payload
    users: frozenset[int]
    """Who is addressed, 0 .. 65535 each, at most 256; everybody else ignores it."""
    rate_bit_s: float
    """Ethernet bits per second on the air, > 0; inf: as fast as the machine can."""
    loss: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    """Share of datagrams that each user loses, in [0, 1); 0 for those not named. The receivers do it."""
    feedback: bool = True
    """Whether receivers say what they lack; without, enough is sent for 5 sigma of the worst user's loss."""
    resume: bool = False
    """Ask first what users have of the object, as after a sender that died, and leave that out."""
    tempo: Tempo | None = None
    """What changes the rate while it is on the air, as others come beside it; None: it stays."""

    def __post_init__(self) -> None:
        if not 0 <= self.cast_id <= MAX_CAST_ID:
            raise ValueError(f"cast_id must be in 0 .. {MAX_CAST_ID}, got {self.cast_id}")
        if not self.rate_bit_s > 0:
            raise ValueError(f"rate_bit_s must be > 0, got {self.rate_bit_s}")
        if not 1 <= len(self.users) <= MAX_USERS or not all(0 <= user < 2**16 for user in self.users):
            raise ValueError(
                f"users must be 1 to {MAX_USERS} numbers in 0 .. 65535, got {sorted(self.users)}"
            )
        if bad := {user: p for user, p in self.loss.items() if not (user in self.users and 0 <= p < 1)}:
            raise ValueError(f"loss must give a share in [0, 1) for users of the broadcast, got {bad}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Bytes as Ethernet counts them: 14 of frame, 20 of IPv4 and 8 of UDP for every datagram, no trailer."""

    payload_bytes: int = 0
    """What was to be delivered, once."""
    ethernet_bytes: int = 0
    """All that the sender put on the air, repair and announcements included."""
    repair_bytes: int = 0
    """Of these, what was sent beyond the first pass of the payload."""
    feedback_bytes: int = 0
    """What the receivers answered, all together; not on the air of the broadcast."""
    datagrams: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A broadcast that has ended."""

    cast_id: int
    object_id: str
    wire: Wire
    rounds: int
    """How often missing symbols were asked for and sent."""
    seconds: float
    """From the first datagram to the last answer (without feedback: to the last datagram), s."""
    delay_s: Mapping[int, float]
    """From the first datagram to the last bit at each user who has it all, s; empty without feedback."""
    missing: frozenset[int]
    """Users who went silent, refused or still lack something; empty without feedback, when nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An object that arrived whole at one user; its bytes hash to its id."""

    user: int
    cast_id: int
    object_id: str
    """blake3 of its bytes, hexadecimal."""
    size_bytes: int
    path: Path | None
    """Where it was spooled: the file is the callee's, to move or to delete. None if it came in memory."""
    data: bytes | None
    """Its bytes if they were few enough for memory, else None."""
    seconds: float
    """From the first datagram heard to the last one needed, s, on the receiver's clock."""
    last_bit_at: float
    """When that last one arrived, on the receiver's clock: monotonic, and the kernel's on a network."""

    def read(self) -> bytes:
        """All its bytes."""
        return self.data if self.data is not None else self.path.read_bytes() if self.path else b""


OnObject = Callable[[Heard], None]
