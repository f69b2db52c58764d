"""What every route of a server shares, and how routes are put into groups."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from pbstore.hashing import BlockId
from pbstore.serve.http.attempts import Attempts
from pbstore.serve.library import Library
from pbstore.serve.meter import Meter, NoMeter
from pbstore.serve.settings import ServeSettings
from pbstore.serve.wire.hub import Target
from pbstore.serve.wire.signed import Signer

Holders: TypeAlias = Callable[[BlockId], Sequence[str]]
"""Addresses of trusted nodes that hold a block and would rather be asked for it, best first."""
AskPeers: TypeAlias = Callable[[Sequence[BlockId]], Awaitable[None]]
"""Learns who holds some blocks, before clients ask for them."""
Answer: TypeAlias = Callable[[Request, Target], Awaitable[Response]]
"""Answers a question about a model."""


def nobody(block_id: BlockId) -> Sequence[str]:
    """No other node holds any block."""
    return ()


async def ask_nobody(block_ids: Sequence[BlockId]) -> None:
    """There is nobody to be asked."""


@dataclass(kw_only=True)
class Context:
    """One server: what it serves, its settings, whom it may send a client to, who signs and who counts."""

    library: Library
    settings: ServeSettings = field(default_factory=ServeSettings)
    holders: Holders = nobody
    ask_peers: AskPeers = ask_nobody
    attempts: Attempts = field(default_factory=Attempts)
    """Who was sent to a holder, and comes back."""
    signer: Signer = field(default_factory=Signer.fresh)
    """Signs URLs and access tokens that this node hands out."""
    meter: Meter = field(default_factory=NoMeter)
    """Counts."""
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """What further route groups answer under `/api/models/NAME/`, by method and verb."""


RouteGroup: TypeAlias = Callable[[Context], Sequence[BaseRoute]]
"""The routes of one protocol; earlier groups win, and the Hub's, which take any path, come last."""


def context_of(request: HTTPConnection) -> Context:
    """The server that a request came to."""
    context: Context = request.app.state.context
    return context


def name_route(request: HTTPConnection, route: str) -> None:
    """Say which route a request took, for log and metrics, where one pattern serves several."""
    request.scope["pbcast.route"] = route
