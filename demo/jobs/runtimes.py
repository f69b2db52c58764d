"""The runtime that a live edge is to run in, with what makes its roles."""

import socket
from typing import Protocol

from demo.emulation.runtime.base import ORIGIN, Runtime
from demo.emulation.runtime.processes import ProcessRuntime
from demo.emulation.runtime.threads import ThreadRuntime
from demo.jobs.stage import ProcessRoles, Stage, ThreadRoles
from pbstore import DiskBlockStore

PRELOAD = (
    "demo.jobs.stage",
    "policy.schemes",
    "pbstore.serve.run",
    "pbstore.codecs",
    "raptorq",
    "scipy.optimize",
)
"""What every process needs: imported once."""


class _Roles(Protocol):
    origin_url: str


def runtime_of(stage: Stage, store: DiskBlockStore) -> Runtime:
    """What starts the roles of a run.

    Args:
        stage: What they are made of.
        store: The origin's store; in other processes it is opened again, to read.
    """
    if stage.config.runtime == "threads":
        roles = ThreadRoles(stage, store)
        return OriginFirst(ThreadRuntime(roles), roles)
    spread = ProcessRoles(stage, store.path, _free_port())
    return OriginFirst(ProcessRuntime(spread, PRELOAD), spread)


class OriginFirst:
    """Tells those that make roles where the origin is, as soon as that is known."""

    def __init__(self, inner: Runtime, roles: _Roles) -> None:
        self._inner, self._roles = inner, roles

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        url = self._inner.start(place, comes_back=comes_back)
        if place == ORIGIN:
            self._roles.origin_url = url
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        self._inner.kill(place)

    def close(self) -> None:
        """See `Runtime`."""
        self._inner.close()


def _free_port() -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
