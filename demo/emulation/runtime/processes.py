"""Each role in a process of its own, forked from one that has imported everything once."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from demo.emulation.links import enter
from demo.emulation.runtime import no_main
from demo.emulation.runtime.addresses import LOOPBACK
from demo.emulation.runtime.base import port_of
from demo.emulation.runtime.heap import few_arenas
from demo.emulation.runtime.threads import Role
from pbstore.serve.run import serve

log = logging.getLogger(__name__)
START_S = 300.0
"""How long a role may take to answer, s: before the first, kernels may have to be compiled."""
MakeRole = Callable[[str, bool], Role]
_STARTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a role sits."""

    host: str = LOOPBACK
    """Address that it serves at."""
    namespace: str = ""
    """Path of the network namespace that its process enters; empty: the one it starts in."""


class ProcessError(Exception):
    """A role's process does not start."""

    exit_code = 1


def get_ready(preload: Sequence[str]) -> None:
    """Start the process that roles are forked from, unless it runs; it goes on importing meanwhile.

    It imports, once, what roles need, and starts no thread: a role is forked in milliseconds, and shares the
    memory of all that. It ends with this process.

    Args:
        preload: Names of modules; what cannot be imported there is left to the roles.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([no_main.__name__, __name__, *preload])
    path = os.pathsep.join(filter(None, sys.path))
    told = {"PYTHONPATH": path, no_main.VARIABLE: no_main.main_file()}
    with _STARTING, _environment(told):
        forkserver.ensure_running()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for what is started meanwhile: the process that forks is told nothing otherwise."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class ProcessRuntime:
    """Runs roles in processes.

    Args:
        make: Makes a role by its name, in its process; it must be picklable.
        preload: Modules that are imported once for all, see `get_ready`.
        seat_of: Says where each role sits.
        host: Address at which roles reach whoever starts them.
    """

    def __init__(
        self,
        make: MakeRole,
        preload: Sequence[str],
        seat_of: Callable[[str], Seat] = lambda place: Seat(),
        host: str = LOOPBACK,
    ) -> None:
        self.host = host
        self.make, self._seat_of = make, seat_of
        self._context = multiprocessing.get_context("forkserver")
        get_ready(preload)
        self._running: dict[str, ForkServerProcess] = {}
        self._ports: dict[str, int] = {}

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`.

        Raises:
            ProcessError: If the role does not start.
        """
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=live,
            args=(self.make, place, comes_back, self._ports.get(place, 0), there, self._seat_of(place)),
            name=place,
            daemon=True,
        )
        process.start()
        there.close()
        with here:
            ready = wait([here, process.sentinel], START_S)
            if here not in ready:
                process.kill()
                raise ProcessError(f"{place} does not start")
            url = str(here.recv())
        self._running[place], self._ports[place] = process, port_of(url)
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`: as `kill -9` does."""
        process = self._running.pop(place, None)
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def close(self) -> None:
        """See `Runtime`."""
        for process in self._running.values():
            process.terminate()
        for place, process in list(self._running.items()):
            process.join(5.0)
            self.kill(place)

    def pids(self) -> dict[str, int]:
        """Process of each role."""
        return {place: process.pid or 0 for place, process in self._running.items()}


def live(make: MakeRole, place: str, comes_back: bool, port: int, ready: Connection, seat: Seat) -> None:
    """Be a role until it is ended, or the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if seat.namespace:
        enter(seat.namespace)
    few_arenas()
    role = make(place, comes_back)
    try:
        serve(role.app, seat.host, port=port, on_ready=ready.send)
    finally:
        role.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
