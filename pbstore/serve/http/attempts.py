"""How often a client has asked for the same address: who comes back was sent to a node that failed."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_MOST = 50_000
_REMEMBERED_S = 300.0


_APART = 600


class Attempts:
    """Counts attempts for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._handed_out = 0
        self._seen: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def earlier(self, what: Hashable) -> int:
        """How often this was asked before, within the last minutes; asking counts."""
        now = self._clock()
        while self._seen and (len(self._seen) >= _MOST or self._first() < now - _REMEMBERED_S):
            self._seen.popitem(last=False)
        count, _ = self._seen.pop(what, (0, now))
        self._seen[what] = (count + 1, now)
        return count

    def apart_s(self) -> int:
        """Seconds by which an address is to end later, so that no two of about the same time are the same.

        Who asks for the same file a moment later, perhaps from behind the same router, does not come back.
        """
        self._handed_out += 1
        return self._handed_out % _APART

    def _first(self) -> float:
        return next(iter(self._seen.values()))[1]
