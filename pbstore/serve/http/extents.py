"""Answers whose bytes the kernel sends from packs, where that can be, and others through memory."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pbstore.errors import PBStoreError
from pbstore.hashing import Buffer
from pbstore.serve.http.connection import EXTENTS, as_body, is_gone
from pbstore.serve.library import Extent
from pbstore.serve.library.window import Steps

STEP_BYTES = 64 << 20
"""Bytes whose places are asked for at a time: so much is found right before any of it is sent."""
Read: TypeAlias = Callable[[int, int], AsyncIterator[Buffer]]
"""Bytes from a start to a stop, in parts."""
Find: TypeAlias = Callable[[int, int], Awaitable[Sequence[Extent] | None]]
"""Where bytes from a start to a stop lie."""
log = logging.getLogger(__name__)


class ExtentsResponse(Response):
    """Bytes `start` to `stop` of something, as the body.

    Where the server cannot send from files, or the bytes do not lie in any, they are read. What is damaged in
    the first step is an error of the request; later the connection is cut, which every client takes for one.
    """

    def __init__(
        self, read: Read, find: Find, start: int, stop: int, status_code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, status_code, {**headers, "Content-Length": str(stop - start)})
        self._read, self._find, self._range = read, find, (start, stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        begun = ended = False
        start, stop = self._range
        can = EXTENTS in scope.get("extensions", ())
        step = STEP_BYTES if can else max(stop - start, 1)
        memory = _Memory(self._read, stop)

        async def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                head = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **head})

        try:
            for position in range(start, stop, step):
                end = min(position + step, stop)
                found = await self._find(position, end) if can else None
                if found is None:
                    if not await memory.send(position, end, begin, send, scope):
                        return
                    continue
                await memory.close()
                await begin()
                parts = [(one.pack.fd, one.offset, one.length) for one in found]
                await send({"type": EXTENTS, "parts": parts, "more_body": end < stop})
                ended = end == stop
        except PBStoreError as error:
            if begun:
                log.error("%s %s: cut short: %s", scope["method"], scope["path"], error)
            raise
        finally:
            await memory.close()
        await begin()
        if not ended:
            await send({"type": "http.response.body", "body": b""})


class _Memory:
    """Bytes of an answer that lie in no file: one pass over them, so that it works ahead of what is sent."""

    def __init__(self, read: Read, stop: int) -> None:
        self._read, self._stop = read, stop
        self._steps: Steps | None = None

    async def send(
        self, start: int, end: int, begin: Callable[[], Awaitable[None]], send: Send, scope: Scope
    ) -> bool:
        """Send bytes as a part of the body; False if the client has gone meanwhile."""
        if self._steps is None:
            self._steps = Steps(self._read(start, self._stop))
        async for part in self._steps.next_bytes(end - start):
            await begin()
            if is_gone(scope):
                return False
            await send({"type": "http.response.body", "body": as_body(part, scope), "more_body": True})
        return True

    async def close(self) -> None:
        """End the pass; the next bytes are read by another."""
        if self._steps is not None:
            await self._steps.close()
            self._steps = None
