"""Threads for jobs that Ctrl-C may interrupt at any moment: a process never waits for one of them at its end.

A `concurrent.futures.ThreadPoolExecutor` may keep it waiting for ever: a thread that an interrupt hits while
it starts is in no list of those to be told to stop, and the interpreter joins all threads but daemons. The
threads here are daemons; who needs their work done ends the pool, which waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_Job = Callable[[], None]


class Pool(Executor):
    """Some threads that do jobs in the order in which they come; started as they are needed.

    Args:
        workers: Jobs done at a time, >= 1.
        name: What the threads are called.
    """

    def __init__(self, workers: int, name: str) -> None:
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self._workers, self._name = workers, name
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished: set[Future[Any]] = set()
        self._closed = False
        self._mutex = threading.Lock()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Let a thread call a function; see `concurrent.futures.Executor`."""
        with self._mutex:
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is closed")
            if len(self._threads) < self._workers:
                thread = threading.Thread(target=_work, args=(self._queue,), name=self._name, daemon=True)
                thread.start()  # interrupted here, it may run and is not counted: one too many does no harm
                self._threads.append(thread)
            future: Future[R] = Future()
            try:
                self._unfinished.add(future)
                future.add_done_callback(self._unfinished.discard)
                self._queue.put(partial(_run, future, partial(fn, *args, **kwargs)))
            except BaseException:  # nobody will get the future
                if not future.cancel():
                    wait_for([future])
                raise
            return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, and let the threads end behind those that were taken."""
        with self._mutex:
            self._closed = True
        self._queue.put(None)
        unfinished = list(self._unfinished)
        if cancel_futures:
            unfinished = [future for future in unfinished if not future.cancel()]
        if wait:
            wait_for(unfinished)
            for thread in self._threads:  # for what they hold, as their connections to an index
                thread.join()


def in_order(pool: Executor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of a function of each item, in order; the first error is raised in its place.

    However it ends, no call of the function is still running then.
    """
    jobs: deque[Future[R]] = deque()
    try:
        jobs.extend(pool.submit(function, item) for item in items)
        while jobs:
            yield _first(jobs)
    finally:
        settle(jobs)


def settle(jobs: Iterable[Future[Any]]) -> None:
    """Cancel the jobs that have not begun, and wait for the others."""
    wait_for([job for job in jobs if not job.cancel()])


def _first(jobs: deque[Future[R]]) -> R:
    result = jobs[0].result()  # while it is still among the jobs: waiting may be interrupted
    jobs.popleft()
    return result


def _work(queue: SimpleQueue[_Job | None]) -> None:
    while (job := queue.get()) is not None:
        job()
        del job  # or its memory stays until the next one comes
    queue.put(None)  # for the next thread


def _run(future: Future[R], function: Callable[[], R]) -> None:
    try:
        if future.set_running_or_notify_cancel():
            future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future, function  # an error's traceback has this frame
