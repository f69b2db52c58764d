"""Sources as a fetcher sees them: how each is asked, and which is asked for a block next."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pbstore.hashing import BlockId
from pbstore.serve.fetch.http_source import HttpNode
from pbstore.serve.fetch.peers import Holdings, Speed, rendezvous
from pbstore.serve.fetch.source import Asked, Source

MOST_TRIES = 3
"""How often one source is asked for a block, if it breaks off."""
BATCHES = 4
"""Requests to one source at a time."""
NEVER_AGAIN = 100
UNKNOWN_BYTES = 1 << 20
"""What is taken for the size of a block that nobody told of."""


@dataclass(slots=True, eq=False)
class Lane:
    """One way to ask one source."""

    source: Source
    speed: Speed
    holdings: Holdings
    node_id: str = ""
    """Id of the node behind it, if it is a peer that may be asked to fetch."""
    asks_blindly: bool = False
    """Whether it is asked also for blocks that it did not say it has: it fetches them."""
    fetches: bool = False
    """Whether it may get from its own upstream what it does not have."""
    kind: str = "peer"
    """`peer` or `upstream`, for metrics."""
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES))
    """Requests to it at a time."""

    @property
    def name(self) -> str:
        """What logs and metrics call it."""
        return self.source.name

    def on_behalf(self, via: tuple[str, ...]) -> Source:
        """The source, asked for other nodes."""
        if isinstance(self.source, HttpNode):
            return self.source.on_behalf(Asked(via=via, fetch=self.fetches))
        return self.source

    def cost_s(self, block_id: BlockId, here: Collection[BlockId]) -> float:
        """Expected time until a block is here, with what it needs and is not here, s."""
        info = self.holdings.has(block_id)
        needs = () if info is None else [need for need in info.needs if need not in here]
        coded = sum(map(self.expected_bytes, (block_id, *needs)))
        raw = self.expected_bytes(block_id, as_raw=True)
        return self.speed.expected_s(min(coded, raw) if needs else coded)

    def reserve(self, block_id: BlockId) -> int:
        """Count a block among those that the source is asked for; how many bytes were counted."""
        size = self.expected_bytes(block_id)
        self.speed.waiting_bytes += size
        return size

    def expected_bytes(self, block_id: BlockId, as_raw: bool = False) -> int:
        """Payload bytes of a block in the source's form, or raw, as far as they are known."""
        info = self.holdings.has(block_id)
        if info is None:
            return UNKNOWN_BYTES
        return info.raw_bytes if as_raw else info.stored_bytes


@dataclass(slots=True)
class Tries:
    """Which lanes a block was asked for on."""

    count: Counter[int] = field(default_factory=Counter)

    def note(self, lane: Lane, times: int = 1) -> None:
        """Note that a lane was tried."""
        self.count[id(lane)] += times

    def may(self, lane: Lane) -> bool:
        """Whether a lane may be tried."""
        return self.count[id(lane)] < MOST_TRIES

    def fewest(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Those of some lanes that were tried least often and may be tried."""
        left = [lane for lane in lanes if self.may(lane)]
        least = min((self.count[id(lane)] for lane in left), default=0)
        return [lane for lane in left if self.count[id(lane)] == least]


def next_lane(
    block_id: BlockId, lanes: Sequence[Lane], tries: Tries, here: Collection[BlockId]
) -> Lane | None:
    """The lane on which to ask for a block: the fastest that has it, tried least often; None if none has.

    Lanes that were left alone after failures come last.
    """
    holders = [lane for lane in lanes if not lane.asks_blindly and lane.holdings.has(block_id) is not None]
    for among in ([lane for lane in holders if lane.speed.is_open], holders):
        if best := tries.fewest(among):
            return min(best, key=lambda lane: lane.cost_s(block_id, here))
    return None


def next_home(
    block_id: BlockId, lanes: Sequence[Lane], tries: Tries, me: str, has_upstream: bool
) -> Lane | None:
    """The peer that is to get a block from upstream; None if that is this node, or nobody."""
    homes = {lane.node_id: lane for lane in lanes if lane.asks_blindly and lane.node_id}
    homes = {node_id: lane for node_id, lane in homes.items() if lane.speed.is_open and tries.may(lane)}
    order = rendezvous([*homes, *([me] if has_upstream else [])], block_id)
    return homes.get(order[0]) if order else None
