"""Passes requests on to the edge node, and answers those for blocks that the device has.

Clients of Xet send all they ask to a socket file that `HF_XET_CLIENT_UNIX_SOCKET_PATH` names. Requests for
xorbs are answered from the cache, or passed on and kept; all others are passed on as they are. They go to the
edge node only, whatever host they name.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from weakref import WeakValueDictionary

import httpx
from blake3 import blake3
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pbstore.errors import BlockCorruptError, IntegrityError
from pbstore.hashing import BlockId, Buffer, as_block_id
from pbstore.serve.device.cache import BlockCache, OpenBlock
from pbstore.serve.wire.ranges import content_range
from pbstore.serve.wire.xet import Unframer, framed_bytes, raw_bytes_of, segments

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


@dataclass(frozen=True, slots=True)
class Asked:
    """Bytes `start` to `stop` of a block's xorb, which has `whole` bytes if its address is right."""

    block_id: BlockId
    start: int
    stop: int
    whole: int


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
        self._client, self.cache = client, cache
        self._fetching: WeakValueDictionary[BlockId, asyncio.Lock] = WeakValueDictionary()

    async def passed_on(self, request: Request) -> Response:
        """Whatever the edge node answers."""
        try:
            answer = await self._ask(request)
        except httpx.TransportError as error:
            return _no_answer(error)
        return _PassedOn(answer, answer.aiter_raw(_PART_BYTES), _headers_of(answer))

    async def xorb(self, request: Request) -> Response:
        """Bytes of a block, from here or from the edge node."""
        if request.method != "GET":
            return await self.passed_on(request)
        try:
            return _Xorb(self, request, _asked(request))
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)

    def lock(self, block_id: BlockId) -> asyncio.Lock:
        """Held by who fetches this block; others wait, and find it here."""
        return self._fetching.setdefault(block_id, asyncio.Lock())

    async def cached(self, block_id: BlockId, start: int, stop: int) -> Response | None:
        """An answer from the cache, None if the block is not there."""
        found = await run_in_threadpool(self.cache.open, block_id)
        return None if found is None else _from_cache(found, start, stop)

    async def fetched(self, request: Request, asked: Asked) -> Response:
        """The edge node's answer, whose last bytes go out when the whole block was found right."""
        try:
            answer = await self._ask(request, {"range": f"bytes=0-{asked.whole - 1}"})
        except httpx.TransportError as error:
            return _no_answer(error)
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if answer.status_code != 206 and answer.status_code >= 300:
            return _PassedOn(answer, answer.aiter_raw(_PART_BYTES), _headers_of(answer))
        try:
            if match is None or "content-encoding" in answer.headers:
                raise ValueError("expected a range of bytes")
            first, last, whole = map(int, match.groups())
            if answer.status_code != 206 or (first, last + 1, whole) != (0, asked.whole, asked.whole):
                raise ValueError(f"expected all {asked.whole} bytes, got {match[0]}")
            return _Checking(answer, asked, raw_bytes_of(whole), self.cache)
        except ValueError as error:
            await answer.aclose()
            log.warning("the edge node's answer for block %s is of no use: %s", asked.block_id[:12], error)
            return PlainTextResponse(f"the edge node's answer cannot be checked: {error}\n", 502)

    async def _ask(
        self, request: Request, instead: Mapping[str, str] = MappingProxyType({})
    ) -> httpx.Response:
        """Ask the edge node what a client asked; where it sends to another node for a block, ask that one."""
        query = request.scope["query_string"]
        path = request.scope["raw_path"] + (b"?" + query if query else b"")
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        headers |= instead
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


class _Xorb(Response):
    """Bytes of a block, which one client fetches at a time."""

    def __init__(self, device: _Device, request: Request, asked: Asked) -> None:
        super().__init__()
        self._device, self._request, self._asked = device, request, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        asked = self._asked
        async with self._device.lock(asked.block_id):
            answer = await self._device.cached(asked.block_id, asked.start, asked.stop)
            if answer is None:
                fetched = await self._device.fetched(self._request, asked)
                await fetched(scope, receive, send)
                return
        await answer(scope, receive, send)


class _PassedOn(Response):
    """An answer of the edge node, which is let go of however this one ends."""

    def __init__(
        self, answer: httpx.Response, parts: AsyncIterator[Buffer], headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, answer.status_code, headers)
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
        except (httpx.TransportError, IntegrityError) as error:
            log.warning("an answer is cut off: %s", error)  # not all that it promised: no client takes it
        finally:
            await self._answer.aclose()


class _Checking(_PassedOn):
    """Bytes of a block while all of it comes; the last of them only when it was found right."""

    def __init__(self, answer: httpx.Response, asked: Asked, raw_bytes: int, cache: BlockCache) -> None:
        headers = _headers_of(answer)
        headers["content-length"] = str(asked.stop - asked.start)
        headers["content-range"] = content_range(asked.start, asked.stop, asked.whole)
        super().__init__(answer, self._checked(), headers)
        self._asked, self._raw_bytes, self._cache = asked, raw_bytes, cache
        self._coming, self._digest = Unframer(raw_bytes, 0), blake3()
        self._is_kept = True

    async def _checked(self) -> AsyncIterator[Buffer]:
        held: Buffer = b""
        position, start, stop = 0, self._asked.start, self._asked.stop
        async for part in self._answer.aiter_raw(_PART_BYTES):
            await run_in_threadpool(self._take, part)
            wanted = part[max(start - position, 0) : max(stop - position, 0)]
            position += len(part)
            if wanted:
                if held:
                    yield held
                held = wanted
        if position != self._asked.whole or self._digest.hexdigest() != self._asked.block_id:
            raise BlockCorruptError(self._asked.block_id, "the edge node sent other bytes")
        yield held

    def _take(self, part: bytes) -> None:
        """Hash what is whole now and keep it, as long as there is room on the disk."""
        try:
            chunks = list(self._coming.feed(part))
        except ValueError as error:
            raise BlockCorruptError(self._asked.block_id, str(error)) from None
        for chunk, data in chunks:
            self._digest.update(data)
            try:
                if self._is_kept:
                    self._cache.put(self._asked.block_id, self._raw_bytes, chunk, data)
            except OSError as error:
                log.warning("block %s is not kept: %s", self._asked.block_id[:12], error)
                self._is_kept = False


def _no_answer(error: httpx.TransportError) -> Response:
    log.warning("the edge node does not answer: %s", error)
    return PlainTextResponse("the edge node does not answer\n", 502)


def _headers_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}


def _asked(request: Request) -> Asked:
    """What is asked for.

    Raises:
        ValueError: If it is no range of a block whose address permits all of it.
    """
    block_id = as_block_id(request.path_params["block_id"])
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    permitted = _RANGE.fullmatch(f"bytes={request.query_params.get('bytes', '')}")
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError("expected one range of bytes")
    if permitted is None or int(permitted[1]) or int(permitted[2]) < int(match[1]):
        raise ValueError("expected an address that permits the whole block")
    whole = int(permitted[2]) + 1
    return Asked(block_id, int(match[1]), min(int(match[2]) + 1, whole), whole)


def _from_cache(found: OpenBlock, start: int, stop: int) -> Response:
    whole = framed_bytes(found.raw_bytes)
    start, stop = min(start, whole - 1), min(stop, whole)

    async def parts() -> AsyncIterator[bytes]:
        for part in segments(found.raw_bytes, start, stop):
            yield part.head or await run_in_threadpool(found.read, part.start, part.stop)

    headers = {"Content-Range": content_range(start, stop, whole), "Content-Length": str(stop - start)}
    return StreamingResponse(parts(), 206, headers, "application/octet-stream")
