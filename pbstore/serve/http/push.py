"""Pushing with the Hub's client: a repository, a question which files are large, chunks by Xet, a commit."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pbstore.errors import CapacityError, ModelMissingError
from pbstore.pool import Pool
from pbstore.serve.http.context import Context, RouteGroup, context_of, name_route
from pbstore.serve.http.errors import refusal
from pbstore.serve.http.guard_access import Access, Rule
from pbstore.serve.http.guard_limits import BODY_LIMIT
from pbstore.serve.http.hub_shared import MAIN, base_url, hashes_of
from pbstore.serve.http.xet import READ, WRITE, require_role, token_response
from pbstore.serve.library.library import commit_of_manifest
from pbstore.serve.push import Intake, Refused
from pbstore.serve.wire.hub import Target, is_plain, quoted_path
from pbstore.serve.wire.xet import from_hex
from pbstore.serve.wire.xet_upload import MAX_SHARD_BYTES, MAX_UPLOAD_BYTES, UploadError

RULES = (Rule(("GET", "HEAD"), "/api/models/.*/xet-write-token/.*", Access.WRITE),)
"""For the guard: who may not write gets no token to write."""
_MOST_COMMIT_BYTES = 64 << 20
_AT_A_TIME = 2
"""Xorbs that are taken apart at a time: each needs twice 64 MiB."""
P = ParamSpec("P")
R = TypeVar("R")


def push_routes(intake: Intake) -> RouteGroup:
    """The route group that takes pushes, for `create_app(groups=...)`."""
    return _Push(intake).routes


class _Push:
    """The routes, and what they share."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._pool = Pool(_AT_A_TIME, "serve-push")

    def routes(self, context: Context) -> Sequence[BaseRoute]:
        """Routes of their own, and answers to questions about a model."""
        context.answers |= {
            ("POST", "preupload"): self._preupload,
            ("POST", "commit"): self._commit,
            ("GET", "xet-write-token"): self._write_token,
        }
        return (
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route("/api/validate-yaml", self._validate, methods=["POST"]),
            Route("/v1/xorbs/default/{digest}", self._xorb, methods=["POST"]),
            Route("/v1/shards", self._shard, methods=["POST"]),
            Route("/v1/chunks/{prefix}/{digest}", self._chunk, methods=["GET"]),
        )

    async def _create(self, request: Request) -> JSONResponse:
        """A repository is there when a commit has made a model: until then its name is as free as before."""
        name_route(request, "hub.create")
        asked = _object(await _body(request, 1 << 20))
        kind, owner, leaf = (str(asked.get(key) or "") for key in ("type", "organization", "name"))
        if kind not in ("", "model"):
            raise refusal(400, f"expected a model, got a {kind[:40]}")
        name = f"{owner}/{leaf}" if owner else leaf
        url = f"{base_url(request)}/{quoted_path(name)}"
        known = name in await context_of(request).library.names()
        return JSONResponse({"url": url, "name": name}, 409 if known else 200)

    async def _validate(self, request: Request) -> JSONResponse:
        """What stands in a model card is its author's matter."""
        name_route(request, "hub.validate")
        await _body(request, 16 << 20)
        return JSONResponse({"errors": [], "warnings": []})

    async def _preupload(self, request: Request, target: Target) -> JSONResponse:
        """Which files come in the commit itself, and which by Xet; and what the model has already."""
        _check_branch(target)
        files = _object(await _body(request, 16 << 20)).get("files")
        if not isinstance(files, list):
            raise refusal(400, "expected a list of files")
        known = await _oids(request, target.name, [str(_field(file, "path")) for file in files])
        settings = context_of(request).settings
        answer = []
        for file in files:
            path, size = str(_field(file, "path")), _number(file, "size")
            mode = "regular" if is_plain(path, size, settings.plain_bytes) else "lfs"
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known.get(path)})
        return JSONResponse({"files": answer})

    async def _write_token(self, request: Request, target: Target) -> JSONResponse:
        """A token for pushing by Xet; the model may be one that is not there yet."""
        return token_response(request, WRITE)

    async def _xorb(self, request: Request) -> JSONResponse:
        """Chunks, each checked."""
        name_route(request, "xet.push_xorb")
        digest = _digest(request)
        require_role(request, (WRITE,))
        async with _received(request, self._intake.waiting(".part"), MAX_UPLOAD_BYTES) as path:
            new = await self._work(lambda: self._intake.put_xorb(digest, path.read_bytes()))
        return JSONResponse({"was_inserted": new})

    async def _shard(self, request: Request) -> JSONResponse:
        """How files are made of chunks."""
        name_route(request, "xet.push_shard")
        require_role(request, (WRITE,))
        body = await _body(request, MAX_SHARD_BYTES)
        await self._work(self._intake.put_shard, body)
        return JSONResponse({"result": 1})

    async def _chunk(self, request: Request) -> Response:
        """What is known of a chunk, so that a client need not send what is here."""
        name_route(request, "xet.chunk")
        require_role(request, (READ, WRITE))
        shard = await self._work(self._intake.dedup_shard, _digest(request))
        if shard is None:
            raise refusal(404, "no xorb with this chunk is known")
        return Response(shard, media_type="application/octet-stream")

    async def _commit(self, request: Request, target: Target) -> JSONResponse:
        """Make a model of what was pushed."""
        _check_branch(target)
        changes = _Changes(await _body(request, _MOST_COMMIT_BYTES))
        manifest = await self._work(
            self._intake.commit, target.name, changes.contents, changes.large, changes.deleted, changes.parent
        )
        commit = await run_in_threadpool(commit_of_manifest, manifest)
        url = f"{base_url(request)}/{quoted_path(target.name)}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    async def _work(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the intake in a thread; what it refuses is the client's to put right."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, partial(function, *args, **kwargs)
            )
        except CapacityError as error:
            raise refusal(507, str(error)) from None
        except (Refused, UploadError, ValueError) as error:
            raise refusal(400, str(error)) from None


class _Changes:
    """The lines of a commit."""

    def __init__(self, body: bytes) -> None:
        self.contents: dict[str, bytes] = {}
        self.large: dict[str, tuple[str, int]] = {}
        self.deleted: list[str] = []
        self.parent: str | None = None
        for line in body.splitlines():
            if line.strip():
                item = _object(line)
                self._take(str(item.get("key")), item.get("value"))

    def _take(self, key: str, value: object) -> None:
        if key == "header":
            parent = value.get("parentCommit") if isinstance(value, dict) else None
            self.parent = None if parent is None else str(parent)
        elif key == "file":
            try:
                content = base64.b64decode(str(_field(value, "content")), validate=True)
            except binascii.Error as error:
                raise refusal(400, f"expected content in base64: {error}") from None
            self.contents[str(_field(value, "path"))] = content
        elif key == "lfsFile":
            self.large[str(_field(value, "path"))] = (str(_field(value, "oid")), _number(value, "size"))
        elif key in ("deletedFile", "deletedFolder"):
            self.deleted.append(str(_field(value, "path")))
        else:
            raise refusal(400, f"expected files and deletions, got {key[:40]!r}")


async def _oids(request: Request, name: str, paths: Sequence[str]) -> dict[str, str]:
    """What the model has under some paths: the Git hash of plain files, the sha256 of others."""
    context = context_of(request)
    try:
        revision = await context.library.revision(name)
    except (ModelMissingError, ValueError):
        return {}
    files = [revision.by_path[path] for path in paths if path in revision.by_path]
    plain = [f for f in files if is_plain(f.path, f.size_bytes, context.settings.plain_bytes)]
    hashes = await hashes_of(context, revision, plain)
    known = {file.path: file.sha256 for file in files}
    return known | {file.path: own.git_sha1 for file, own in zip(plain, hashes, strict=True)}


def _check_branch(target: Target) -> None:
    if "/".join(target.rest) != MAIN:
        raise refusal(400, f"a model here has one branch, {MAIN}")


def _digest(request: Request) -> bytes:
    try:
        return from_hex(request.path_params["digest"])
    except ValueError as error:
        raise refusal(400, str(error)) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refusal(400, f"expected JSON: {str(error)[:120]}") from None
    if not isinstance(tree, dict):
        raise refusal(400, "expected a JSON object")
    return tree


def _field(value: object, name: str) -> Any:  # noqa: ANN401 - it is looked at by who asked
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str | int) or isinstance(found, bool):
        raise refusal(400, f"expected an object with {name!r}")
    return found


def _number(value: object, name: str) -> int:
    found = _field(value, name)
    if not isinstance(found, int) or not 0 <= found < 1 << 62:
        raise refusal(400, f"expected {name!r} to be a number of bytes")
    return found


async def _body(request: Request, most: int) -> bytes:
    request.scope[BODY_LIMIT] = most
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise refusal(413, f"expected at most {most} bytes")
    return bytes(body)


@asynccontextmanager
async def _received(request: Request, path: Path, most: int) -> AsyncIterator[Path]:
    """A body in a file, which goes at the end."""
    request.scope[BODY_LIMIT] = most
    try:
        received = 0
        with path.open("wb") as opened:
            async for part in request.stream():
                received += len(part)
                if received > most:
                    raise refusal(413, f"expected at most {most} bytes")
                await run_in_threadpool(opened.write, part)
        yield path
    finally:
        path.unlink(missing_ok=True)
