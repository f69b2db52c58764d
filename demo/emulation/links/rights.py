"""The right to make namespaces: had, or got by running the same command again as root of a user namespace."""

import os
import sys

from demo.emulation.links.namespaces import Namespace
from demo.emulation.links.rootless import command

_AGAIN = "PBCAST_ROOTLESS"
"""Set in the environment of a command that was run again."""


class LinksError(Exception):
    """Links cannot be shaped here."""

    exit_code = 1

    def __str__(self) -> str:
        return (
            f"shaped links need network namespaces ({self.args[0]}): use --links plain; see `pbcast doctor`"
        )


def ensure_namespaces() -> None:
    """Return if this process may make namespaces; else run its command again as one that may, in its place.

    Raises:
        LinksError: If that one may not, either.
    """
    try:
        Namespace().close()
    except OSError as error:
        if os.environ.get(_AGAIN):
            raise LinksError(error.strerror) from None
        again = command(*sys.orig_argv[1:])
        sys.stderr.flush()
        os.execve(again[0], again, {**os.environ, _AGAIN: "1"})
