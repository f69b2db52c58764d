"""Starting and stopping a server: in the foreground for the command, in a thread for tests and programs."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
import uvloop

from pbstore.errors import ServerStartError
from pbstore.serve.app import create_app
from pbstore.serve.http.connection import guarded
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.library import Library
from pbstore.serve.sockets import LOOPBACK, doors, listen, listen_unix, url_of
from pbstore.serve.sockets import is_loopback as is_loopback

DEFAULT_PORT = 8765
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
App: TypeAlias = Callable[..., Any]
"""An ASGI application."""
log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner, and says when it takes requests."""

    def __init__(self, app: App, limits: GuardSettings, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(limits, getattr(getattr(app, "state", None), "express", None)),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(limits.grace_s)),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def ask_to_stop(self) -> None:
        """Stop when the requests in progress are done; asked again, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    app: App,
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    *,
    unix: Path | None = None,
    limits: GuardSettings | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; requests in progress then have `limits.grace_s` to end.

    Args:
        app: What `create_app` gives, or any ASGI application with a lifespan.
        host: Address to listen at; the default takes connections of this machine only.
        port: 0 for one that is free.
        unix: A socket file to listen at instead, which only this user can open; it goes with the server.
        limits: Of connections, and the time for requests in progress when the server is stopped.
        on_ready: Called with the server's address when it takes requests.

    Raises:
        ServerStartError: If the address is taken, or the application does not start.
    """
    opened = listen(host, port) if unix is None else listen_unix(unix)
    address = url_of(opened)
    server = _Server(app, limits or GuardSettings(), lambda: on_ready(address) if on_ready else None)
    with _closing(opened, unix), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, server.ask_to_stop)
        runner.run(server.serve(sockets=doors(opened)))
    if not server.started:
        raise ServerStartError(address, "the application did not start")


@contextmanager
def serving(
    served: Library | App,
    host: str = LOOPBACK,
    port: int = 0,
    *,
    unix: Path | None = None,
    limits: GuardSettings | None = None,
) -> Iterator[str]:
    """A server in a thread of this process, as long as the context lasts; gives its address.

    Args:
        served: A library, or an application.
        host: Address to listen at.
        port: 0 for one that is free.
        unix: A socket file to listen at instead.
        limits: Of connections; by default requests in progress at the end have 2 s.
    """
    app: App = served if callable(served) else create_app(served)
    opened = listen(host, port) if unix is None else listen_unix(unix)
    ready = threading.Event()
    server = _Server(app, limits or GuardSettings(grace_s=2.0), ready.set)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve(sockets=doors(opened)))
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="serve", daemon=True)
    with _closing(opened, unix):
        thread.start()
        try:
            ready.wait()
            if not server.started:
                raise ServerStartError(url_of(opened), "the application did not start")
            yield url_of(opened)
        finally:
            server.ask_to_stop()
            thread.join()


@contextmanager
def _closing(opened: socket.socket, unix: Path | None) -> Iterator[None]:
    """Close a socket at the end, and take its file away."""
    with opened:
        try:
            yield
        finally:
            if unix is not None:
                unix.unlink(missing_ok=True)
