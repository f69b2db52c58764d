"""`GET /openapi.json`: all routes in the form of OpenAPI 3.1, for tools; tests keep it true."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from pbstore.serve.http.context import Context, name_route
from pbstore.serve.http.xet import XORBS
from pbstore.serve.wire.blocks import PREFIX

OCTETS = "application/octet-stream"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
_MODEL = "/api/models/{owner}/{model}"
_CONDITIONS = ("Range", "If-Match", "If-None-Match", "If-Range")


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as clients see it."""

    method: str
    path: str
    route: str
    """Its name in log and metrics."""
    summary: str
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: str | None = None
    """Content type of its body."""
    is_push: bool = False
    """Whether it is there only where others may put something."""


OPERATIONS: tuple[Operation, ...] = (
    Operation("get", "/healthz", "healthz", "Whether the server is there."),
    Operation("get", "/metrics", "metrics", "Counters for Prometheus."),
    Operation("get", "/openapi.json", "openapi", "This page."),
    Operation("get", "/api/whoami-v2", "hub.whoami", "Who asks."),
    Operation("get", "/api/models", "hub.models", "Models.", ("author", "search", "limit", "cursor")),
    Operation("get", _MODEL, "hub.model", "A model.", ("blobs",)),
    Operation("get", f"{_MODEL}/revision/{{revision}}", "hub.revision", "A model in a revision.", ("blobs",)),
    Operation(
        "get",
        f"{_MODEL}/tree/{{revision}}/{{path}}",
        "hub.tree",
        "Files of a folder.",
        ("recursive", "expand", "limit", "cursor"),
    ),
    Operation("get", f"{_MODEL}/refs", "hub.refs", "Branches."),
    Operation("get", f"{_MODEL}/commits/{{revision}}", "hub.commits", "Commits."),
    Operation(
        "get", f"{_MODEL}/xet-read-token/{{revision}}", "hub.xet-read-token", "A token to read by Xet."
    ),
    Operation("post", f"{_MODEL}/paths-info/{{revision}}", "hub.paths-info", "Some files.", body=FORM),
    Operation(
        "post",
        f"{_MODEL}/preupload/{{revision}}",
        "hub.preupload",
        "How to push files.",
        body=JSON,
        is_push=True,
    ),
    Operation(
        "post",
        f"{_MODEL}/commit/{{revision}}",
        "hub.commit",
        "Make a model of what was pushed.",
        body="application/x-ndjson",
        is_push=True,
    ),
    Operation(
        "get",
        f"{_MODEL}/xet-write-token/{{revision}}",
        "hub.xet-write-token",
        "A token to push by Xet.",
        is_push=True,
    ),
    Operation("post", "/api/repos/create", "hub.create", "Whether a name is free.", body=JSON, is_push=True),
    Operation("post", "/api/validate-yaml", "hub.validate", "A model card.", body=JSON, is_push=True),
    Operation("post", "/v1/xorbs/default/{digest}", "xet.push_xorb", "Chunks.", body=OCTETS, is_push=True),
    Operation("post", "/v1/shards", "xet.push_shard", "Files made of chunks.", body=OCTETS, is_push=True),
    Operation("get", "/v1/chunks/{prefix}/{digest}", "xet.chunk", "What is known of a chunk.", is_push=True),
    Operation(
        "get",
        "/v2/reconstructions/{file_id}",
        "xet.reconstruction_v2",
        "How a file is made.",
        headers=("Range",),
    ),
    Operation(
        "get",
        "/v1/reconstructions/{file_id}",
        "xet.reconstruction_v1",
        "How a file is made.",
        headers=("Range",),
    ),
    Operation(
        "get",
        f"{XORBS}/{{block_id}}",
        "xet.xorb",
        "A block, framed, by a signed address.",
        ("expires", "bytes", "signature"),
        ("Range",),
    ),
    Operation("get", f"{PREFIX}/node", "node", "Who this node is."),
    Operation("get", f"{PREFIX}/models", "models", "Names of models."),
    Operation("get", f"{PREFIX}/manifests/{{owner}}/{{model}}", "manifest", "A manifest.", ("fetch",)),
    Operation(
        "get",
        f"{PREFIX}/hashes/{{owner}}/{{model}}",
        "hashes",
        "Hashes of a file.",
        ("path", "commit", "fetch"),
    ),
    Operation("post", f"{PREFIX}/which", "which", "Which blocks are here.", body=OCTETS),
    Operation("post", f"{PREFIX}/blocks", "blocks", "Blocks, coded or raw.", ("fetch", "raw"), body=OCTETS),
    Operation("put", f"{PREFIX}/blocks", "blocks", "Take blocks.", body=OCTETS, is_push=True),
    Operation(
        "put", f"{PREFIX}/manifests/{{owner}}/{{model}}", "manifest", "File a model.", body=JSON, is_push=True
    ),
    Operation(
        "get", "/{owner}/{model}/resolve/{revision}/{path}", "hub.resolve", "A file.", headers=_CONDITIONS
    ),
)
"""Every route of a server that takes pushes."""


def document(with_push: bool = True) -> dict[str, Any]:
    """The page."""
    paths: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(OPERATIONS):
        if with_push or not one.is_push:
            paths.setdefault(one.path, {})[one.method] = _described(one, f"{one.route}-{one.method}-{number}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "pbcast", "version": "1", "description": "A store of models over HTTP."},
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _described(one: Operation, name: str) -> dict[str, Any]:
    places = [("path", re.findall(r"{(\w+)}", one.path)), ("query", one.query), ("header", one.headers)]
    parameters = [
        {"name": field, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for place, fields in places
        for field in fields
    ]
    found: dict[str, Any] = {
        "operationId": name,
        "summary": one.summary,
        "parameters": parameters,
        "responses": {"default": {"description": "An answer, or what was wrong in one line."}},
        "security": [{"bearer": []}],
    }
    if one.body is not None:
        schema = {} if one.body == OCTETS else {"type": "object"}
        found["requestBody"] = {"content": {one.body: {"schema": schema}}}
    return found


def routes(context: Context) -> Sequence[BaseRoute]:
    """`GET /openapi.json`."""
    return (Route("/openapi.json", _page, methods=["GET"]),)


async def _page(request: Request) -> JSONResponse:
    name_route(request, "openapi")
    return JSONResponse(document())
