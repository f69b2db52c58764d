"""Network namespaces without a name: kept by a descriptor, entered by threads, gone with the process."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_NEW_NET = 0x40000000
"""CLONE_NEWNET (linux/sched.h)."""
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network of its own: no interface but a loopback that is down."""

    def __init__(self) -> None:
        """Make it.

        Raises:
            OSError: If this process may not.
        """
        self._descriptor = in_thread(_unshared)

    @property
    def path(self) -> str:
        """Where other processes of this user find it, as long as it is open here: see `enter`."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @property
    def descriptor(self) -> int:
        """Of the open namespace."""
        return self._descriptor

    def run(self, act: Callable[[], T]) -> T:
        """What a function returns that runs inside, in a thread of its own.

        Raises:
            Exception: Whatever it raises.
        """

        def enter_and_act() -> T:
            _enter(self._descriptor)
            return act()

        return in_thread(enter_and_act)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread opens meanwhile are inside; other threads stay where they are."""
        before = _own()
        try:
            _enter(self._descriptor)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def close(self) -> None:
        """Let go of it; it ends with the last process or socket inside."""
        os.close(self._descriptor)


def enter(path: str) -> None:
    """Move this thread, and threads and processes that it starts from now on, into the namespace at a path.

    Raises:
        OSError: If it is gone or this process may not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
    finally:
        os.close(descriptor)


def in_thread(act: Callable[[], T]) -> T:
    """What a function returns that has a thread of its own, which ends with it."""
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(act())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _unshared() -> int:
    if _libc.unshare(_NEW_NET):
        raise _error("cannot make a network namespace")
    return _own()


def _own() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _NEW_NET):
        raise _error("cannot enter a network namespace")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
