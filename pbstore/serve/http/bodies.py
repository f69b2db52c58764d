"""Answers whose bytes come from the library: sent in parts, and only if the first part is right."""

import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pbstore.errors import PBStoreError
from pbstore.hashing import Buffer
from pbstore.serve.http.connection import as_body, is_gone
from pbstore.serve.http.errors import refusal
from pbstore.serve.http.extents import ExtentsResponse, Find, Read
from pbstore.serve.wire.ranges import BadRangeError, content_range, multipart_heads, parse_ranges

log = logging.getLogger(__name__)


class PartsResponse(Response):
    """A body of known length that comes in parts.

    The first part is asked for before the head is sent: what is damaged there is an error, no broken answer.
    Later the connection is cut, which every client takes for one.
    """

    def __init__(
        self, parts: AsyncIterator[Buffer], length: int, status_code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, status_code, {**headers, "Content-Length": str(length)})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        first = await anext(self._parts, b"")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": as_body(first, scope), "more_body": True})
        try:
            async for part in self._parts:
                if is_gone(scope):
                    return
                await send({"type": "http.response.body", "body": as_body(part, scope), "more_body": True})
        except PBStoreError as error:
            log.error("%s %s: cut short: %s", scope["method"], scope["path"], error)
            raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def answer_bytes(
    request: Request,
    read: Read,
    size_bytes: int,
    etag: str,
    headers: Mapping[str, str],
    find: Find | None = None,
) -> Response:
    """Answer GET or HEAD for something of a size: whole, in ranges, or not at all if the client has it.

    Args:
        request: Its conditions and ranges count (RFC 9110, sections 13 and 14).
        read: Gives the bytes.
        size_bytes: How many there are.
        etag: Strong tag, without quotes.
        headers: Further ones; their `Content-Type` is that of the parts.
        find: Finds where the bytes lie in files, so that the kernel can send them.

    Raises:
        HTTPException: If a condition does not hold, or no byte of what is asked for exists.
    """
    common = common_headers(etag, headers)
    _check_conditions(request, etag, common)
    if request.method == "HEAD":
        return Response(None, 200, {**common, "Content-Length": str(size_bytes)})
    ranges = _ranges_of(request, size_bytes, etag, common)
    if ranges is None:
        return _run(read, find, (0, size_bytes), 200, common)
    if len(ranges) == 1:
        start, stop = ranges[0]
        partial = {**common, "Content-Range": content_range(start, stop, size_bytes)}
        return _run(read, find, (start, stop), 206, partial)
    return _multipart(read, ranges, size_bytes, common)


def common_headers(etag: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of every answer for something with a tag."""
    return {**headers, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}


def _run(
    read: Read, find: Find | None, span: tuple[int, int], status_code: int, headers: Mapping[str, str]
) -> Response:
    start, stop = span
    if find is not None:
        return ExtentsResponse(read, find, start, stop, status_code, headers)
    return PartsResponse(read(start, stop), stop - start, status_code, headers)


def _check_conditions(request: Request, etag: str, headers: Mapping[str, str]) -> None:
    match, none_match = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if match is not None and not _names(match, etag):
        raise refusal(412, "the file has another ETag")
    if none_match is not None and _names(none_match, etag):
        error = refusal(304, "not modified")
        error.headers = dict(headers)
        raise error


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return header.strip() == "*" or etag in tags


def _ranges_of(
    request: Request, size_bytes: int, etag: str, headers: Mapping[str, str]
) -> list[tuple[int, int]] | None:
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != f'"{etag}"':
        return None
    try:
        return parse_ranges(request.headers.get("range"), size_bytes)
    except BadRangeError as bad:
        error = refusal(416, str(bad))
        error.headers = {"ETag": headers["ETag"], "Content-Range": f"bytes */{size_bytes}"}
        raise error from None


def _multipart(
    read: Read, ranges: Sequence[tuple[int, int]], size_bytes: int, headers: Mapping[str, str]
) -> PartsResponse:
    boundary = secrets.token_hex(16)
    heads, tail = multipart_heads(ranges, size_bytes, headers["Content-Type"], boundary)

    async def parts() -> AsyncIterator[Buffer]:
        for head, (start, stop) in zip(heads, ranges, strict=True):
            yield head
            async for part in read(start, stop):
                yield part
        yield tail

    length = sum(map(len, heads)) + len(tail) + sum(stop - start for start, stop in ranges)
    kind = {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
    return PartsResponse(parts(), length, 206, {**headers, **kind})
