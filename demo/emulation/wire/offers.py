"""Parts of blocks as raw blocks of their own: how ranges and other forms travel by the block protocol.

Whoever wants parts asks for an offer: the hash of each payload, and what its whole block is. Then it fetches
the payloads by their hashes.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.routing import BaseRoute, Route

from demo.emulation.wire.air import info_of, part_of, part_row
from demo.emulation.wire.ask import Wire
from demo.parts import CodedPart, Part
from pbstore import BlockId, BlockMissingError, DiskBlockStore, StoredBlock, hash_block
from pbstore.serve.http import blocks as block_routes
from pbstore.serve.http.context import Context, RouteGroup
from pbstore.serve.library import StoreLibrary
from pbstore.serve.settings import ServeSettings
from pbstore.serve.wire import blocks as block_wire

Give = Callable[[Part, bool], CodedPart]
"""Gives a part, kept or alone; BlockMissingError if it cannot."""
_MOST_BYTES = 64 << 20


class Offers:
    """Payloads that were offered and not yet fetched, up to a bound; what was let go of is made again.

    Args:
        give: Makes a part that is offered.
    """

    def __init__(self, give: Give) -> None:
        self._give, self._mutex = give, threading.Lock()
        self._payloads: OrderedDict[BlockId, bytes] = OrderedDict()
        self._made: dict[BlockId, tuple[Part, bool]] = {}
        self._bytes = 0

    def offer(self, parts: Sequence[Part], *, alone: bool) -> dict[str, Any]:
        """Offer some parts in one form.

        Raises:
            BlockMissingError: If one is not here.
        """
        rows = []
        for part in parts:
            coded = self._give(part, alone)
            payload_id = hash_block(coded.payload)
            with self._mutex:
                self._made[payload_id] = (part, alone)
            self._keep(payload_id, coded.payload)
            rows.append({**part_row(part), "payload": payload_id, "info": asdict(coded.info)})
        return {"parts": rows}

    def payload(self, payload_id: BlockId) -> bytes:
        """What was offered under a hash.

        Raises:
            BlockMissingError: If nothing was.
        """
        with self._mutex:
            if payload_id in self._payloads:
                return self._payloads[payload_id]
            recipe = self._made.get(payload_id)
        if recipe is None:
            raise BlockMissingError(payload_id)
        return self._give(*recipe).payload

    def forget(self) -> None:
        """Forget all offers."""
        with self._mutex:
            self._payloads.clear()
            self._made.clear()
            self._bytes = 0

    def _keep(self, payload_id: BlockId, payload: bytes) -> None:
        with self._mutex:
            if payload_id in self._payloads:
                return
            self._payloads[payload_id] = payload
            self._bytes += len(payload)
            while self._bytes > _MOST_BYTES and len(self._payloads) > 1:
                self._bytes -= len(self._payloads.popitem(last=False)[1])


class OfferedLibrary(StoreLibrary):
    """A store's library that also gives what was offered; offers go first."""

    def __init__(self, store: DiskBlockStore, offers: Offers) -> None:
        super().__init__(store, ServeSettings(readers=1))
        self._offers = offers

    async def export(self, block_id: BlockId) -> StoredBlock:
        """See `Library`."""
        try:
            payload = await self.call(self._offers.payload, block_id)
        except BlockMissingError:
            return await super().export(block_id)
        return StoredBlock(block_id=block_id, raw_bytes=len(payload), codec="raw", payload=payload, needs=())

    async def hash_ahead(self) -> None:
        """See `Library`: nobody asks a role for files' hashes before it needs them."""


def offered_blocks(library: StoreLibrary) -> RouteGroup:
    """The block protocol's question for blocks, answered by another library than the server's."""

    def routes(context: Context) -> Sequence[BaseRoute]:
        every = block_routes.routes(Context(library=library, settings=context.settings, meter=context.meter))
        path = f"{block_wire.PREFIX}/blocks"
        return [route for route in every if isinstance(route, Route) and route.path == path]

    return routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How parts are asked for."""

    alone: bool
    patience_s: float
    """How long the role is waited for; half of it while it waits for the parts itself, s."""
    slot: int = -1
    """The role may wait until it has begun this slot, if it will have them then; -1: it need not."""


Offer = Sequence[Mapping[str, Any]]
"""What a role says of parts that it has: for each the hash of its payload, and its whole block."""


def ask_offer(wire: Wire, url: str, parts: Sequence[Part], asked: Asked) -> Offer:
    """Have a role make parts ready.

    Raises:
        NotReachedError: If the role does not answer or has not all of them.
    """
    rows, patience_s = [part_row(part) for part in parts], asked.patience_s
    question = {"parts": rows, "alone": asked.alone, "wait_s": patience_s / 2, "slot": asked.slot}
    told: Offer = wire.ask(url, "offer", patience_s, **question)["parts"]
    return told


def fetch_parts(wire: Wire, url: str, parts: Sequence[Part], offered: Offer) -> list[CodedPart]:
    """Parts that a role has offered, each payload checked against its hash.

    Raises:
        NotReachedError: If the role does not answer or has not all of them.
        BlockCorruptError: If a payload is not what was offered.
    """
    payload_ids = list(dict.fromkeys(BlockId(row["payload"]) for row in offered))
    payloads = {one.block_id: bytes(one.payload) for one in wire.blocks(url, payload_ids)}
    coded_parts = [
        CodedPart(part=part_of(row), info=info_of(row["info"]), payload=payloads[row["payload"]])
        for row in offered
        if row["payload"] in payloads
    ]
    if [one.part for one in coded_parts] != list(parts):
        raise BlockMissingError(parts[0].block_id, f"what {url} offered")
    return coded_parts
