"""Xet's read protocol, as hf-xet 1.8 speaks it: tokens, how files are put together, and blocks as xorbs.

A xorb's address is signed and ends: it is asked for without a token. It is always one of this server, which
answers by itself or sends the client on to a node that holds the block. If that one fails, the client comes
back, is sent to the next one, and answered here in the end.
"""

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from pbstore.errors import BlockMissingError
from pbstore.hashing import BlockId, Buffer, as_block_id
from pbstore.manifest import FileEntry
from pbstore.serve.http.bodies import answer_bytes
from pbstore.serve.http.context import Context, context_of, name_route
from pbstore.serve.http.errors import refusal
from pbstore.serve.http.guard_access import Access, Rule
from pbstore.serve.http.hub_shared import base_url
from pbstore.serve.library import Library
from pbstore.serve.wire.ranges import BadRangeError, parse_ranges
from pbstore.serve.wire.signed import SignatureError
from pbstore.serve.wire.xet import Reconstruction, framed_bytes, reconstruct, segments

XORBS = "/-/xorbs"
"""Where blocks lie as xorbs; no model's name begins with `-`."""
RULES = (Rule(("GET", "HEAD"), XORBS + "/.*", Access.SIGNED),)
"""For the guard."""
READ, WRITE = "read", "write"
Document: TypeAlias = dict[str, Any]


def routes(context: Context) -> Sequence[BaseRoute]:
    """How files are put together, and blocks as xorbs."""
    return (
        Route("/v2/reconstructions/{file_id}", _reconstruction_v2, methods=["GET"]),
        Route("/v1/reconstructions/{file_id}", _reconstruction_v1, methods=["GET"]),
        Route(XORBS + "/{block_id}", _xorb, methods=["GET"]),
    )


def token_response(request: Request, role: str) -> JSONResponse:
    """A token for the Xet protocol, and where it is spoken."""
    context, base = context_of(request), base_url(request)
    expires = int(time.time() + context.settings.token_s)
    token = context.signer.token(role, expires)
    headers = {
        "X-Xet-Cas-Url": base,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expires),
    }
    return JSONResponse({"casUrl": base, "accessToken": token, "exp": expires}, headers=headers)


def require_role(request: Request, roles: Sequence[str]) -> None:
    """Refuse a request without a good token for one of some roles.

    Raises:
        HTTPException: If it has none.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        role = context_of(request).signer.grant(token if kind.lower() == "bearer" else "", time.time()).role
    except SignatureError as error:
        raise refusal(401, str(error)) from None
    if role not in roles:
        raise refusal(403, f"expected a token to {roles[0]}, got one to {role}")


async def _reconstruction_v2(request: Request) -> JSONResponse:
    """One entry for each run of chunks, with a list of one range."""
    name_route(request, "xet.reconstruction_v2")
    plan, urls = await _planned(request)
    xorbs: dict[str, list[Document]] = {}
    for fetch, url in zip(plan.fetches, urls, strict=True):
        span = {"chunks": _span(fetch.first, fetch.last), "bytes": _span(fetch.start, fetch.stop - 1)}
        xorbs.setdefault(fetch.block_id, []).append({"url": url, "ranges": [span]})
    return JSONResponse({**_common(plan), "xorbs": xorbs})


async def _reconstruction_v1(request: Request) -> JSONResponse:
    """The older form of the same."""
    name_route(request, "xet.reconstruction_v1")
    plan, urls = await _planned(request)
    fetches: dict[str, list[Document]] = {}
    for fetch, url in zip(plan.fetches, urls, strict=True):
        bytes_of = _span(fetch.start, fetch.stop - 1)
        entry = {"range": _span(fetch.first, fetch.last), "url": url, "url_range": bytes_of}
        fetches.setdefault(fetch.block_id, []).append(entry)
    return JSONResponse({**_common(plan), "fetch_info": fetches})


async def _planned(request: Request) -> tuple[Reconstruction, list[str]]:
    require_role(request, (READ, WRITE))
    file = await _file(request)
    try:
        ranges = parse_ranges(request.headers.get("range"), file.size_bytes)
    except BadRangeError as error:
        raise refusal(416, str(error)) from None
    if ranges is not None and len(ranges) > 1:
        raise refusal(400, "expected one range")
    start, stop = ranges[0] if ranges else (0, file.size_bytes)
    plan = reconstruct(file.pieces, start, stop)
    sizes = dict(file.pieces)
    await context_of(request).ask_peers([*dict.fromkeys(part.block_id for part in plan.fetches)])
    context = context_of(request)
    expires = int(time.time() + context.settings.token_s) + context.attempts.apart_s()
    ids = {part.block_id for part in plan.fetches}
    urls = {one: _signed_url(request, one, sizes[one], expires) for one in ids}
    return plan, [urls[fetch.block_id] for fetch in plan.fetches]


async def _file(request: Request) -> FileEntry:
    file_id = request.path_params["file_id"]
    try:
        as_block_id(file_id)
    except ValueError as error:
        raise refusal(400, str(error)) from None
    file = await context_of(request).library.file_of(file_id)
    if file is None:
        raise refusal(404, f"no file of Xet hash {file_id}")
    return file


def _signed_url(request: Request, block_id: BlockId, raw_bytes: int, expires: int) -> str:
    """Permits all of the block: who is to check its hash, as the cache on a device, needs all of it."""
    context, path = context_of(request), f"{XORBS}/{block_id}"
    query = context.signer.query("GET", path, expires, ((0, framed_bytes(raw_bytes) - 1),))
    return f"{base_url(request)}{path}?{query}"


def _common(plan: Reconstruction) -> Document:
    terms = [
        {"hash": term.block_id, "unpacked_length": term.raw_bytes, "range": _span(term.first, term.last)}
        for term in plan.terms
    ]
    return {"offset_into_first_range": plan.skipped_bytes, "terms": terms}


def _span(start: int, end: int) -> dict[str, int]:
    return {"start": start, "end": end}


async def _xorb(request: Request) -> Response:
    """A block as a xorb, framed on the way out, or the way to a node that has it; its URL was checked."""
    name_route(request, "xet.xorb")
    context, path = context_of(request), request.url.path
    try:
        block_id = as_block_id(request.path_params["block_id"])
    except ValueError as error:
        raise refusal(400, str(error)) from None
    holders = context.holders(block_id)
    if holders and (earlier := context.attempts.earlier(_who_asks(request))) < len(holders):
        return RedirectResponse(f"{holders[earlier].rstrip('/')}{path}?{request.url.query}", 302)
    try:
        info = await context.library.info(block_id)
    except BlockMissingError as error:
        raise refusal(404, str(error)) from None
    read = partial(_framed, context.library, block_id, info.raw_bytes)
    headers = {"Content-Type": "application/octet-stream", "Cache-Control": "private, immutable"}
    return answer_bytes(request, read, framed_bytes(info.raw_bytes), block_id, headers)


def _who_asks(request: Request) -> tuple[str, str]:
    """A client and what it asks: when it comes back, the node that it was sent to has failed."""
    asked = f"{request.url.path}?{request.url.query} {request.headers.get('range')}"
    return request.client.host if request.client else "", asked


async def _framed(
    library: Library, block_id: BlockId, raw_bytes: int, start: int, stop: int
) -> AsyncIterator[Buffer]:
    """Bytes `start` to `stop` of a block's xorb."""
    parts = list(segments(raw_bytes, start, stop))
    raw = [part for part in parts if not part.head]
    source = library.read_block(block_id, raw[0].start, raw[-1].stop) if raw else None
    held: memoryview = memoryview(b"")
    ready: list[Buffer] = []  # a header by itself is not worth a write
    for part in parts:
        if part.head:
            ready.append(part.head)
            continue
        left = part.stop - part.start
        while left:
            if not held and source is not None:
                if ready:
                    yield b"".join(ready)
                    ready.clear()
                held = memoryview(await anext(source))
            piece, held = held[:left], held[left:]
            left -= len(piece)
            ready.append(piece)
    if ready:
        yield b"".join(ready)
