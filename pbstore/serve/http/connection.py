"""One connection of a client: limits against slow and greedy ones, and sending from files.

uvicorn bounds neither the time nor the size of a request's head, nor how many requests wait in a pipeline,
nor how slowly an answer may be read. This subclass does, and it adds the ASGI extension
`http.response.zerocopysend`. What `Express` can answer never comes to the parser.
"""

import asyncio
import fcntl
import logging
import struct
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, TypeAlias

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from pbstore.hashing import Buffer
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.http.sending import FileSender, Part

ZERO_COPY = "http.response.zerocopysend"
"""ASGI extension: `file` (descriptor), `offset`, `count`, `more_body`; the answer must state its length."""

EXTENTS = "pbcast.response.extents"
"""The same of many at once: `parts`, each a descriptor, an offset and a count, and `more_body`."""
_FROM_FILES = (ZERO_COPY, EXTENTS)
HEAD = "pbcast.head"
"""Key of the scope under which is what a request is known by the next time."""
GONE = "pbcast.gone"
"""Key of the scope under which is a function that says whether the client has gone; see `is_gone`."""
DefaultHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
log = logging.getLogger(__name__)
log.addFilter(lambda record: record.levelno >= logging.ERROR)  # uvicorn warns of each request that is none


class Prepared(NamedTuple):
    """An answer that is ready to go."""

    head: bytes
    parts: Sequence[Part]
    kept: object
    """Keeps the files open until all is sent."""
    end: Callable[[bool], None]
    """Counts it, whole or cut short; called once."""


class ShortWay(Protocol):
    """Answers some requests past the parser and the application."""

    def answer(self, data: bytes, default_headers: DefaultHeaders) -> tuple[bytes | None, Prepared | None]:
        """What a request that came by itself is known by, if it is one; and the answer, if there is one."""


class GuardedConnection(HttpToolsProtocol):
    """A connection within the limits of `settings`; make a class of it by `guarded`."""

    settings = GuardSettings()
    express: ShortWay | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = log
        self._application = self.app
        self.app = self._answer
        self._head_bytes = 0
        self._head_since: float | None = None
        self._written_bytes = 0
        self._lag: tuple[float, int] | None = None
        """Since when a client lags, and what it had read by then."""
        self._watch: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        """When the next look is due."""
        self._sender: FileSender | None = None
        self._in_message = False
        """Whether the parser is in the middle of a request."""
        self._end: Callable[[bool], None] | None = None
        """Of the answer that goes out the short way."""
        self._kept: object = None
        self._waiting = b""
        """What came while it does."""
        self._idle_since: float | None = None
        self._closes = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client, or turn it away if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.connections:
            self._refuse(503, "too many connections: come again later", b"retry-after: 1\r\n")
            return
        self._head_since = time.monotonic()
        self._look_later(self._head_since)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        if self._watch is not None:
            self._watch.cancel()
        if self._sender is not None:
            self._sender.close()
        self._waiting = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within the limits of a request's head."""
        if self.transport.is_closing():
            return
        if self._end is not None:
            self._wait_with(data)
            return
        key = None
        if self.express is not None and not self._in_message and self._is_idle():
            key, prepared = self.express.answer(data, self.server_state.default_headers)
            if prepared is not None:
                self._answer_at_once(prepared)
                return
        self._idle_since = None
        if self._head_since is None and self._is_idle():
            self._head_since = time.monotonic()
        super().data_received(data)
        if key is not None and self.scope is not None:
            self.scope[HEAD] = key  # type: ignore[literal-required]
        self._head_bytes += len(data) if self._head_since is not None else 0
        if self._head_bytes > self.settings.head_bytes:
            self._refuse(431, f"expected a request head of at most {self.settings.head_bytes} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_message = True
        self._head_since = time.monotonic()
        self.scope["extensions"] = {ZERO_COPY: {}, EXTENTS: {}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        super().on_header(name, value)
        if len(self.headers) > self.settings.headers:
            raise ValueError(f"expected at most {self.settings.headers} headers")

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._head_bytes, self._head_since = 0, None
        super().on_headers_complete()
        if len(self.pipeline) > self.settings.pipelined:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._in_message = False

    def shutdown(self) -> None:
        """Close when the answer in progress, if any, has ended."""
        if self._end is not None:
            self._closes = True
        else:
            super().shutdown()

    def _answer_at_once(self, prepared: Prepared) -> None:
        """Send an answer past the application."""
        self._unset_keepalive_if_required()
        self._head_since = self._idle_since = None
        self._end, self._kept = prepared.end, prepared.kept
        if self._sender is None:
            self._sender = FileSender(self.loop, self.transport)
        self._sender.start(prepared.head, prepared.parts, self._answered_at_once)

    def _answered_at_once(self, whole: bool, error: Exception | None) -> None:
        end, self._end, self._kept = self._end, None, None
        if end is not None:
            end(whole)
        if error is not None:
            log.error("an answer was cut short: %s", error)
        if not whole:
            self._waiting = b""
            self.transport.abort()
        elif self._closes:
            self.transport.close()
        else:
            self._idle_since = time.monotonic()
            if self._waiting:
                data, self._waiting = self._waiting, b""
                self.data_received(data)

    def _wait_with(self, data: bytes) -> None:
        """Keep what came while an answer goes out, as much as a head may have."""
        self._waiting += data
        if len(self._waiting) > self.settings.head_bytes:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request; never in the middle of another answer."""
        self._refuse(400, msg)

    def _is_idle(self) -> bool:
        return self._end is None and (self.cycle is None or self.cycle.response_complete)

    def _refuse(self, status: int, text: str, header: bytes = b"") -> None:
        """Say why in one line and close; while an answer is on its way, close at once."""
        if self.transport.is_closing():
            return
        if not self._is_idle():
            self.transport.abort()
            return
        body = f"{text}\n".encode()
        lines = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            "connection: close\r\n",
        )
        self.transport.write("\r\n".join(lines).encode() + header + b"\r\n" + body)
        self.transport.close()

    def _look(self) -> None:
        """End the connection if its client is too slow; else look again later."""
        now = time.monotonic()
        self._forgive(now - self._look_at)
        if self._head_since is not None and now - self._head_since > self.settings.head_s:
            self._refuse(408, f"expected a whole request head within {self.settings.head_s:g} s")
        elif self._reads_too_slowly(now):
            self.transport.abort()
        elif self._idle_since is not None and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()
        else:
            if self._sender is not None:
                self._sender.go_on()
            self._look_later(now)

    def _look_later(self, now: float) -> None:
        self._look_at = now + self.settings.watch_s
        self._watch = self.loop.call_later(self.settings.watch_s, self._look)

    def _forgive(self, late_s: float) -> None:
        """Count no time against the client in which this process itself stood still."""
        if late_s <= self.settings.watch_s:
            return
        if self._head_since is not None:
            self._head_since += late_s
        if self._lag is not None:
            self._lag = (self._lag[0] + late_s, self._lag[1])
        if self._idle_since is not None:
            self._idle_since += late_s

    def _reads_too_slowly(self, now: float) -> bool:
        """Whether the client has read too little of what was written for it since it began to lag."""
        unread = self.transport.get_write_buffer_size() + _unacknowledged(self.transport)
        if not unread:
            self._lag = None
            return False
        sent = 0 if self._sender is None else self._sender.sent_bytes
        read = self._written_bytes + sent - unread
        least = self.settings.least_bytes_s * self.settings.stall_s
        if self._lag is None or read - self._lag[1] >= least:
            self._lag = (now, read)
        return now - self._lag[0] > self.settings.stall_s

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with `http.response.zerocopysend` beside uvicorn's own messages."""
        cycle = send.__self__  # type: ignore[attr-defined]

        def gone() -> bool:
            if self.transport.is_closing():  # uvloop would raise until it has told that the client is gone
                cycle.disconnected = True
            return bool(cycle.disconnected)

        scope[GONE] = gone

        async def send_any(message: Message) -> None:
            gone()
            if message["type"] in _FROM_FILES:
                await self._send_files(cycle, message)
            else:
                self._written_bytes += len(message.get("body", b""))
                await send(message)

        with suppress(ClientDisconnect):  # in the middle of its body: nothing is wrong, nobody to answer
            await self._application(scope, receive, send_any)

    async def _send_files(self, cycle: Any, message: Message) -> None:  # noqa: ANN401 - uvicorn's
        """Send parts of files as a part of an answer's body."""
        parts = message["parts"] if message["type"] == EXTENTS else (_part_of(message),)
        count = sum(part[2] for part in parts)
        if cycle.scope["method"] != "HEAD" and not cycle.disconnected:
            if not cycle.response_started or cycle.chunked_encoding or count > cycle.expected_content_length:
                raise RuntimeError("sending from files needs a started answer whose Content-Length covers it")
            if self._sender is None:
                self._sender = FileSender(self.loop, self.transport)
            await self._sender.send(parts)
            cycle.expected_content_length -= count
        if not message.get("more_body", False):
            await cycle.send({"type": "http.response.body", "body": b""})


def guarded(settings: GuardSettings, express: ShortWay | None = None) -> type[GuardedConnection]:
    """The class of connections within some limits, and with a short way, for uvicorn's `http`."""
    return type("GuardedConnection", (GuardedConnection,), {"settings": settings, "express": express})


def as_body(part: Buffer, scope: Scope) -> Buffer:
    """A part of a body as its server takes it: ASGI says bytes, some take a view element by element."""
    return part if EXTENTS in scope.get("extensions", ()) else bytes(part)


def is_gone(scope: Scope) -> bool:
    """Whether the client of a request is known to have gone: what is sent to it is thrown away."""
    gone = scope.get(GONE)
    return gone is not None and gone()


def _part_of(message: Message) -> Part:
    return int(message["file"]), int(message["offset"]), int(message["count"])


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the socket has taken and the client's has not: `SIOCOUTQ` of tcp(7)."""
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])
