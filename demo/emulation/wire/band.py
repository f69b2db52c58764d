"""The band as roles use it: objects to users at a rate, over the air of one process or of a network."""

import itertools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from demo.emulation.air import (
    BytesPayload,
    Cast,
    Channel,
    Heard,
    MemoryChannel,
    MulticastChannel,
    Receiver,
    Tempo,
)

Hear = Callable[[bytes, float], None]
"""Takes an object from the air, and when its last bit came (`time.monotonic`)."""
SETTLE_S = 60.0
"""How long a user may take with what it heard, s."""
NO_LOSS: Mapping[int, float] = MappingProxyType({})
MOST_LOSS = 0.99
"""Share of datagrams that a user loses at most: who hears nothing at all is not served, but given up."""
MAX_SENDERS = 1 << 12
"""Nodes whose broadcasts have numbers of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One object on the air."""

    wire_bytes: int
    """Bytes of all datagrams with all headers."""
    repair_bytes: int
    """Those of them beyond the first pass."""
    missed: tuple[int, ...]
    """Users whom it did not reach."""


class Band(Protocol):
    """One object goes to many users at once."""

    def send(
        self,
        node: int,
        data: bytes,
        users: Sequence[int],
        rate_bit_s: float,
        loss: Mapping[int, float] = NO_LOSS,
        tempo: Tempo | None = None,
    ) -> Sent:
        """Send an object; returns when all have it or nothing more is tried.

        Args:
            node: Who sends.
            data: The object.
            users: Who is to receive it.
            rate_bit_s: Rate at which it goes, Ethernet bits; 0: as fast as it goes.
            loss: Share of datagrams that each user loses, beside what all lose.
            tempo: Changes the rate while it goes, for several threads may send at once to users of their
                own; None: it stays.
        """

    def listen(self, user: int, hear: Hear) -> None:
        """Let a user hear what is sent to it."""

    def settle(self, user: int) -> None:
        """Wait until a user has taken all that senders know to be there."""

    def leave(self, user: int) -> None:
        """Let a user hear nothing more."""

    def close(self) -> None:
        """Let go of everything."""


class _Numbers:
    """Numbers of broadcasts: those of different nodes differ."""

    def __init__(self) -> None:
        self._next = itertools.count(int(time.time()) % (1 << 12) << 6)

    def of(self, node: int) -> int:
        """The next number of a node."""
        return (next(self._next) * MAX_SENDERS + node) % (1 << 32)


def _cast(
    number: int,
    data: bytes,
    users: Sequence[int],
    rate_bit_s: float,
    all_lose: float,
    loss: Mapping[int, float],
    tempo: Tempo | None,
) -> Cast:
    shares = {user: 1.0 - (1.0 - all_lose) * (1.0 - loss.get(user, 0.0)) for user in users}
    return Cast(
        cast_id=number,
        payload=BytesPayload(data),
        users=frozenset(users),
        rate_bit_s=rate_bit_s or math.inf,
        loss={user: min(share, MOST_LOSS) for user, share in shares.items() if share > 0},
        tempo=tempo,
    )


class MemoryBand:
    """The band of one process. At a rate it takes its time, and users hear an object when that is over.

    Args:
        loss: Share of datagrams that each user loses.
        seed: Of the losses.
    """

    def __init__(self, loss: float = 0.0, seed: int = 0) -> None:
        self._loss, self._seed = loss, seed
        self._channel: Channel = MemoryChannel()
        self._receivers: dict[int, Receiver] = {}
        self._ears: dict[int, Hear] = {}
        self._numbers, self._mutex = _Numbers(), threading.Lock()
        self._heard: dict[int, list[Heard]] = {}
        """What users heard, by broadcast."""

    def listen(self, user: int, hear: Hear) -> None:
        """See `Band`."""
        self.leave(user)
        with self._mutex:
            self._ears[user] = hear
            self._receivers[user] = Receiver(user, self._keep, seed=self._seed)
            self._channel.join(self._receivers[user])

    def leave(self, user: int) -> None:
        """See `Band`."""
        with self._mutex:
            self._ears.pop(user, None)
            if user in self._receivers:
                self._channel.leave(self._receivers.pop(user))

    def _keep(self, one: Heard) -> None:
        self._heard.setdefault(one.cast_id, []).append(one)

    def settle(self, user: int) -> None:
        """See `Band`: `send` returns when all have taken it."""

    def close(self) -> None:
        """See `Band`."""
        self._channel.close()

    def send(
        self,
        node: int,
        data: bytes,
        users: Sequence[int],
        rate_bit_s: float,
        loss: Mapping[int, float] = NO_LOSS,
        tempo: Tempo | None = None,
    ) -> Sent:
        """See `Band`."""
        began = time.monotonic()
        with self._mutex:
            there = [user for user in users if user in self._ears]
            if not there:
                return Sent(wire_bytes=0, repair_bytes=0, missed=tuple(users))
            number = self._numbers.of(node)
        sent = self._channel.send(_cast(number, data, there, rate_bit_s, self._loss, loss, tempo))
        with self._mutex:
            heard, ears = self._heard.pop(number, []), dict(self._ears)
        pace = tempo or Tempo(rate_bit_s or math.inf)
        if rate_bit_s:
            pace.wait(began, sent.seconds * rate_bit_s)
        for one in heard:
            if one.user in ears:
                last_bit = began + sent.delay_s[one.user]
                if tempo is not None:  # on the channel's clock the rate stays what it was
                    last_bit = tempo.due(began, sent.delay_s[one.user] * rate_bit_s)
                ears[one.user](one.read(), last_bit if rate_bit_s else time.monotonic())
        missed = set(users) - set(there) | sent.missing
        return Sent(
            wire_bytes=sent.wire.ethernet_bytes,
            repair_bytes=sent.wire.repair_bytes,
            missed=tuple(sorted(missed)),
        )


class MulticastBand:
    """The band of a network: UDP multicast between processes.

    Args:
        port: UDP port.
        interface: Address of the interface.
        loss: Share of datagrams that each user loses.
        seed: Of the losses.
    """

    def __init__(self, port: int, interface: str = "127.0.0.1", loss: float = 0.0, seed: int = 0) -> None:
        self._loss, self._seed = loss, seed
        self._channel = MulticastChannel(port, interface=interface)
        self._receivers: dict[int, Receiver] = {}
        self._numbers, self._mutex = _Numbers(), threading.Lock()

    def listen(self, user: int, hear: Hear) -> None:
        """See `Band`."""

        def heard(one: Heard) -> None:
            hear(one.read(), one.last_bit_at)
            if one.path is not None:
                one.path.unlink(missing_ok=True)

        self._receivers[user] = Receiver(user, heard, seed=self._seed)
        self._channel.join(self._receivers[user])

    def leave(self, user: int) -> None:
        """See `Band`."""
        if user in self._receivers:
            self._channel.leave(self._receivers.pop(user))

    def settle(self, user: int) -> None:
        """See `Band`."""
        if user in self._receivers:
            self._receivers[user].settle(SETTLE_S)

    def close(self) -> None:
        """See `Band`."""
        self._channel.close()

    def send(
        self,
        node: int,
        data: bytes,
        users: Sequence[int],
        rate_bit_s: float,
        loss: Mapping[int, float] = NO_LOSS,
        tempo: Tempo | None = None,
    ) -> Sent:
        """See `Band`."""
        with self._mutex:
            number = self._numbers.of(node)
        sent = self._channel.send(_cast(number, data, users, rate_bit_s, self._loss, loss, tempo))
        return Sent(
            wire_bytes=sent.wire.ethernet_bytes,
            repair_bytes=sent.wire.repair_bytes,
            missed=tuple(sorted(sent.missing)),
        )
