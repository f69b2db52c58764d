"""The band on shaped links: the sender's own interface follows the radio's rate."""

from collections.abc import Mapping, Sequence

from demo.emulation.links import AIR, shape_own
from demo.emulation.wire.band import NO_LOSS, MulticastBand, Sent

HEADROOM = 1.25
"""How much faster the link is than its broadcast: a sender that was held up catches up by it."""
_LEAST_BIT_S, _MOST_BIT_S = 1e5, 1e11
_CLOSE = 0.02


class ShapedBand(MulticastBand):
    """See `MulticastBand`; before a broadcast the interface is set to its rate, as users move."""

    _rate_bit_s = 0.0

    def send(
        self,
        node: int,
        data: bytes,
        users: Sequence[int],
        rate_bit_s: float,
        loss: Mapping[int, float] = NO_LOSS,
    ) -> Sent:
        """See `Band`."""
        if rate_bit_s and abs(rate_bit_s / (self._rate_bit_s or 1.0) - 1.0) > _CLOSE:
            shape_own(AIR, min(max(HEADROOM * rate_bit_s, _LEAST_BIT_S), _MOST_BIT_S))
            self._rate_bit_s = rate_bit_s
        return super().send(node, data, users, rate_bit_s, loss)
