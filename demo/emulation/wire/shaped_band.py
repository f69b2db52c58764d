"""The band on shaped links: the sender's own interface follows the radio's rate."""

import threading
from collections.abc import Mapping, Sequence

from demo.emulation.air import Tempo
from demo.emulation.links import AIR, shape_own
from demo.emulation.wire.band import NO_LOSS, MulticastBand, Sent

HEADROOM = 1.25
"""How much faster the link is than its broadcast: a sender that was held up catches up by it."""
_LEAST_BIT_S, _MOST_BIT_S = 1e5, 1e11
_CLOSE = 0.02


class ShapedBand(MulticastBand):
    """See `MulticastBand`; before a broadcast the interface is set to its rate, as users move.

    While others are sent from here, too, it is set to the sum of what each has at most.
    """

    def __init__(self, port: int, interface: str, loss: float = 0.0, seed: int = 0) -> None:
        super().__init__(port, interface, loss, seed)
        self._going, self._link_bit_s, self._shaping = list[float](), 0.0, threading.Lock()

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
        most = rate_bit_s if tempo is None else tempo.most_bit_s
        with self._shaping:
            self._going.append(most)
            self._shape_to(sum(self._going))
        try:
            return super().send(node, data, users, rate_bit_s, loss, tempo)
        finally:
            with self._shaping:
                self._going.remove(most)

    def _shape_to(self, rate_bit_s: float) -> None:
        if rate_bit_s and abs(rate_bit_s / (self._link_bit_s or 1.0) - 1.0) > _CLOSE:
            shape_own(AIR, min(max(HEADROOM * rate_bit_s, _LEAST_BIT_S), _MOST_BIT_S))
            self._link_bit_s = rate_bit_s
