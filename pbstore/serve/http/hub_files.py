"""The Hub's files: `/NAME/resolve/REVISION/PATH`, whole or in ranges."""

from collections.abc import Sequence
from functools import partial
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pbstore.manifest import FileEntry
from pbstore.serve.http.bodies import answer_bytes, common_headers
from pbstore.serve.http.context import Context, context_of, name_route
from pbstore.serve.http.errors import no_entry, refusal
from pbstore.serve.http.hub_shared import base_url, hashes_of, revision_of, target_of
from pbstore.serve.http.metrics import OTHER
from pbstore.serve.http.shortcut import ROUTE_NAME, note, version_of
from pbstore.serve.library import Revision
from pbstore.serve.wire.hub import FILE_VERBS, FileHashes, etag_of, quoted_path

_CONTENT_TYPE = "application/octet-stream"
"""Of every file: what is in one is nobody's web page."""


def routes(context: Context) -> Sequence[BaseRoute]:
    """Files of models; the pattern takes any path, so that it comes last.

    It takes any method, too: clients try newer protocols first, and go on with older ones after a 404.
    """
    return (Route("/{rest:path}", _resolve, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),)


async def _resolve(request: Request) -> Response:
    library = context_of(request).library
    version = version_of(library)
    name_route(request, OTHER)  # until it is known that the path means a file
    if request.method not in ("GET", "HEAD"):
        raise refusal(404, "there is nothing of this kind here")
    target = await target_of(request, 0, FILE_VERBS)
    name_route(request, ROUTE_NAME)
    if not target.rest:
        raise refusal(404, "there is nothing at this path")
    revision = await revision_of(request, target.name, target.rest[0])
    path = "/".join(target.rest[1:])
    file = revision.by_path.get(path)
    if file is None:
        raise no_entry(target.name, path, revision.commit)
    context = context_of(request)
    (hashes,) = await hashes_of(context, revision, (file,))
    headers = _headers(base_url(request), revision, file, hashes)
    read, find = partial(library.read, file), partial(library.extents, file)
    etag = etag_of(file, hashes)
    note(library, request.scope, revision.name, file, common_headers(etag, headers), version)
    return answer_bytes(request, read, file.size_bytes, etag, headers, find)


def _headers(base: str, revision: Revision, file: FileEntry, hashes: FileHashes) -> dict[str, str]:
    leaf = quote(file.path.rpartition("/")[2], safe="")
    headers = {
        "Content-Type": _CONTENT_TYPE,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"inline; filename*=UTF-8''{leaf}",
        "X-Repo-Commit": revision.commit,
    }
    if not hashes.git_sha1:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size_bytes)}
    if hashes.xet:
        token = f"{base}/api/models/{quoted_path(revision.name)}/xet-read-token/{revision.commit}"
        about = f"{base}/v1/reconstructions/{hashes.xet}"
        links = f'<{token}>; rel="xet-auth", <{about}>; rel="xet-reconstruction-info"'
        headers |= {"X-Xet-Hash": hashes.xet, "Link": links}
    return headers
