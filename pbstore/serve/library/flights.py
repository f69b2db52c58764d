"""One call for all who want the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Calls in progress, by what they are for.

    Who stops waiting stops nobody else; a call that nobody waits for any more is cancelled; an error is
    everybody's error. Nothing is kept: who asks after the end begins anew.
    """

    def __init__(self) -> None:
        self._calls: dict[K, asyncio.Task[T]] = {}
        self._waiting: dict[asyncio.Task[T], int] = {}

    async def join(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call in progress for a key; begins one if there is none."""
        task = self._calls.get(key)
        if task is None:
            task = self._calls[key] = asyncio.ensure_future(_run(call))
            self._waiting[task] = 0
            task.add_done_callback(lambda done: self._end(key, done))
        self._waiting[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            if task in self._waiting:
                self._waiting[task] -= 1
                if not self._waiting[task]:
                    task.cancel()
                    self._end(key, task)

    def is_going(self, key: K) -> bool:
        """Whether a call for a key is in progress."""
        return key in self._calls

    async def settled(self, most_s: float) -> None:
        """Wait for all calls that are in progress now, but no longer than so many seconds."""
        if self._calls:
            await asyncio.wait(tuple(self._calls.values()), timeout=most_s)

    def _end(self, key: K, task: "asyncio.Task[T]") -> None:
        if self._calls.get(key) is task:
            del self._calls[key]
        self._waiting.pop(task, None)
        if task.done() and not task.cancelled():
            task.exception()  # seen by those who wait; nobody may be left


async def _run(call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
    return await call()
