"""Who may do what: bearer tokens, access tokens of this node, and signed URLs."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

from starlette.types import ASGIApp, Receive, Scope, Send

from pbstore.serve.http.guard_tokens import TokenFile
from pbstore.serve.wire.signed import SignatureError, Signer


class Access(Enum):
    """What a route asks of a request."""

    OPEN = "open"
    """Nothing."""
    READ = "read"
    """Any token."""
    WRITE = "write"
    """A token that may write."""
    SIGNED = "signed"
    """A URL that this node signed, or any token."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests of some methods to paths of a form need; the first rule that fits counts."""

    methods: tuple[str, ...]
    path: str
    """Regular expression of the whole path."""
    access: Access

    def fits(self, method: str, path: str) -> bool:
        """Whether it is about a request."""
        return method in self.methods and _compiled(self.path).fullmatch(path) is not None


@cache
def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(path, re.DOTALL)


OPEN_RULES = (Rule(("GET", "HEAD"), "/healthz", Access.OPEN),)
_READING = ("GET", "HEAD", "OPTIONS")


class AccessGuard:
    """ASGI middleware that refuses what a request may not do, before anything of it is looked at.

    Args:
        app: What is guarded.
        tokens: Who may ask; None for everybody.
        anyone: Role of everybody where there are no tokens; web pages may not write even then.
        signer: Checks signed URLs, and access tokens that this node handed out.
        rules: Exceptions of the law that reading needs a token, and all else one that may write.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: TokenFile | None,
        signer: Signer,
        anyone: str = "write",
        rules: Sequence[Rule] = (),
    ) -> None:
        self._app, self._tokens, self._signer, self._anyone = app, tokens, signer, anyone
        self._rules = (*OPEN_RULES, *rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `AccessGuard`."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await refuse(send, *refusal)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason if the request is refused."""
        access = self._access(scope["method"], scope["path"])
        header = _only(scope, b"authorization")
        if access is Access.OPEN:
            return None
        if access is Access.SIGNED and (header is None or self._tokens is None):
            return self._check_signature(scope)
        if self._tokens is None:
            return self._refusal_of_anyone(scope, access)
        role = self._role(scope, header)
        if role is None:
            return 401, "expected an Authorization: Bearer token that this node knows"
        if access is Access.WRITE and role != "write":
            return 403, "this token may read only"
        return None

    def _refusal_of_anyone(self, scope: Scope, access: Access) -> tuple[int, str] | None:
        if access is not Access.WRITE:
            return None
        if self._anyone != "write":
            return 403, "this node takes nothing from those it does not know: start it with tokens"
        if any(
            name == b"origin" for name, _ in scope["headers"]
        ):  # a browser sends it for other sites' pages
            return 403, "this node takes nothing from web pages: start it with tokens"
        return None

    def _access(self, method: str, path: str) -> Access:
        for rule in self._rules:
            if rule.fits(method, path):
                return rule.access
        return Access.READ if method in _READING else Access.WRITE

    def _check_signature(self, scope: Scope) -> tuple[int, str] | None:
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        try:
            self._signer.check(scope["method"], path, query, _only(scope, b"range"), time.time())
        except SignatureError as error:
            return 403, str(error)
        return None

    def _role(self, scope: Scope, header: str | None) -> str | None:
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        bearer = self._tokens.bearer(token.strip()) if self._tokens is not None else None
        if bearer is not None:
            scope["pbcast.who"] = bearer.name
            return bearer.role
        try:
            return self._signer.grant(token.strip(), time.time()).role
        except SignatureError:
            return None


async def refuse(send: Send, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with a reason in one line, as JSON and as Hub clients show it."""
    body = json.dumps({"error": reason}).encode()
    about = [(b"www-authenticate", b"Bearer")] if status == 401 else []
    start = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines = [*start, (b"x-error-message", reason.encode("latin-1", "replace")), *about, *headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def _only(scope: Scope, name: bytes) -> str | None:
    """A header that came once; None if it did not come, and an empty text if it came twice."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        return ""
    return values[0].decode("latin-1") if values else None
