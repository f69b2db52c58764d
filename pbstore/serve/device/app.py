"""Passes requests on to the edge node, and answers those for blocks that the device has.

Clients of Xet send all they ask to a socket file that `HF_XET_CLIENT_UNIX_SOCKET_PATH` names. Requests for
xorbs are answered from the cache, or passed on and kept; all others are passed on as they are. They go to the
edge node only, whatever host they name.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pbstore.hashing import BlockId, Buffer, as_block_id
from pbstore.serve.device.cache import BlockCache, OpenChunks
from pbstore.serve.wire.ranges import content_range
from pbstore.serve.wire.xet import Unframer, chunks_within, framed_bytes, raw_bytes_of, segments

log = logging.getLogger(__name__)
XORBS = "/-/xorbs"
"""Where edge nodes have blocks as xorbs."""
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade")
)
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_PART_BYTES = 1 << 20
_REPEATS = 2
"""How often a question is asked again that an idle connection did not take: the edge node may close it."""


def create_device_app(edge: str, cache: BlockCache) -> Starlette:
    """An ASGI application between clients on this device and an edge node.

    Args:
        edge: Address of the edge node.
        cache: Where its blocks stay; closed at the end.
    """
    timeout = httpx.Timeout(60.0, connect=10.0, pool=None)
    limits = httpx.Limits(max_connections=128, max_keepalive_connections=32)
    client = httpx.AsyncClient(base_url=edge, timeout=timeout, limits=limits, trust_env=False)
    device = _Device(client, cache)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await client.aclose()
            await run_in_threadpool(cache.close)

    routes = [
        Route(XORBS + "/{block_id}", device.xorb, methods=["GET"]),
        Route("/{rest:path}", device.passed_on, methods=_METHODS),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Device:
    """The routes, and what they share."""

    def __init__(self, client: httpx.AsyncClient, cache: BlockCache) -> None:
        self._client, self._cache = client, cache
        self._fetching: WeakValueDictionary[tuple[BlockId, int, int], asyncio.Lock] = WeakValueDictionary()

    async def passed_on(self, request: Request) -> Response:
        """Whatever the edge node answers."""
        return await self._passed_on(request, None)

    async def xorb(self, request: Request) -> Response:
        """Chunks of a block, from here or from the edge node."""
        asked = _asked(request)
        return await self.passed_on(request) if asked is None else _Xorb(self, request, *asked)

    def lock(self, block_id: BlockId, start: int, stop: int) -> asyncio.Lock:
        """Held by who fetches these bytes; others wait, and find them here."""
        return self._fetching.setdefault((block_id, start, stop), asyncio.Lock())

    async def cached(self, block_id: BlockId, start: int, stop: int) -> Response | None:
        """An answer from the cache, None if not all of it is there."""
        found = await run_in_threadpool(self._find, block_id, start, stop)
        return None if found is None else _from_cache(found, start, stop)

    async def fetched(self, request: Request, block_id: BlockId) -> Response:
        """The edge node's answer, which is kept on the way."""
        return await self._passed_on(request, block_id)

    def _find(self, block_id: BlockId, start: int, stop: int) -> OpenChunks | None:
        size = self._cache.size(block_id)
        chunks = None if size is None else chunks_within(size, start, stop)
        return None if chunks is None else self._cache.open(block_id, *chunks)

    async def _passed_on(self, request: Request, block_id: BlockId | None) -> Response:
        try:
            answer = await self._ask(request)
        except httpx.TransportError as error:
            log.warning("the edge node does not answer: %s", error)
            return PlainTextResponse("the edge node does not answer\n", 502)
        headers = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return _PassedOn(answer, self._kept(answer, block_id), answer.status_code, headers)

    async def _ask(self, request: Request) -> httpx.Response:
        """Ask the edge node what a client asked; where it sends to another node for a block, ask that one."""
        query = request.scope["query_string"]
        path = request.scope["raw_path"] + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in request.headers.raw if name.decode() not in _HOP_BY_HOP]
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        asked = self._client.build_request(
            request.method,
            self._client.base_url.copy_with(raw_path=path),
            headers=headers,
            content=request.stream() if has_body else None,
        )
        may_repeat = not has_body and request.method in ("GET", "HEAD")
        for _ in range(_REPEATS if may_repeat else 0):
            with suppress(httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                return await self._client.send(asked, stream=True, follow_redirects=True)
        return await self._client.send(asked, stream=True, follow_redirects=may_repeat)

    async def _kept(self, answer: httpx.Response, block_id: BlockId | None) -> AsyncIterator[Buffer]:
        """The answer's bytes; chunks of a block are kept on the way."""
        coming = None if block_id is None else _Coming.of(answer, block_id, self._cache)
        async for part in answer.aiter_raw(_PART_BYTES):
            if coming is not None:
                await run_in_threadpool(coming.take, part)
            yield part


class _Xorb(Response):
    """Chunks of a block, which one client fetches at a time."""

    def __init__(self, device: _Device, request: Request, block_id: BlockId, start: int, stop: int) -> None:
        super().__init__()
        self._device, self._request, self._asked = device, request, (block_id, start, stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        async with self._device.lock(*self._asked):
            answer = await self._device.cached(*self._asked)
            if answer is None:
                fetched = await self._device.fetched(self._request, self._asked[0])
                await fetched(scope, receive, send)
                return
        await answer(scope, receive, send)


class _PassedOn(Response):
    """An answer of the edge node, which is let go of however this one ends."""

    def __init__(
        self, answer: httpx.Response, parts: AsyncIterator[Buffer], status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(None, status_code, headers)
        if "content-length" not in headers:
            del self.headers["content-length"]
        self._answer, self._parts = answer, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._answer.aclose()


class _Coming:
    """Chunks of a block, taken out of an answer."""

    def __init__(self, cache: BlockCache, block_id: BlockId, raw_bytes: int, first: int) -> None:
        self._cache, self._block_id, self._raw_bytes = cache, block_id, raw_bytes
        self._unframer: Unframer | None = Unframer(raw_bytes, first)

    @classmethod
    def of(cls, answer: httpx.Response, block_id: BlockId, cache: BlockCache) -> "_Coming | None":
        """What comes with an answer, None if it is not one with whole chunks."""
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status_code != 206 or match is None or "content-encoding" in answer.headers:
            return None
        try:
            raw_bytes = raw_bytes_of(int(match[3]))
        except ValueError:
            return None
        chunks = chunks_within(raw_bytes, int(match[1]), int(match[2]) + 1)
        return None if chunks is None else cls(cache, block_id, raw_bytes, chunks[0])

    def take(self, part: Buffer) -> None:
        """Keep the chunks that are whole now; none any more once something is wrong, or the disk is full."""
        if self._unframer is None:
            return
        try:
            for chunk, data in self._unframer.feed(part):
                self._cache.put(self._block_id, self._raw_bytes, chunk, data)
        except (ValueError, OSError) as error:
            log.warning("block %s is not kept: %s", self._block_id[:12], error)
            self._unframer = None


def _asked(request: Request) -> tuple[BlockId, int, int] | None:
    """The block and the bytes of its xorb that are asked for; None if it is another kind of question."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    try:
        block_id = as_block_id(request.path_params["block_id"])
    except ValueError:
        return None
    if match is None or int(match[1]) > int(match[2]) or request.method != "GET":
        return None
    return block_id, int(match[1]), int(match[2]) + 1


def _from_cache(found: OpenChunks, start: int, stop: int) -> Response:
    whole = framed_bytes(found.raw_bytes)
    stop = min(stop, whole)

    async def parts() -> AsyncIterator[bytes]:
        for part in segments(found.raw_bytes, start, stop):
            yield part.head or await run_in_threadpool(found.read, part.start, part.stop)

    headers = {"Content-Range": content_range(start, stop, whole), "Content-Length": str(stop - start)}
    return StreamingResponse(parts(), 206, headers, "application/octet-stream")
