"""One connection to the index for each thread, closed with its thread or with the store."""

import os
import sqlite3
import threading
from pathlib import Path
from weakref import WeakSet

from pbstore.disk.index import database, readonly


class _Held:
    """Closes its connection when nobody holds it any more: a thread that ends lets go of it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Connections:
    """Connections to one index; safe to use from several threads, and after a fork."""

    def __init__(self, path: Path, *, read_only: bool, durable: bool) -> None:
        self._path, self._read_only, self._durable = path, read_only, durable
        self._closed = False
        self._abandoned: list[object] = []
        self._start()

    def mine(self) -> sqlite3.Connection:
        """This thread's connection.

        Raises:
            ValueError: If all were closed for good.
        """
        if self._pid != os.getpid():  # SQLite must not be carried through a fork, not even to be closed
            self._abandoned += [self._local, *self._held]
            self._start()
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and self._read_only and self._is_outdated(held.connection):
            self._drop(held)
            held = None
        if held is None:
            if self._closed:
                raise ValueError(f"the store of {self._path} is closed")
            held = _Held(self._connect())
            self._local.held, self._local.file = held, self._path.stat().st_ino
            self._held.add(held)
        return held.connection

    def renew(self) -> None:
        """Under the writer's lock: let go of this thread's connection if the index was built anew since."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and self._local.file != self._path.stat().st_ino:
            self._drop(held)

    def _drop(self, held: _Held) -> None:
        held.connection.close()
        self._held.discard(held)
        del self._local.held

    def _connect(self) -> sqlite3.Connection:
        if not self._read_only:
            return database.connect(self._path, durable=self._durable)
        connection, self._local.stamp = readonly.open_index(self._path)
        return connection

    def _is_outdated(self, connection: sqlite3.Connection) -> bool:
        """Whether a connection shows an index that somebody, elsewhere, has written to since."""
        stamp = self._local.stamp
        return stamp is not None and not connection.in_transaction and readonly.stamp_of(self._path) != stamp

    def reset(self) -> None:
        """Close all connections; new ones are made when they are asked for."""
        for held in list(self._held):
            held.connection.close()
        self._start()

    def close(self) -> None:
        """Close all connections for good."""
        self._closed = True
        self.reset()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._local = threading.local()
        self._held: WeakSet[_Held] = WeakSet()
