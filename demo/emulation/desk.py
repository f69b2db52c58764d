"""The one thread at which a role does what it does in its store."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pbstore.pool import Pool

T = TypeVar("T")


class DeskClosedError(Exception):
    """The role has ended: nothing more is done in its store."""

    exit_code = 1

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} has ended"


class Desk:
    """Does jobs one after another in a thread of its own, and has callers wait; for any thread.

    A store keeps a connection, two descriptors and a cache of pages for every thread that has used it. A
    server answers in any of dozens of threads, so that without a desk their number grows with the run.

    Args:
        name: Of the role, for its thread and for errors.
    """

    def __init__(self, name: str) -> None:
        self._name, self._pool = name, Pool(1, name)
        self._thread = -1

    def do(self, job: Callable[[], T]) -> T:
        """What a job returns; a job that is part of another is done at once.

        Raises:
            DeskClosedError: If the role has ended.
            Exception: Whatever the job raises.
        """
        if threading.get_ident() == self._thread:
            return job()
        try:
            future: Future[T] = self._pool.submit(self._work, job)
        except RuntimeError:
            raise DeskClosedError(self._name) from None
        return future.result()

    def close(self, last: Callable[[], None] = lambda: None) -> None:
        """Do all that was asked for, a last job, and no more; nothing happens the second time."""
        try:
            self._pool.submit(self._work, last)
        except RuntimeError:
            return
        self._pool.shutdown()

    def _work(self, job: Callable[[], T]) -> T:
        self._thread = threading.get_ident()
        return job()
