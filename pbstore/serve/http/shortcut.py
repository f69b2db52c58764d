"""The shortest way to a hot file: what was answered once is answered again without routing and look-ups."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from starlette.types import ASGIApp, Receive, Scope, Send

from pbstore.manifest import FileEntry
from pbstore.serve.http.connection import EXTENTS
from pbstore.serve.library import Extent
from pbstore.serve.library.quick import QuickAnswers

ROUTE_NAME = "hub.resolve"
"""Of the route whose answers are remembered."""
_RANGE = re.compile(rb"bytes=([0-9]{1,15})-([0-9]{1,15})")
_CONDITION = b"if-"
RawHeaders = Sequence[tuple[bytes, bytes]]


@runtime_checkable
class Remembering(Protocol):
    """A library that knows whether what was read from it before still holds."""

    quick: QuickAnswers

    def is_current(self, name: str, file: FileEntry) -> bool:
        """Whether a file is still what a model's name means, as long as the index is what it was."""

    def known_extents(self, file: FileEntry, start: int, stop: int) -> Sequence[Extent] | None:
        """Where bytes `start` to `stop` of a file lie, if that is known without a look at the disk."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was answered for, and the headers that every answer for it has."""

    name: str
    """Of the model."""
    file: FileEntry
    headers: RawHeaders


Answered = Callable[[Scope, Known, int], None]
"""Told of each request that was answered the short way, and of the index's version."""


class Shortcut:
    """ASGI middleware, the innermost: it answers a plain GET for a known file, whole or in one range.

    Everything else, and whatever has changed since, takes the full way, which says what is known by `note`.
    """

    def __init__(self, app: ASGIApp, *, library: object, answered: Answered | None = None) -> None:
        self._app, self._answered = app, answered
        self._library = library if isinstance(library, Remembering) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Shortcut`."""
        found = self._find(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        status, headers, extents = found  # these keep their packs open until all is sent
        parts = [(one.pack.fd, one.offset, one.length) for one in extents]
        scope["pbcast.route"] = ROUTE_NAME
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": EXTENTS, "parts": parts, "more_body": False})

    def _find(self, scope: Scope) -> tuple[int, RawHeaders, Sequence[Extent]] | None:
        library = self._library
        if library is None or EXTENTS not in scope.get("extensions", ()):
            return None
        version = library.quick.version()
        known: Known | None = library.quick.get(key_of(scope))
        asked = None if known is None else _plain_range(scope, known.file.size_bytes)
        if known is None or asked is None or not library.is_current(known.name, known.file):
            return None
        status, start, stop = asked
        extents = library.known_extents(known.file, start, stop)
        if extents is None:
            return None
        if self._answered is not None:
            self._answered(scope, known, version)
        return status, _headers(known, status, start, stop), extents


def key_of(scope: Scope) -> tuple[str, str, bytes, bytes]:
    """What an answer's headers depend on, besides the store."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return "shortcut", scope["scheme"], host, scope["raw_path"]


def note(
    library: object, scope: Scope, name: str, file: FileEntry, headers: Mapping[str, str], version: int | None
) -> None:
    """Remember the headers of a whole file's answer; `version` is of before the file was looked up."""
    if isinstance(library, Remembering) and version is not None and not scope["query_string"]:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        library.quick.put(key_of(scope), Known(name, file, raw), version)


def version_of(library: object) -> int | None:
    """For `note`, before anything is looked up; None where nothing can be remembered."""
    return library.quick.version() if isinstance(library, Remembering) else None


def _plain_range(scope: Scope, size_bytes: int) -> tuple[int, int, int] | None:
    """Status, start and stop of what is asked for; None where it is asked for in any way but the simplest."""
    status, start, stop = 200, 0, size_bytes
    for name, value in scope["headers"]:
        if name.startswith(_CONDITION):
            return None
        if name == b"range":
            match = _RANGE.fullmatch(value)
            if match is None or status == 206:
                return None
            status, start, stop = 206, int(match[1]), min(int(match[2]) + 1, size_bytes)
    return (status, start, stop) if start < stop else None


def _headers(known: Known, status: int, start: int, stop: int) -> RawHeaders:
    headers = [*known.headers, (b"content-length", str(stop - start).encode())]
    if status == 206:
        headers.append((b"content-range", f"bytes {start}-{stop - 1}/{known.file.size_bytes}".encode()))
    return headers
