"""Hot files past the parser and the application: a head that was answered before is answered by a look-up.

A connection hands over each request that came whole by itself. Its bytes, but for one plain `Range`, are the
key: whatever the full way would decide by a method, a path or a header, it would decide again for the same
bytes. So only what the full way has answered is answered here, with the same head, as long as nothing has
changed: the index of the store, what the name means, and who may ask.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

from pbstore.serve.http.connection import HEAD, DefaultHeaders, Prepared
from pbstore.serve.http.guard import Guards
from pbstore.serve.http.guard_log import note_answer
from pbstore.serve.http.shortcut import ROUTE_NAME, Known, Remembering

MOST_HEAD_BYTES = 8 << 10
"""Longer heads take the full way."""
_END = b"\r\n\r\n"
_RANGE = re.compile(rb"\r\n[Rr]ange: ?bytes=([0-9]{1,15})-([0-9]{1,15})(?=\r\n)")
_OWN_WAY = re.compile(
    rb"\r\n(range|if-[a-z-]+|connection|keep-alive|upgrade|expect|te|trailer|content-length"
    rb"|transfer-encoding)[ \t]*:",
    re.IGNORECASE,
)
"""Headers of requests that take the full way each time."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the full way has answered to a head."""

    known: Known
    lines: bytes
    """The headers that every answer for the file has."""
    tokens: object
    """The tokens that were good then; None if none are needed."""
    scope: Scope
    """Of the request, for the log."""


@dataclass(slots=True)
class Express:
    """The short way of one server, for all of its connections; used by its event loop only.

    Args:
        library: What is served.
        guards: Who may ask, how much, and who counts it.
    """

    library: Remembering
    guards: Guards
    _date: tuple[DefaultHeaders, bytes] = field(default=((), b""), init=False)

    def answer(self, data: bytes, default_headers: DefaultHeaders) -> tuple[bytes | None, Prepared | None]:
        """See `ShortWay`."""
        split = split_head(data)
        if split is None:
            return None, None
        key, asked = split
        return key, self._prepared(key, asked, default_headers)

    def _prepared(
        self, key: bytes, asked: tuple[int, int] | None, default_headers: DefaultHeaders
    ) -> Prepared | None:
        self.library.quick.version()
        entry: _Entry | None = self.library.quick.get((HEAD, key))
        if entry is None or not self._holds(entry):
            return None
        size = entry.known.file.size_bytes
        start, stop = (0, size) if asked is None else (asked[0], min(asked[1] + 1, size))
        extents = self.library.known_extents(entry.known.file, start, stop) if start < stop else None
        if extents is None or self.guards.work.is_full:
            return None
        lines = [_STATUS[asked is not None], self._lines_of(default_headers), entry.lines]
        lines.append(b"content-length: %d\r\n" % (stop - start))
        if asked is not None:
            lines.append(b"content-range: bytes %d-%d/%d\r\n" % (start, stop - 1, size))
        parts = [(pack.fd, offset, length) for pack, offset, length in extents]
        return Prepared(b"".join([*lines, b"\r\n"]), parts, extents, self._begun(entry, asked, stop - start))

    def note(self, scope: Scope, known: Known, version: int) -> None:
        """The full way has answered a request for a file in the plainest way."""
        key, tokens = scope.get(HEAD), self.guards.tokens
        if key is None or scope["http_version"] != "1.1" or _OWN_WAY.search(key):
            return
        if tokens is not None and "pbcast.who" not in scope:  # by a token that ends
            return
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in known.headers)
        state = None if tokens is None else tokens.state()
        about = {name: scope.get(name) for name in ("client", "method", "path", "pbcast.who")}
        self.library.quick.put((HEAD, key), _Entry(known, lines, state, about), version)

    def _holds(self, entry: _Entry) -> bool:
        tokens = self.guards.tokens
        may_ask = entry.tokens is (None if tokens is None else tokens.state())
        return may_ask and self.library.is_current(entry.known.name, entry.known.file)

    def _lines_of(self, default_headers: DefaultHeaders) -> bytes:
        """The server's own headers; the list is made anew when the date changes."""
        if self._date[0] is not default_headers:
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in default_headers)
            self._date = (default_headers, lines)
        return self._date[1]

    def _begun(self, entry: _Entry, asked: object, count: int) -> Callable[[bool], None]:
        start, code = time.perf_counter(), 200 if asked is None else 206
        self.guards.work.in_work += 1

        def end(whole: bool) -> None:
            self.guards.work.in_work -= 1
            seconds = time.perf_counter() - start
            note_answer(
                self.guards.metrics, entry.scope, ROUTE_NAME, code, seconds, {"pack": count}, whole=whole
            )

        return end


_STATUS = (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 206 Partial Content\r\n")


def split_head(data: bytes) -> tuple[bytes, tuple[int, int] | None] | None:
    """A request's head without its one plain range, and that range; None if it is no whole GET by itself."""
    if (
        len(data) > MOST_HEAD_BYTES
        or not data.startswith(b"GET ")
        or data.find(_END) != len(data) - len(_END)
    ):
        return None
    match = _RANGE.search(data)
    if match is None:
        return data, None
    first, last = int(match[1]), int(match[2])
    return data[: match.start()] + data[match.end() :], (first, last)
