"""The server's application: route groups, middleware and what runs beside them, put together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware

from pbstore.serve.http import blocks, health, hub, hub_files, openapi, push, xet
from pbstore.serve.http.context import AskPeers, Context, Holders, RouteGroup, ask_nobody, nobody
from pbstore.serve.http.errors import HANDLERS
from pbstore.serve.http.express import Express
from pbstore.serve.http.guard import Guards
from pbstore.serve.http.guard_access import Rule
from pbstore.serve.http.shortcut import Remembering, Shortcut
from pbstore.serve.library import Library
from pbstore.serve.settings import ServeSettings

GROUPS: tuple[RouteGroup, ...] = (
    health.routes,
    openapi.routes,
    blocks.routes,
    xet.routes,
    hub.routes,
    hub_files.routes,
)
"""Route groups of every server; that of files takes any path, so that it is the last."""
RULES: tuple[Rule, ...] = (*blocks.RULES, *hub.RULES, *push.RULES, *xet.RULES)
"""What the guard asks of these routes where it is not what it asks of all."""
Beside: TypeAlias = Callable[[Context], AbstractAsyncContextManager[object]]
"""What runs as long as the server does: probes of peers, a fetcher's clean-up."""


def create_app(
    library: Library,
    settings: ServeSettings | None = None,
    *,
    groups: Sequence[RouteGroup] = (),
    middleware: Sequence[Middleware] = (),
    guards: Guards | None = None,
    beside: Sequence[Beside] = (),
    holders: Holders = nobody,
    ask_peers: AskPeers = ask_nobody,
) -> Starlette:
    """An ASGI application that serves a library; it closes the library when it ends.

    Args:
        library: What is served.
        settings: Limits and habits.
        groups: Further routes, before those of every server.
        middleware: Wraps all routes, the first outermost, inside the guards.
        guards: Who may ask for what, how much, and who counts it; by default everybody.
        beside: Entered when the server starts, left when it stops, the last first.
        holders: Which trusted nodes to send a client to for a block.
        ask_peers: Called with the blocks of a file before a client is told of them, so that `holders` knows.
    """
    guards = guards or Guards()
    guards = replace(guards, rules=(*guards.rules, *RULES))
    express = Express(library, guards) if isinstance(library, Remembering) else None
    context = Context(
        library=library,
        settings=settings or ServeSettings(),
        holders=holders,
        ask_peers=ask_peers,
        signer=guards.signer,
        meter=guards.metrics,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(library.close)
            stack.callback(guards.metrics.close)
            await stack.enter_async_context(_task(library.hash_ahead()))
            for enter in beside:
                await stack.enter_async_context(enter(context))
            yield

    routes = [route for group in (*groups, guards.routes, *GROUPS) for route in group(context)]
    wrapped = [
        *guards.middleware(),
        *middleware,
        Middleware(Shortcut, library=library, answered=express.note if express else None),
    ]
    app = Starlette(routes=routes, middleware=wrapped, lifespan=lifespan, exception_handlers=HANDLERS)
    app.state.context, app.state.express = context, express
    return app


@asynccontextmanager
async def _task(job: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Something that runs until the context ends."""
    task = asyncio.ensure_future(job)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
