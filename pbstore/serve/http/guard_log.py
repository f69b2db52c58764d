"""One line of JSON for each request, and its place in the metrics: who, what, how it went; never a secret."""

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pbstore.serve.http.connection import EXTENTS, ZERO_COPY
from pbstore.serve.http.metrics import OTHER, Metrics

ACCESS_LOG = "pbstore.serve.access"
"""Name of the logger."""
ROUTE = "pbcast.route"
"""Key of the scope under which a request's route is named."""
_MOST_TEXT = 512
_CUT_SHORT = 499
"""Code where the client went away before the end of its body or of the answer, as nginx counts it."""
log = logging.getLogger(ACCESS_LOG)


def log_to(path: Path) -> None:
    """Append the log to a file, which only its owner may read; who moves it away gets a new one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    handler = WatchedFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class Observer:
    """ASGI middleware, the outermost: it sees every answer, refusals too.

    The query string is not logged, since signatures are in it; nor is any header.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Observer`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, send)
        try:
            await self._app(scope, receive, seen.send)
        except BaseException as error:
            left = isinstance(error, ClientDisconnect)  # in the middle of its body
            seen.code = _CUT_SHORT if left else seen.code if seen.started else 500
            raise
        finally:
            self._note(scope, seen)

    def _note(self, scope: Scope, seen: "_Seen") -> None:
        whole = seen.whole or not seen.started
        note_answer(
            self._metrics, scope, _route(scope), seen.code, seen.seconds(), seen.sent_bytes, whole=whole
        )


def note_answer(
    metrics: Metrics,
    scope: Scope,
    route: str,
    code: int,
    seconds: float,
    sent_bytes: Mapping[str, int],
    *,
    whole: bool,
) -> None:
    """Count an answer, and log it.

    Args:
        metrics: Where it is counted.
        scope: Of the request: `client`, `method`, `path`, `pbcast.who`.
        route: Its name.
        code: The answer's status.
        seconds: Time from the request's head to the last byte, s.
        sent_bytes: Bytes of the body, by where they came from.
        whole: Whether the client got all of it.
    """
    code = code if whole else _CUT_SHORT
    metrics.answered(route, code, seconds)
    for source, num_bytes in sent_bytes.items():
        if num_bytes:
            metrics.served(source, num_bytes)
    if log.isEnabledFor(logging.INFO):
        line = _line(scope, sum(sent_bytes.values()), code, route, seconds)
        log.info("%s", json.dumps(line, ensure_ascii=True))


class _Seen:
    """What went out as the answer to one request."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send, self._start = send, time.perf_counter()
        self.code, self.started, self.whole = 500, False, False
        self.sent_bytes = {"pack": 0, "memory": 0}
        self._is_head = scope["method"] == "HEAD"

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self.code, self.started = message["status"], True
            return
        source, count = "memory", len(message.get("body", b""))
        if message["type"] == ZERO_COPY:
            source, count = "pack", message["count"]
        elif message["type"] == EXTENTS:
            source, count = "pack", sum(part[2] for part in message["parts"])
        self.sent_bytes[source] += 0 if self._is_head else count
        self.whole = not message.get("more_body", False)

    def seconds(self) -> float:
        return time.perf_counter() - self._start


def _route(scope: Scope) -> str:
    """Name of a request's route: as it was called, or of the function that answered; never from its path."""
    named = scope.get(ROUTE)
    endpoint = scope.get("endpoint")
    return str(named or getattr(endpoint, "__name__", OTHER)).strip("_")


def _line(scope: Scope, num_bytes: int, code: int, route: str, seconds: float) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "client": client[0] if client else None,
        "who": scope.get("pbcast.who"),
        "method": scope["method"][:32],
        "path": scope["path"][:_MOST_TEXT],
        "route": route,
        "code": code,
        "bytes": num_bytes,
        "seconds": round(seconds, 6),
    }
