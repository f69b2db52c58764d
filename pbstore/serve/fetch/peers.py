"""Other nodes as they have shown to be: how fast, whether up, which blocks they have."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from blake3 import blake3

from pbstore.blocks import BlockInfo
from pbstore.hashing import BlockId

SMOOTHING = 0.3
"""Weight of the newest measurement in a mean."""
FIRST_RATE_BYTES_S = 50e6
"""Rate of a source that nothing is known of, bytes/s: fast enough to be tried."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
FORGIVEN_S = 30.0
"""How long ago a source may have been fine for its next late answer to be forgiven, s."""
DISTRUST_S = 60.0
"""How long nothing is asked of a source that gave a wrong block, s; twice as long each time."""
KNOWN_S = 20.0
"""How long it is believed which blocks a source has, s."""
MOST_KNOWN = 200_000
"""Blocks of one source that are remembered."""
Clock = Callable[[], float]


@dataclass(slots=True)
class Speed:
    """Measured speed of one source; means weigh the newest most (EWMA)."""

    clock: Clock = time.monotonic
    rate_bytes_s: float = FIRST_RATE_BYTES_S
    latency_s: float = 0.005
    failures: int = 0
    """In a row."""
    total_failures: int = 0
    corrupt: int = 0
    """Wrong blocks that it ever gave."""
    waiting_bytes: int = 0
    """Asked for and not yet here."""
    _measured: bool = False
    _closed_until: float = 0.0
    _good_at: float = float("-inf")

    def note_latency(self, seconds: float) -> None:
        """Note how long the first byte of an answer took."""
        self.latency_s += SMOOTHING * (seconds - self.latency_s)

    def note(self, num_bytes: int, seconds: float) -> None:
        """Note bytes that came in some time."""
        self.failures = 0
        self._good_at = self.clock()
        rate = num_bytes / max(seconds, 1e-6)
        if num_bytes >= 1 << 16:  # of less the latency tells more
            weight = SMOOTHING if self._measured else 1.0
            self.rate_bytes_s += weight * (rate - self.rate_bytes_s)
            self._measured = True

    def note_failure(self, *, late: bool = False) -> None:
        """Note that it did not answer, or broke off: it is left alone for a while, longer each time.

        One late answer of a source that was fine a short while ago is a busy machine's, and forgiven.
        """
        self.failures += 1
        self.total_failures += 1
        if late and self.failures == 1 and self.clock() - self._good_at < FORGIVEN_S:
            return
        wait = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self.failures - 1, 16))
        self._closed_until = max(self._closed_until, self.clock() + wait)

    def note_corrupt(self) -> None:
        """Note that it gave a wrong block."""
        self.corrupt += 1
        self._closed_until = self.clock() + DISTRUST_S * 2 ** min(self.corrupt - 1, 10)

    @property
    def is_open(self) -> bool:
        """Whether it may be asked."""
        return self.clock() >= self._closed_until

    def expected_s(self, num_bytes: int) -> float:
        """How long so many bytes would take behind what it was asked for already, s."""
        return self.latency_s + (self.waiting_bytes + num_bytes) / max(self.rate_bytes_s, 1.0)


@dataclass(slots=True)
class Holdings:
    """Which blocks a source said that it has, a short while ago."""

    clock: Clock = time.monotonic
    _said: dict[BlockId, tuple[float, BlockInfo | None]] = field(default_factory=dict)

    def note(self, asked: Iterable[BlockId], found: dict[BlockId, BlockInfo]) -> None:
        """Note an answer."""
        now = self.clock()
        for block_id in asked:
            self._said.pop(block_id, None)
            self._said[block_id] = (now, found.get(block_id))
        while len(self._said) > MOST_KNOWN:
            del self._said[next(iter(self._said))]

    def forget(self, block_id: BlockId) -> None:
        """Note that it does not have a block after all."""
        self.note([block_id], {})

    def has(self, block_id: BlockId) -> BlockInfo | None:
        """The block as it has it, None if it does not, or if that is not known."""
        return self._said.get(block_id, (0.0, None))[1]

    def unknown(self, block_ids: Iterable[BlockId]) -> list[BlockId]:
        """Those of which it was not asked lately."""
        since = self.clock() - KNOWN_S
        return [one for one in block_ids if one not in self._said or self._said[one][0] < since]


def rendezvous(node_ids: Iterable[str], block_id: BlockId) -> list[str]:
    """Nodes in the order in which they are to get a block from upstream: equal on all nodes that know them.

    Highest random weight: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998).
    """
    key = bytes.fromhex(block_id)
    return sorted(node_ids, key=lambda node_id: blake3(node_id.encode() + b"\0" + key).digest())
