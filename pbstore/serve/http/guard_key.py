"""The key that nodes share so that each honours what the others have signed: a file, a key a line."""

import os
import stat
from pathlib import Path

from pbstore.errors import PBStoreError
from pbstore.serve.wire.signed import KEY_BYTES, Signer

_MOST_BYTES = 1 << 16


class KeyFileError(PBStoreError):
    """A file of keys cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def signer_of(path: Path) -> Signer:
    """A signer by the keys of a file: the first line signs, all check.

    Raises:
        KeyFileError: If others may read it, or a line is shorter than a key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeyFileError(str(path), str(error.strerror)) from None
    if status.st_mode & 0o077:
        raise KeyFileError(
            str(path), f"others may use it (mode {stat.S_IMODE(status.st_mode):o}): chmod 600 it"
        )
    keys = [line.strip() for line in data.splitlines() if line.strip()]
    if len(data) > _MOST_BYTES or not keys or min(map(len, keys)) < KEY_BYTES:
        wanted = f"a line of at least {KEY_BYTES} random characters"
        raise KeyFileError(str(path), f"expected {wanted}: head -c 32 /dev/urandom | base64")
    return Signer(*keys)
