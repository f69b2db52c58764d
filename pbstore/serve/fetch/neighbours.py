"""The nodes around one: peers and upstream, who they are, and the ways to ask each."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

from pbstore.hashing import BlockId
from pbstore.serve.fetch.http_source import HttpNode, check_url, new_client
from pbstore.serve.fetch.hub import HubSource, Keep
from pbstore.serve.fetch.hub_listing import HubClient
from pbstore.serve.fetch.lanes import Lane
from pbstore.serve.fetch.object_store import ObjectStore, is_origin
from pbstore.serve.fetch.peers import Holdings, Speed, rendezvous
from pbstore.serve.fetch.source import Asked, NotANodeError, Source, SourceError
from pbstore.serve.library.flights import Flights
from pbstore.serve.meter import Meter

MEET_S = 5.0
"""How long a node may take to say who it is, s."""
MOST_CHAIN = 8
"""Nodes behind one another upstream that are told of."""


class Neighbours:
    """Peers and upstream of one node.

    Args:
        me: Id of the node.
        peers: URLs of its peers.
        upstream: URL of a node or of an object store, or any other source.
        token: Bearer token for all of them.
        keep: Keeps a block that came from a Hub.
        meter: Counts.
    """

    def __init__(
        self,
        me: str,
        peers: Sequence[str],
        upstream: str | Source | None,
        token: str | None,
        keep: Keep,
        meter: Meter,
    ) -> None:
        if isinstance(upstream, str) and is_origin(upstream):
            upstream = ObjectStore(upstream)
        urls = [*peers, *([upstream] if isinstance(upstream, str) else [])]
        self._me, self._client = me, new_client(urls, token)
        self._upstream = self._node(upstream) if isinstance(upstream, str) else upstream
        self._peers = [self._node(url) for url in dict.fromkeys(map(check_url, peers))]
        self.peer_lanes = [lane for peer in self._peers for lane in _lanes(peer, "peer")]
        self.upstream_lanes = [] if self._upstream is None else _lanes(self._upstream, "upstream")
        self.hub: HubSource | None = None
        """Upstream, if it turns out to be a Hub that speaks no block protocol."""
        self._token, self._keep, self._meter = token, keep, meter
        self.chain: tuple[str, ...] = ()
        """Ids of the nodes upstream of this one, the next first, as far as they are known."""
        self._met: dict[str, int] = {}
        """URLs of nodes that have said who they are, and how often they had failed then."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._meeting: Flights[str, None] = Flights()

    async def close(self) -> None:
        """Close all connections."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in (self._upstream, self.hub):
            if source is not None:
                await source.close()
        await self._client.aclose()

    def sources(self, via: tuple[str, ...] = ()) -> Iterator[Source]:
        """Whom to ask for a manifest, in order: upstream knows what is current."""
        asked = (*via, self._me)
        for lane in self.upstream_lanes:
            if lane.asks_blindly:
                yield lane.on_behalf(asked)
        if via:
            return
        for lane in sorted(self.peer_lanes, key=lambda lane: lane.speed.expected_s(0)):
            if lane.speed.is_open and not lane.asks_blindly:
                yield lane.on_behalf(asked)
        yield from self.fetching_peers()

    def fetching_peers(self) -> Iterator[Source]:
        """Peers that may have an upstream; none where this node has one itself."""
        if not self.upstream_lanes:
            for lane in self.peer_lanes:
                if lane.speed.is_open and lane.asks_blindly:
                    yield lane.on_behalf((self._me,))

    def holders(self, block_id: BlockId) -> list[str]:
        """URLs of peers that said that they have a block, the fastest first."""
        lanes = [lane for lane in self.peer_lanes if not lane.asks_blindly and lane.speed.is_open]
        lanes = [lane for lane in lanes if lane.holdings.has(block_id) is not None]
        return [lane.name for lane in sorted(lanes, key=lambda lane: lane.cost_s(block_id, ()))]

    def before_me(self, block_id: BlockId) -> list[str]:
        """URLs of peers that said that they have a block, and come before this node for it, the first first.

        Who sends a client there, and on from there, never sends it in a circle: all rank nodes alike.
        """
        lanes = {lane.node_id: lane for lane in self.peer_lanes if lane.node_id and lane.speed.is_open}
        lanes = {one: lane for one, lane in lanes.items() if lane.holdings.has(block_id) is not None}
        order = rendezvous({*lanes, self._me}, block_id)
        return [lanes[one].name for one in order[: order.index(self._me)]]

    def is_upstream(self, via: Sequence[str]) -> bool:
        """Whether a question came through this node, or through one that it would ask itself."""
        return not {self._me, *self.chain}.isdisjoint(via)

    async def meet(self) -> None:
        """Learn who the neighbours are, of those that have not said it, or failed since."""
        lanes = [lane for lane in (*self.upstream_lanes, *self.peer_lanes) if lane.asks_blindly]
        new = [lane for lane in lanes if self._met.get(lane.name) != lane.speed.total_failures]
        new = [lane for lane in new if isinstance(lane.source, HttpNode) and lane.speed.is_open]
        for lane in new:
            if lane.speed.failures and lane not in self.upstream_lanes:  # nobody waits for one that is gone
                task = asyncio.ensure_future(self._meeting.join(lane.name, partial(self._ask, lane)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        waited = [lane for lane in new if not lane.speed.failures or lane in self.upstream_lanes]
        await asyncio.gather(*(self._meeting.join(lane.name, partial(self._ask, lane)) for lane in waited))

    async def _ask(self, lane: Lane) -> None:
        if not isinstance(lane.source, HttpNode):
            return
        try:
            async with asyncio.timeout(MEET_S):
                node_id, chain = await lane.source.identity()
        except NotANodeError:
            if lane in self.upstream_lanes:
                self._take_for_hub(lane.source.url)
            else:
                self._failed(lane)
            return
        except (SourceError, TimeoutError) as error:
            self._failed(lane, late=isinstance(error, TimeoutError))
            return
        self._meter.peer_up(lane.name, True)
        self._met[lane.name] = lane.speed.total_failures
        if lane in self.upstream_lanes:
            self.chain = (node_id, *chain)[:MOST_CHAIN]
            if self._me in self.chain:  # a circle: nobody stands behind it
                self.upstream_lanes[:] = [one for one in self.upstream_lanes if not one.asks_blindly]
                self.upstream_lanes[0].fetches = False
        elif self.hub is None:  # nobody gets a block of a Hub's file for another node
            lane.node_id = node_id

    def _failed(self, lane: Lane, *, late: bool = False) -> None:
        lane.speed.note_failure(late=late)
        self._meter.peer_up(lane.name, False)

    def _take_for_hub(self, url: str) -> None:
        """Upstream is a Hub: its files are read as such."""
        self.hub = HubSource(HubClient(url, self._token), self._keep)
        self.upstream_lanes[:] = _lanes(self.hub, "upstream")
        for lane in self.peer_lanes:
            lane.node_id = ""

    def _node(self, url: str) -> HttpNode:
        return HttpNode(check_url(url), self._client, Asked(via=(self._me,)))


def _lanes(source: Source, kind: str) -> list[Lane]:
    """The ways to ask a source: for what it said it has, and for what it is to fetch."""
    speed, holdings = Speed(), Holdings()
    return [
        Lane(
            source,
            speed,
            holdings,
            asks_blindly=blindly,
            fetches=blindly or kind == "upstream",
            kind=kind,
        )
        for blindly in (False, True)
    ]
