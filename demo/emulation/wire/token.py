"""The token of a run: who asks a role anything must have it. Programs that load models need none.

It is drawn for each run and stands in the environment of all its processes, which other users of
the machine cannot read. One that was set before the start is kept: for whoever has to ask roles, too.
"""

import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "PBCAST_EDGE_TOKEN"
_LEAST_LETTERS = 16
_SCHEME = "Bearer "


class TokenError(ValueError):
    """A token that could be guessed."""


@contextmanager
def run_token() -> Iterator[str]:
    """A token for a run, in the environment while the context lasts.

    Raises:
        TokenError: If one was set that is too short.
    """
    before = os.environ.get(VARIABLE)
    if before is not None and len(before) < _LEAST_LETTERS:
        raise TokenError(f"{VARIABLE} must have at least {_LEAST_LETTERS} letters, got {len(before)}")
    token = os.environ[VARIABLE] = before or secrets.token_hex(32)
    try:
        yield token
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)


def take(token: str) -> None:
    """Be a process of the run that has this token."""
    os.environ[VARIABLE] = token


def mine() -> str:
    """The token of the run that this process is of; empty: of none, and then no question is answered."""
    return os.environ.get(VARIABLE, "")


def header(token: str) -> dict[str, str]:
    """How a question carries it."""
    return {"authorization": _SCHEME + token} if token else {}


def is_right(token: str, told: str | None) -> bool:
    """Whether a question's header carries the token; it takes the same time however much of it is right."""
    expected, came = (_SCHEME + token).encode(), (told or "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(expected, came) and bool(token)
