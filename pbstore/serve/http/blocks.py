"""Routes of the block protocol: what nodes ask one another, and where blocks and manifests are put."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from pbstore.blocks import StoredBlock
from pbstore.errors import (
    BlockCorruptError,
    BlockMissingError,
    CapacityError,
    ModelExistsError,
    ModelMissingError,
    ModelUnreachableError,
    PBStoreError,
    RevisionMissingError,
)
from pbstore.manifest import MAX_MANIFEST_BYTES, Manifest
from pbstore.serve.fetch.giving import giver, hashes_for
from pbstore.serve.fetch.node import NodeLibrary
from pbstore.serve.fetch.source import Asked, GivesRaw, Sink, Source
from pbstore.serve.http.context import Context, RouteGroup
from pbstore.serve.http.guard_access import Access, Rule
from pbstore.serve.http.guard_limits import BODY_LIMIT
from pbstore.serve.library import Library, Revision
from pbstore.serve.library.library import commit_of_manifest
from pbstore.serve.wire import blocks as wire
from pbstore.serve.wire import frames
from pbstore.serve.wire.blocks import Want, WireError
from pbstore.serve.wire.frames import BlockReader

Endpoint = Callable[[Request], Awaitable[Response]]
RULES = (Rule(("POST",), f"{re.escape(wire.PREFIX)}/(which|blocks)", Access.READ),)
"""These questions have bodies and change nothing."""
MOST_PUT_BYTES = 4 << 30
"""Most bytes of one stream of blocks that is put."""
_PART_BYTES = 1 << 18
_BATCH_BYTES = 16 << 20
_BATCH_BLOCKS = 256
_DRAINED_BYTES = 64 << 20
_PATIENCE_S = 2.0
"""So often a stream tells that its next block is on its way, s."""
_STATUS: dict[type[PBStoreError], int] = {
    ModelUnreachableError: 503,
    ModelMissingError: 404,
    BlockMissingError: 424,
    ModelExistsError: 409,
    BlockCorruptError: 422,
    CapacityError: 507,
    WireError: 400,
}


class LoopError(PBStoreError):
    """A question came through too many nodes."""


def routes(context: Context) -> Sequence[BaseRoute]:
    """Routes that only read."""
    reading, prefix = _Reading(context.library), wire.PREFIX
    return [
        Route(f"{prefix}/node", _told(reading.node)),
        Route(f"{prefix}/models", _told(reading.models)),
        Route(f"{prefix}/manifests/{{name:path}}", _told(reading.manifest)),
        Route(f"{prefix}/hashes/{{name:path}}", _told(reading.hashes)),
        Route(f"{prefix}/which", _told(reading.which), methods=["POST"]),
        Route(f"{prefix}/blocks", _told(reading.blocks), methods=["POST"]),
    ]


def put_routes(sink: Sink) -> RouteGroup:
    """Routes by which others put blocks and manifests.

    Args:
        sink: Where they go.
    """
    writing, prefix = _Writing(sink), wire.PREFIX

    def routes(context: Context) -> Sequence[BaseRoute]:
        return [
            Route(f"{prefix}/blocks", _told(writing.blocks), methods=["PUT"]),
            Route(f"{prefix}/manifests/{{name:path}}", _told(writing.manifest), methods=["PUT"]),
        ]

    return routes


class _Reading:
    """Answers to questions."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._node_id = library.node_id if isinstance(library, NodeLibrary) else secrets.token_hex(8)

    async def node(self, request: Request) -> Response:
        """Who this is, and who is upstream of it."""
        chain = self._library.chain if isinstance(self._library, NodeLibrary) else ()
        return JSONResponse({"node": self._node_id, "upstream": list(chain), "version": 1})

    async def models(self, request: Request) -> Response:
        """Names of all models."""
        return JSONResponse({"models": list(await self._source(request).names())})

    async def manifest(self, request: Request) -> Response:
        """A model's manifest, as its canonical JSON."""
        manifest = await self._source(request).manifest(str(request.path_params["name"]))
        return Response(manifest.to_json().encode(), media_type="application/json")

    async def hashes(self, request: Request) -> Response:
        """What is known of a file of a model by a name that others give it."""
        name, query, asked = str(request.path_params["name"]), request.query_params, self._asked(request)
        manifest = await giver(self._library, asked).manifest(name)
        commit = commit_of_manifest(manifest)
        revision = Revision(commit=commit, manifest=manifest)
        file = revision.by_path.get(query.get("path", ""))
        if query.get("commit") != commit or file is None:
            raise RevisionMissingError(name, str(query.get("commit"))[:64])
        return JSONResponse({"xet": (await hashes_for(self._library, asked, revision, file)).xet})

    async def which(self, request: Request) -> Response:
        """Which of some blocks are here, in which form."""
        block_ids = wire.decode_ids(await _body(request, wire.longest_body(True)))
        found = await self._source(request).infos(block_ids)
        told = [
            frames.info_frame(found[block_id]) if block_id in found else frames.absent_frame(block_id)
            for block_id in block_ids
        ]
        body = b"".join([frames.STREAM_START, *told, frames.end_frame(len(told))])
        return Response(body, media_type=wire.STREAM_TYPE)

    async def blocks(self, request: Request) -> Response:
        """Some blocks in their coded form, or raw, in the order in which they are wanted."""
        wants = wire.decode_wants(await _body(request, wire.longest_body(False)))
        source, ids = self._source(request), [want.block_id for want in wants]
        is_raw = request.query_params.get("raw") == "1"
        given = source.raw_blocks(ids) if is_raw and isinstance(source, GivesRaw) else source.blocks(ids)
        return StreamingResponse(_frames(given, wants), media_type=wire.STREAM_TYPE)

    def _source(self, request: Request) -> Source:
        return giver(self._library, self._asked(request))

    def _asked(self, request: Request) -> Asked:
        via = [part.strip() for part in request.headers.get(wire.VIA_HEADER, "").split(",")]
        via = [part[:64] for part in via if part]
        if len(via) > wire.MAX_HOPS:
            raise LoopError(f"a question came through more than {wire.MAX_HOPS} nodes")
        return Asked(via=tuple(via), fetch=request.query_params.get("fetch") == "1")


class _Writing:
    """Taking in blocks and manifests; the same once more is success."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def blocks(self, request: Request) -> Response:
        """Take a stream of blocks; what was taken before an error stays."""
        request.scope[BODY_LIMIT] = MOST_PUT_BYTES
        stream = request.stream()
        try:
            count = await self._take(stream)
        except PBStoreError:
            await _drain(stream)  # or the client never reads the answer
            raise
        return JSONResponse({"blocks": count})

    async def manifest(self, request: Request) -> Response:
        """File a model whose blocks are all here."""
        request.scope[BODY_LIMIT] = MAX_MANIFEST_BYTES
        manifest = Manifest.from_json(await _body(request, MAX_MANIFEST_BYTES))
        if manifest.name != request.path_params["name"]:
            raise WireError(f"expected the manifest of {request.path_params['name']}, got {manifest.name}'s")
        await self._sink.put_manifest(manifest)
        return JSONResponse({"name": manifest.name}, status_code=201)

    async def _take(self, stream: AsyncIterator[bytes]) -> int:
        """Take the blocks of a stream in; how many they were."""
        reader, batch, count = BlockReader(), list[StoredBlock](), 0
        async for data in stream:
            for item in reader.feed(data):
                if not isinstance(item, StoredBlock):
                    raise WireError("expected blocks, got a frame without a payload")
                batch.append(item)
                if _is_full(batch):
                    count += await self._put(batch)
        reader.finish()
        return count + await self._put(batch)

    async def _put(self, batch: list[StoredBlock]) -> int:
        count = len(batch)
        if batch:
            await self._sink.put_blocks(batch)
            batch.clear()
        return count


def _is_full(batch: list[StoredBlock]) -> bool:
    return len(batch) >= _BATCH_BLOCKS or sum(one.stored_bytes for one in batch) >= _BATCH_BYTES


async def _frames(blocks: AsyncGenerator[StoredBlock, None], wants: list[Want]) -> AsyncIterator[bytes]:
    """A stream of the blocks that are wanted; those that are not given are told as absent."""
    waiting, waits = list(wants), 0
    yield frames.STREAM_START
    async with aclosing(blocks) as given:
        async for stored in _patiently(given):
            if stored is None:
                waits += 1
                yield frames.wait_frame()
                continue
            while waiting and waiting[0].block_id != stored.block_id:
                yield frames.absent_frame(waiting.pop(0).block_id)
            want = waiting.pop(0)
            async for part in _parts(stored, want):
                yield part
    for want in waiting:
        yield frames.absent_frame(want.block_id)
    yield frames.end_frame(len(wants) + waits)


async def _patiently(given: AsyncIterator[StoredBlock]) -> AsyncIterator[StoredBlock | None]:
    """What is given, and None from time to time while the next is still being fetched."""
    following: asyncio.Task[StoredBlock | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(given))
            while not (await asyncio.wait([following], timeout=_PATIENCE_S))[0]:
                yield None
            if (stored := following.result()) is None:
                return
            yield stored
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait([following])


async def _next(given: AsyncIterator[StoredBlock]) -> StoredBlock | None:
    return await anext(given, None)


async def _parts(stored: StoredBlock, want: Want) -> AsyncIterator[bytes]:
    check, payload = frames.stored_check(stored), memoryview(stored.payload)
    offset = want.offset if want.check == check and want.offset <= len(payload) else 0
    yield frames.block_head(stored, check, offset)
    for start in range(offset, len(payload), _PART_BYTES):
        yield bytes(payload[start : start + _PART_BYTES])


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Read what a client still sends, up to a bound."""
    left = _DRAINED_BYTES
    async for part in stream:
        left -= len(part)
        if left < 0:
            return


async def _body(request: Request, most_bytes: int) -> bytes:
    """A request's body, of a bounded length whatever its header says."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most_bytes:
            raise WireError(f"a body has more than {most_bytes} bytes")
    return bytes(data)


def _told(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors about the state of the world are answers."""

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except PBStoreError as error:
            return _error(error)

    return answer


def _error(error: PBStoreError) -> Response:
    fallback = 508 if isinstance(error, LoopError) else 400 if isinstance(error, ValueError) else 502
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), fallback)
    tree: dict[str, Any] = {"error": str(error), "type": type(error).__name__}
    for key in ("needed_by", "wanted_bytes", "used_bytes", "capacity_bytes"):
        if hasattr(error, key):
            tree[key] = getattr(error, key)
    if isinstance(error, BlockMissingError | BlockCorruptError):
        tree["block"] = error.block_id
    return Response(json.dumps(tree), status_code=status, media_type="application/json")
