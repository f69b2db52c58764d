"""Bearer tokens: a file of their hashes with roles, checked in constant time.

One line a token: `read` or `write`, the SHA-256 of the token in hex, and a name for the log. What is in the
file opens nothing, yet nobody else may write to it, or read the names in it.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROLES = ("read", "write")
"""What a token may do; who may write may read."""
TOKEN_BYTES = 32
"""Random bytes of a token: its hash cannot be searched for, so that one round of SHA-256 is enough."""
MOST_TOKENS = 10_000
_MOST_BYTES = 1 << 20
_LOOK_AGAIN_S = 1.0
_LINE = re.compile(r"(?P<role>\w+)\s+(?P<digest>[0-9a-f]{64})(?:\s+(?P<name>[\w.@+-]{1,64}))?")
log = logging.getLogger(__name__)


class TokensError(ValueError):
    """The file of tokens cannot be used."""

    exit_code = 1

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"tokens in {self.path}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who sent a token, and what it may do."""

    role: str
    name: str
    """For the log."""


class TokenFile:
    """The tokens of a file; it is read again when it has changed.

    A changed file that cannot be used is reported in the log, and the tokens before stay good.

    Args:
        path: The file.

    Raises:
        TokensError: If it is no regular file of ours that only we may read, or has a line that is no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._looked_at = time.monotonic()
        self._identity, self._tokens = _read(path)

    def bearer(self, token: str) -> Bearer | None:
        """Who sent a token, None if it is none of the file's; each is compared, in constant time."""
        self._reread()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for known, bearer in self._tokens:
            if hmac.compare_digest(known, digest):
                found = bearer
        return found

    def state(self) -> object:
        """Which tokens are good: the same object as long as they are the same."""
        self._reread()
        return self._tokens

    def _reread(self) -> None:
        with self._mutex:
            now = time.monotonic()
            if now - self._looked_at < _LOOK_AGAIN_S:
                return
            self._looked_at = now
            try:
                if _identity(self._path.stat()) != self._identity:
                    self._identity, self._tokens = _read(self._path)
            except (OSError, TokensError) as error:
                log.error("%s; the tokens of before stay good", error)


def new_token(role: str, name: str) -> tuple[str, str]:
    """A token and the line for the file.

    Raises:
        ValueError: If the role or the name cannot stand in the file.
    """
    token = f"pbc_{secrets.token_urlsafe(TOKEN_BYTES)}"
    line = f"{role} {hashlib.sha256(token.encode()).hexdigest()} {name}"
    if role not in ROLES or not _LINE.fullmatch(line):
        raise ValueError(
            f"expected a role of {ROLES} and a name of letters, digits and ._@+-, got {role!r}, {name!r}"
        )
    return token, line


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> tuple[tuple[int, int, int], tuple[tuple[str, Bearer], ...]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TokensError(str(path), str(error.strerror)) from None
    try:
        status = os.fstat(fd)
        _refuse_open_file(path, status)
        return _identity(status), _parse(path, os.read(fd, _MOST_BYTES))
    finally:
        os.close(fd)


def _refuse_open_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise TokensError(str(path), "expected a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise TokensError(str(path), f"others may use it (mode {mode:o}): chmod 600 it")
    if status.st_uid not in (os.geteuid(), 0):
        raise TokensError(str(path), f"it belongs to user {status.st_uid}, expected the server's own or root")
    if status.st_size > _MOST_BYTES:
        raise TokensError(str(path), "expected at most 1 MiB")


def _parse(path: Path, data: bytes) -> tuple[tuple[str, Bearer], ...]:
    tokens = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None or match["role"] not in ROLES:
            raise TokensError(str(path), f"line {number}: expected `read|write SHA256-OF-THE-TOKEN NAME`")
        tokens.append((match["digest"], Bearer(match["role"], match["name"] or f"line-{number}")))
    if not tokens or len(tokens) > MOST_TOKENS:
        raise TokensError(str(path), f"expected 1 to {MOST_TOKENS} tokens, found {len(tokens)}")
    return tuple(tokens)
