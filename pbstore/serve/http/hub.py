"""The Hub's read protocol, as `huggingface_hub` 2.4 speaks it: models, their trees, and who asks."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pbstore.errors import PBStoreError
from pbstore.manifest import FileEntry
from pbstore.serve.http.context import Answer, Context, context_of, name_route
from pbstore.serve.http.errors import no_entry, refusal
from pbstore.serve.http.guard_access import Access, Rule
from pbstore.serve.http.hub_shared import MAIN, base_url, hashes_of, revision_of, target_of
from pbstore.serve.http.xet import READ, token_response
from pbstore.serve.library import Revision
from pbstore.serve.wire.hub import (
    VERBS,
    Document,
    Target,
    expanded,
    file_document,
    folder_document,
    iso,
    listing,
    model_document,
    sibling_document,
)

RULES = (Rule(("POST",), "/api/models/.*/paths-info/.*", Access.READ),)
"""For the guard: a question that is too long for an address."""
MOST_PATHS = 1000
"""Paths in one question."""
_LARGEST_FORM = 4 << 20


def routes(context: Context) -> Sequence[BaseRoute]:
    """What lies under `/api/`."""
    return (
        Route("/api/whoami-v2", _whoami, methods=["GET"]),
        Route("/api/models", _models, methods=["GET"]),
        Route("/api/models/{rest:path}", _model, methods=["GET", "POST"]),
    )


async def _whoami(request: Request) -> JSONResponse:
    name_route(request, "hub.whoami")
    access = {"displayName": "pbcast", "role": "read"}
    return JSONResponse(
        {
            "type": "user",
            "id": "pbcast",
            "name": "pbcast",
            "fullname": "pbcast",
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": access},
        }
    )


async def _models(request: Request) -> JSONResponse:
    """Models by name, in pages."""
    name_route(request, "hub.models")
    library, asked = context_of(request).library, request.query_params
    author, search = asked.get("author"), asked.get("search", "").lower()
    names = [
        name
        for name in await library.names()
        if search in name.lower() and (author is None or name.startswith(f"{author}/"))
    ]
    page, links = _page(request, names, lambda name: name)
    documents = []
    for name in page:
        try:
            revision = await library.revision(name)
        except PBStoreError:  # removed meanwhile, or damaged
            continue
        documents.append(model_document(name, revision.commit, revision.added_at, (), {}))
    return JSONResponse(documents, headers=links)


async def _model(request: Request) -> Response:
    target = await target_of(request, 2, VERBS)
    asked = (request.method.replace("HEAD", "GET"), target.verb)
    answer = _ANSWERS.get(asked) or context_of(request).answers.get(asked)
    if answer is None:
        raise refusal(404, f"there is no {request.method} {target.verb!r} of a model here")
    name_route(request, f"hub.{target.verb or 'model'}")
    return await answer(request, target)


async def _info(request: Request, target: Target) -> JSONResponse:
    """`model_info`, `repo_info`."""
    revision = await revision_of(request, target.name, "/".join(target.rest) or MAIN)
    files = revision.manifest.files
    siblings = [sibling_document(file, None) for file in files]
    if request.query_params.get("blobs", "").lower() in ("true", "1"):
        hashes = await hashes_of(context_of(request), revision, files)
        siblings = [sibling_document(file, own) for file, own in zip(files, hashes, strict=True)]
    extra: Document = {"usedStorage": revision.manifest.raw_bytes}
    if revision.manifest.base is not None:
        extra["baseModels"] = {"relation": "finetune", "models": [{"id": revision.manifest.base.name}]}
    document = model_document(target.name, revision.commit, revision.added_at, siblings, extra)
    return JSONResponse(document, headers={"X-Repo-Commit": revision.commit})


async def _tree(request: Request, target: Target) -> JSONResponse:
    """`list_repo_tree`: files and folders in one order, in pages."""
    if not target.rest:
        raise refusal(404, "a tree is that of a revision: .../tree/main")
    revision = await revision_of(request, target.name, target.rest[0])
    folder = "/".join(target.rest[1:])
    entries = listing(revision.by_path, folder, _is_true(request, "recursive"))
    if folder and not entries:
        raise no_entry(target.name, folder, revision.commit)
    page, links = _page(request, entries, lambda entry: entry[0])
    wanted = [path for path, is_folder in page if not is_folder]
    documents = await _documents(request, revision, wanted)
    for path, is_folder in page:
        if is_folder:
            documents[path] = folder_document(path, revision.commit)
    shown = [documents[path] for path, _ in page]
    if _is_true(request, "expand"):
        shown = [expanded(document, revision.commit, revision.added_at) for document in shown]
    return JSONResponse(shown, headers={**links, "X-Repo-Commit": revision.commit})


async def _documents(request: Request, revision: Revision, paths: Sequence[str]) -> dict[str, Document]:
    files: list[FileEntry] = [revision.by_path[path] for path in paths]
    hashes = await hashes_of(context_of(request), revision, files)
    return {file.path: file_document(file, own) for file, own in zip(files, hashes, strict=True)}


async def _paths_info(request: Request, target: Target) -> JSONResponse:
    """`get_paths_info`: those of some paths that are there; the client sends a form."""
    revision = await revision_of(request, target.name, "/".join(target.rest) or MAIN)
    asked = await _form(request)
    folders = {path for path, is_folder in listing(revision.by_path, "", True) if is_folder}
    paths = [path.strip("/") for path in asked.get("paths", [])]
    documents = await _documents(request, revision, [path for path in paths if path in revision.by_path])
    documents |= {path: folder_document(path, revision.commit) for path in paths if path in folders}
    shown = [documents[path] for path in dict.fromkeys(paths) if path in documents]
    if asked.get("expand", ["false"])[0].lower() == "true":
        shown = [expanded(document, revision.commit, revision.added_at) for document in shown]
    return JSONResponse(shown, headers={"X-Repo-Commit": revision.commit})


async def _form(request: Request) -> dict[str, list[str]]:
    """Fields of a form or of a JSON object; each a list."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise refusal(413, f"expected at most {_LARGEST_FORM} bytes")
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = _json_fields(bytes(body))
        else:
            asked = parse_qs(body.decode(), max_num_fields=MOST_PATHS + 8, keep_blank_values=True)
    except ValueError as error:
        raise refusal(400, f"expected a form with paths: {error}") from None
    if len(asked.get("paths", [])) > MOST_PATHS:
        raise refusal(400, f"expected at most {MOST_PATHS} paths")
    return asked


def _json_fields(body: bytes) -> dict[str, list[str]]:
    tree = json.loads(body)
    if not isinstance(tree, dict):
        raise ValueError("expected an object")
    return {
        key: [str(one) for one in (value if isinstance(value, list) else [value])]
        for key, value in tree.items()
    }


async def _refs(request: Request, target: Target) -> JSONResponse:
    """`list_repo_refs`."""
    revision = await revision_of(request, target.name)
    history = await context_of(request).library.history(target.name)
    branch = {"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": revision.commit}
    tags = [
        {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
        for tag, commit in sorted(history.tags.items())
    ]
    return JSONResponse({"branches": [branch], "converts": [], "tags": tags, "pullRequests": []})


async def _commits(request: Request, target: Target) -> JSONResponse:
    """`list_repo_commits`: from a revision back, as far as the store remembers."""
    revision = await revision_of(request, target.name, "/".join(target.rest) or MAIN)
    history = await context_of(request).library.history(target.name)
    ids = [commit for commit, _ in history.commits]
    start = ids.index(revision.commit) if revision.commit in ids else 0
    commits: list[Document] = [
        {
            "id": commit,
            "title": "Add the model" if place == len(ids) - 1 else "Change the model",
            "message": "",
            "date": iso(added_at),
            "authors": [],
        }
        for place, (commit, added_at) in enumerate(history.commits)
        if place >= start
    ]
    return JSONResponse(commits, headers={"X-Total-Count": str(len(commits))})


async def _read_token(request: Request, target: Target) -> JSONResponse:
    """A token for the Xet protocol."""
    await revision_of(request, target.name, "/".join(target.rest) or MAIN)
    return token_response(request, READ)


def _page(
    request: Request, items: Sequence[Any], key: Callable[[Any], str]
) -> tuple[list[Any], dict[str, str]]:
    """One page of sorted items behind a cursor, and the link to the next, if there is one."""
    after = request.query_params.get("cursor", "")
    most = context_of(request).settings.page_entries
    limit = request.query_params.get("limit", "")
    most = min(most, max(int(limit), 1)) if limit.isdecimal() and len(limit) < 9 else most
    left = [item for item in items if key(item) > after]
    page = list(left[:most])
    if len(left) <= most:
        return page, {}
    query = [(field, value) for field, value in request.query_params.multi_items() if field != "cursor"]
    following = urlencode([*query, ("cursor", key(page[-1]))])
    path = (request.scope.get("raw_path") or request.url.path.encode()).decode("ascii", "replace")
    return page, {"Link": f'<{base_url(request)}{path}?{following}>; rel="next"'}


def _is_true(request: Request, field: str) -> bool:
    return request.query_params.get(field, "").lower() in ("true", "1")


_ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", ""): _info,
    ("GET", "revision"): _info,
    ("GET", "tree"): _tree,
    ("GET", "refs"): _refs,
    ("GET", "commits"): _commits,
    ("GET", "xet-read-token"): _read_token,
    ("POST", "paths-info"): _paths_info,
}
