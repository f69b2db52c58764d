"""All roles in this process, each behind a server of its own on the loopback."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from demo.emulation.runtime.addresses import LOOPBACK
from demo.emulation.runtime.base import port_of
from demo.emulation.runtime.heap import few_arenas
from demo.emulation.wire.ask import Wire
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.run import App, serving

_TELLING = ("uvicorn.error", "pbstore.serve.http.connection")


class Role(Protocol):
    """What can be served."""

    app: App

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(slots=True)
class _Running:
    role: Role
    stack: ExitStack


class ThreadRuntime:
    """Runs roles in threads.

    Args:
        make: Makes a role by its name; told whether it comes back to its disk.
        host: Address that roles listen at.
    """

    def __init__(self, make: Callable[[str, bool], Role], host: str = LOOPBACK) -> None:
        few_arenas()
        self.host = host
        self._make = make
        self._running: dict[str, _Running] = {}
        self._ports: dict[str, int] = {}
        """A role that starts again is where it was."""

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        role, stack = self._make(place, comes_back), ExitStack()
        stack.callback(role.close)
        port = self._ports.get(place, 0)
        limits = GuardSettings(grace_s=1.0)
        url = stack.enter_context(serving(role.app, self.host, port, limits=limits))
        self._ports[place] = port_of(url)
        self._running[place] = _Running(role, stack)
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        running = self._running.pop(place, None)
        for name in _TELLING:  # what is cut off in the middle is no fault of the server's
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if running is not None:
            wire = getattr(running.role, "wire", None)
            if isinstance(wire, Wire):  # what it is doing just now reaches nobody any more
                wire.cut = True
            running.stack.close()

    def close(self) -> None:
        """See `Runtime`."""
        for place in list(self._running)[::-1]:
            self.kill(place)
