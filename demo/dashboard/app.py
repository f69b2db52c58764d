"""The dashboard's server: a page, its files, the log as a stream of events, and the data of each panel."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.dashboard.feed import LogFeed
from demo.dashboard.live import Chosen
from demo.dashboard.tables import TABLES, schemes_of
from demo.jobs.report import REPORT_NAME, RunReport

STATIC = Path(str(files("demo.dashboard"))) / "static"
TICK_S = 0.1
"""How often a stream looks for new lines, s."""
MOST_LINES = 400
"""In one message of a stream."""
QUIET_TICKS = 100
"""After so many without a line something is sent, so that a page that is gone is noticed."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".LICENSE": "text/plain"}


class LiveControl(Protocol):
    """A run that can be started anew with other settings."""

    def about(self) -> dict[str, Any]:
        """`schemes` and `known_faults` to choose from, and the fields of `Chosen` of the run that goes on."""

    def restart(self, chosen: Chosen) -> None:
        """End the run and start one with these settings; raises ValueError if they are none."""


def create_app(feed: LogFeed, live: LiveControl | None = None) -> Starlette:
    """The page and its data, for clients on this machine.

    Args:
        feed: The log.
        live: The run that writes it, if the page may start it anew.
    """
    pages = _Pages(feed, live)
    routes = [
        Route("/", pages.index),
        Route("/static/{name:path}", pages.static),
        Route("/events", pages.events),
        Route("/events.jsonl", pages.log),
        Route("/data/schemes.json", pages.schemes),
        Route("/data/{name}.csv", pages.table),
        Route("/live", pages.restart, methods=["POST"]),
    ]
    hosts = ["127.0.0.1", "localhost", "[::1]"]  # names that others point here are refused
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(_Headers)]
    return Starlette(routes=routes, middleware=middleware)


class _Headers:
    """Adds the same headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._more]}
            await send(message)

        await self._app(scope, receive, with_headers)


class _EventStream(Response):
    """A stream that has no end of its own: it ends where the client goes, or with the server."""

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncIterator[str]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for message in self._messages:
                await send({"type": "http.response.body", "body": message.encode(), "more_body": True})
        except asyncio.CancelledError:  # the server is stopped
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Pages:
    """The routes."""

    def __init__(self, feed: LogFeed, live: LiveControl | None) -> None:
        self._feed, self._live = feed, live
        self._static = {
            path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()
        }

    async def index(self, request: Request) -> Response:
        return FileResponse(self._static["index.html"], media_type="text/html")

    async def static(self, request: Request) -> Response:
        path = self._static.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "no such file")
        return FileResponse(path, media_type=TYPES.get(path.suffix, "text/html"))

    async def log(self, request: Request) -> Response:
        if not self._feed.path.is_file():
            raise HTTPException(404, "there is no log yet")
        return FileResponse(self._feed.path, media_type="application/x-ndjson")

    async def table(self, request: Request) -> Response:
        make = TABLES.get(request.path_params["name"])
        if make is None:
            raise HTTPException(404, f"tables are {', '.join(TABLES)}")
        text = await asyncio.to_thread(lambda: make(self._feed.lines()))
        return PlainTextResponse(text, media_type="text/csv")

    async def schemes(self, request: Request) -> Response:
        return JSONResponse(schemes_of(self._report()))

    def _report(self) -> RunReport | None:
        try:
            return RunReport.read(self._feed.path.with_name(REPORT_NAME))
        except (OSError, ValueError):
            return None

    async def events(self, request: Request) -> Response:
        start = request.query_params.get("from", "0")
        if not start.isdecimal() or len(start) > 12:
            raise HTTPException(400, "from must be the number of a line")
        return _EventStream(self._stream(int(start), request))

    async def _stream(self, number: int, request: Request) -> AsyncIterator[str]:
        """`log` says which log it is, `lines` has new lines, `broken` says why there are no more."""
        run, told, quiet = "", "", 0
        while not await request.is_disconnected():
            batch = self._feed.batch(number, MOST_LINES)
            if batch.run and batch.run != run:
                if run:
                    number = 0
                run, batch = batch.run, self._feed.batch(number, MOST_LINES)
                yield _message("log", json.dumps(self._about(run)))
            if batch.problem and batch.problem != told:
                told = batch.problem
                yield _message("broken", json.dumps({"message": told}))
            if batch.texts and batch.run == run:
                number, quiet = number + len(batch.texts), 0
                yield _message("lines", f"[{','.join(batch.texts)}]")
                if len(batch.texts) == MOST_LINES:
                    continue
            quiet += 1
            if quiet % QUIET_TICKS == 0:
                yield ": still here\n\n"
            await asyncio.sleep(TICK_S)

    def _about(self, run: str) -> dict[str, Any]:
        return {
            "run": run,
            "report": self._feed.path.with_name(REPORT_NAME).exists(),
            "live": None if self._live is None else self._live.about(),
        }

    async def restart(self, request: Request) -> Response:
        if self._live is None:
            raise HTTPException(404, "no live run: pbcast dashboard --live")
        if request.headers.get("content-type") != "application/json":  # what other sites' forms cannot send
            raise HTTPException(415, "expected JSON")
        try:
            asked = json.loads(await request.body())
            chosen = Chosen(**{item.name: str(asked.get(item.name, item.default)) for item in fields(Chosen)})
            await asyncio.to_thread(self._live.restart, chosen)
        except (ValueError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"started": True})


def _message(event: str, data: str) -> str:
    return f"event: {event}\ndata: {data}\n\n"
