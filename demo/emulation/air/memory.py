"""The air inside one process: the same symbols, losses and repair, on a clock that costs no time."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from demo.emulation.air.cast import Cast, Sent
from demo.emulation.air.count import Count
from demo.emulation.air.receiver import Receiver
from demo.emulation.air.sender import Batch, Sender
from demo.emulation.air.settings import AirSettings
from demo.emulation.air.wire import read_status, split

Spoil = Callable[[int, list[bytes]], list[bytes]]
"""What a test does to datagrams on their way to a user: drops, doubles, reorders, damages."""


@dataclass(slots=True)
class _Going:
    """A broadcast under way."""

    sender: Sender
    count: Count = field(default_factory=Count)
    delay_s: dict[int, float] = field(default_factory=dict)


class MemoryChannel:
    """Hands each batch to every receiver at once; seconds are bits over rate: same call, same result."""

    def __init__(self, settings: AirSettings | None = None, spoil: Spoil | None = None) -> None:
        """Make an empty channel; `spoil` is for tests."""
        self._settings, self._spoil = settings or AirSettings(), spoil
        self._receivers: list[Receiver] = []
        self._lock = threading.RLock()
        self._now_s = 0.0

    def join(self, receiver: Receiver) -> None:
        """Let a receiver hear from now on, on this channel's clock."""
        with self._lock:
            receiver.clock = lambda: self._now_s
            self._receivers.append(receiver)

    def leave(self, receiver: Receiver) -> None:
        """Let it hear nothing more."""
        with self._lock:
            self._receivers.remove(receiver)
            receiver.close()

    def close(self) -> None:
        """Let go of every receiver."""
        for receiver in list(self._receivers):
            self.leave(receiver)

    def send(self, cast: Cast) -> Sent:
        """Broadcast; ends when every user has it or is given up."""
        return self.send_together([cast])[0]

    def send_together(self, casts: Sequence[Cast]) -> list[Sent]:
        """Several broadcasts at once, batch by batch in turn; each takes its own time."""
        going = [_Going(Sender(cast, self._settings)) for cast in casts]
        runs = [(one, one.sender.run()) for one in going]
        while runs:
            still = []
            for one, run in runs:
                step = next(run, None)
                if isinstance(step, Batch):
                    with self._lock:  # batches of other threads come between
                        self._put(one, step)
                if step is not None:
                    still.append((one, run))
            runs = still
        return [one.count.sent(one.sender, one.count.seconds(one.sender.cast), one.delay_s) for one in going]

    def _put(self, one: _Going, batch: Batch) -> None:
        """One batch to everybody; answers come back at once."""
        one.count.add(batch)
        self._now_s = one.count.seconds(one.sender.cast)
        for receiver in list(self._receivers):
            for answer in self._heard(receiver, batch, one.sender.cast.cast_id):
                one.count.answered(answer)
                told = read_status(answer)
                if told is not None and one.sender.ledger.hear(told):
                    one.delay_s[told.user] = self._now_s
            receiver.hand_over()

    def _heard(self, receiver: Receiver, batch: Batch, source: int) -> list[bytes]:
        if self._spoil is None:
            return receiver.hear(batch.data, batch.segment, source)
        datagrams = self._spoil(receiver.user, split(batch.data, batch.segment))
        return [answer for one in datagrams for answer in receiver.hear(one, max(1, len(one)), source)]
