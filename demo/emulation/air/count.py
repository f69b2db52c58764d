"""Honest counting of a broadcast's bytes: every datagram has headers, however the kernel was handed it."""

from collections.abc import Mapping

from demo.emulation.air.cast import Cast, Sent, Wire
from demo.emulation.air.sender import Batch, Sender
from demo.emulation.air.wire import frame_bytes


class Count:
    """Bytes and datagrams of one broadcast so far."""

    def __init__(self) -> None:
        """Nothing was sent."""
        self.ethernet_bytes = self.repair_bytes = self.feedback_bytes = self.datagrams = 0

    def add(self, batch: Batch) -> int:
        """Count a batch; its Ethernet bytes."""
        whole, rest = divmod(len(batch.data), batch.segment)
        size = whole * frame_bytes(batch.segment) + (frame_bytes(rest) if rest else 0)
        self.ethernet_bytes += size
        self.repair_bytes += size if batch.repair else 0
        self.datagrams += whole + bool(rest)
        return size

    def answered(self, answer: bytes) -> None:
        """Count an answer."""
        self.feedback_bytes += frame_bytes(len(answer))

    def seconds(self, cast: Cast) -> float:
        """How long what was sent so far takes at the broadcast's rate, s."""
        return 8.0 * self.ethernet_bytes / cast.rate_bit_s

    def sent(self, sender: Sender, seconds: float, delay_s: Mapping[int, float]) -> Sent:
        """The report of a broadcast that has ended."""
        cast, ledger = sender.cast, sender.ledger
        return Sent(
            cast_id=cast.cast_id,
            object_id=cast.payload.object_id,
            wire=Wire(
                payload_bytes=cast.payload.size_bytes,
                ethernet_bytes=self.ethernet_bytes,
                repair_bytes=self.repair_bytes,
                feedback_bytes=self.feedback_bytes,
                datagrams=self.datagrams,
            ),
            rounds=sender.rounds,
            seconds=seconds,
            delay_s=dict(delay_s),
            missing=frozenset(ledger.missing | ledger.pending) if cast.feedback else frozenset(),
        )
