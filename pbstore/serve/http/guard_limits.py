"""How much of a server one moment and one request may take."""

import asyncio
import math
import time
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pbstore.serve.http.guard_access import refuse
from pbstore.serve.http.guard_settings import GuardSettings

_UNCOUNTED = ("/healthz", "/metrics")
"""Answered however busy the server is."""
_RETRY = (b"retry-after", b"1")
_CLOSE = (b"connection", b"close")
BODY_LIMIT = "pbcast.body_bytes"
"""Key of the scope by which a route permits itself larger bodies, before it reads any."""


@dataclass(slots=True)
class Work:
    """How much a server does."""

    most: int
    in_work: int = 0
    """Requests that are worked on."""

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return self.in_work >= self.most


class LimitGuard:
    """ASGI middleware that bounds the requests in work, and the size and slowness of their bodies."""

    def __init__(self, app: ASGIApp, *, settings: GuardSettings, work: Work) -> None:
        self._app, self._settings, self._work = app, settings, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `LimitGuard`."""
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        if self._work.is_full:
            await refuse(send, 503, "the node is busy: come again later", _RETRY)
            return
        self._work.in_work += 1
        try:
            body = receive if not _has_body(scope) else _Body(scope, receive, self._settings).receive
            await self._app(scope, body, send)
        finally:
            self._work.in_work -= 1


def _has_body(scope: Scope) -> bool:
    """Whether a request may have a body (RFC 9112, section 6)."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


class _Body:
    """A request's body, within its limits."""

    def __init__(self, scope: Scope, receive: Receive, settings: GuardSettings) -> None:
        self._scope, self._receive, self._settings = scope, receive, settings
        self._got_bytes = 0
        self._ended = False
        self._waited_s = 0.0

    async def receive(self) -> Message:
        """The next message; it raises what answers 408 or 413."""
        if self._ended:
            return await self._receive()
        self._refuse_more_than(self._limit(), self._stated())
        message = await self._next()
        self._got_bytes += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        self._refuse_more_than(self._limit(), self._got_bytes)
        return message

    async def _next(self) -> Message:
        """Wait for a message, all in all `body_s` longer than the slowest client that is waited for takes."""
        limits, start = self._settings, time.monotonic()
        try:
            async with asyncio.timeout(
                limits.body_s + self._got_bytes / limits.least_bytes_s - self._waited_s
            ):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body came too slowly", {"connection": "close"}) from None
        finally:
            self._waited_s += time.monotonic() - start

    def _limit(self) -> int:
        return int(self._scope.get(BODY_LIMIT, self._settings.body_bytes))

    def _stated(self) -> float:
        """The length that the head states; endless if it is none, which the parser has refused before."""
        for name, value in self._scope["headers"]:
            if name == b"content-length":
                return int(value) if value.isdigit() else math.inf
        return 0

    def _refuse_more_than(self, limit: int, num_bytes: float) -> None:
        if num_bytes > limit:
            text = f"expected a body of at most {limit} bytes"
            raise HTTPException(413, text, {"connection": "close"})
