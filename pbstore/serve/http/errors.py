"""Errors as clients of the Hub read them: a code, a header that says which, and one line."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pbstore.errors import (
    BlockMissingError,
    IntegrityError,
    ModelMissingError,
    ModelUnreachableError,
    PBStoreError,
    RevisionMissingError,
)
from pbstore.serve.http.context import context_of

log = logging.getLogger(__name__)
_LONGEST = 300
"""Characters of a message."""


def refusal(status: int, message: str, code: str = "", commit: str = "") -> HTTPException:
    """An error to be raised in a route.

    Args:
        status: HTTP status.
        message: One line for people.
        code: What clients tell errors apart by: RepoNotFound, RevisionNotFound, EntryNotFound.
        commit: Of the model, where one was found: clients remember that a file is not in it.
    """
    headers = {"X-Error-Code": code} if code else {}
    return HTTPException(status, message, headers | ({"X-Repo-Commit": commit} if commit else {}))


def no_model(name: str) -> HTTPException:
    """There is no such model."""
    return refusal(404, f"no model named {name!r} here", "RepoNotFound")


def no_entry(name: str, path: str, commit: str) -> HTTPException:
    """A model has no such file or folder."""
    return refusal(404, f"no {path!r} in {name!r}", "EntryNotFound", commit)


async def answer_refusal(request: Request, error: Exception) -> Response:
    """The answer to an error that a route raised on purpose."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    return _answer(error.status_code, str(error.detail), dict(error.headers or {}))


async def answer_failure(request: Request, error: Exception) -> Response:
    """The answer to an error about the state of the store."""
    if isinstance(error, RevisionMissingError):
        return _answer(404, str(error), {"X-Error-Code": "RevisionNotFound"})
    if isinstance(error, ModelUnreachableError):
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return _answer(503, str(error), {"Retry-After": "1"})
    if isinstance(error, ModelMissingError):
        return _answer(404, str(error), {"X-Error-Code": "RepoNotFound"})
    if isinstance(error, BlockMissingError):
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return _answer(503, str(error), {"Retry-After": "1"})
    if isinstance(error, IntegrityError):
        context_of(request).meter.integrity_failure("local")
    log.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(500, "the store cannot give this: its log says why", {})


def _answer(status: int, message: str, headers: dict[str, str]) -> Response:
    line = "".join(one if one.isprintable() else "?" for one in message)[:_LONGEST]
    shown = {"X-Error-Message": line.encode("ascii", "replace").decode()} if status < 500 else {}
    return JSONResponse({"error": line}, status, headers | shown)


HANDLERS = {HTTPException: answer_refusal, PBStoreError: answer_failure}
"""For `Starlette(exception_handlers=...)`."""
