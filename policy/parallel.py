"""The same work on many items: one after another, in processes, or on Ray."""

import ctypes
import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from policy.errors import PolicyError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Set to 1 in worker processes: the arrays are small."""

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal that a process gets when the thread that started it ends."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int = 1, ray: bool = False
) -> Iterator[Result]:
    """Yield the result of each item as it ends, in any order.

    Args:
        work: Must be importable by name (or a partial of what is) unless there is one worker.
        items: What to work on.
        workers: Processes.
        ray: Run on the cluster that `RAY_ADDRESS` names, or on one of our own.

    Raises:
        PolicyError: If Ray is asked for and not installed, or a process was killed.
    """
    if ray:
        yield from _on_ray(work, items)
    elif workers == 1 or len(items) <= 1:
        yield from map(work, items)
    else:
        yield from _in_processes(work, items, workers)


def _in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    for name in THREAD_VARIABLES:  # inherited by the processes
        os.environ.setdefault(name, "1")
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(items)), context, initializer=_end_with, initargs=(os.getpid(),)
    )
    try:
        with _deaf_to_interrupts():
            waiting = [pool.submit(work, item) for item in items]
        for done in as_completed(waiting):
            yield done.result()
    except BrokenProcessPool:
        raise PolicyError(
            "a worker process was killed, perhaps for want of memory; what was finished is kept: "
            "run it again, with fewer workers"
        ) from None
    except BaseException:  # no result is waited for any more
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with(parent: int) -> None:
    """In a worker: end when the parent does, however it does; Linux alone can tell a process so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started inside leave Ctrl-C to their parent, from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _on_ray(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    cluster = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if cluster is None:  # a cluster of our own: Ray listens on all interfaces, so only we may know the token
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise PolicyError("Ray is not installed: pip install 'pbcast[ray]', or leave --ray out") from None
    if not ray.is_initialized():
        ray.init(address=cluster or "local", log_to_driver=False)
    remote, shared = ray.remote(_apply), ray.put(work)
    waiting = [remote.remote(shared, item) for item in items]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield from ray.get(done)


def _apply(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)
