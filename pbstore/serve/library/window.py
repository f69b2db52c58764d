"""Work that is done ahead of the one who takes its results: in order, and within bounds."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

from pbstore.hashing import Buffer

T = TypeVar("T")
R = TypeVar("R")


class Room:
    """Bytes that all who work ahead may hold together; of one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.held_bytes = most_bytes, 0


class Window(Generic[T, R]):
    """Results of a function of each item, in order; it is called for the next items meanwhile.

    The first result that was not taken is always worked for; the second while all have room; further ones
    while this one has, too. What is being used counts as not taken.

    Args:
        get: Called for each item, with the bytes that its result holds; its error is raised in the item's
            place.
        room: Shared with others.
        most_bytes: Bytes of this one.
        most: Results that are held or worked for.
    """

    def __init__(self, get: Callable[[T], Awaitable[R]], room: Room, most_bytes: int, most: int) -> None:
        self._get, self._room, self._most_bytes, self._most = get, room, most_bytes, most
        self._jobs: deque[tuple[asyncio.Future[R], int]] = deque()
        self._bytes = 0

    async def results(self, items: Iterable[tuple[T, int]]) -> AsyncGenerator[R, None]:
        """The results; however this ends, what has not come to its end is cancelled."""
        left = iter(items)
        following = next(left, None)
        try:
            while self._jobs or following is not None:
                while following is not None and self._may_begin():
                    self._begin(*following)
                    following = next(left, None)
                yield await self._jobs[0][0]
                self._count(-self._jobs.popleft()[1])
        finally:
            self._count(-self._bytes)
            for job, _ in self._jobs:
                job.add_done_callback(_seen)
                job.cancel()

    def _may_begin(self) -> bool:
        if not self._jobs:
            return True
        if self._room.held_bytes >= self._room.most_bytes:
            return False
        return len(self._jobs) < 2 or (len(self._jobs) < self._most and self._bytes < self._most_bytes)

    def _begin(self, item: T, num_bytes: int) -> None:
        self._jobs.append((asyncio.ensure_future(_call(self._get, item)), num_bytes))
        self._count(num_bytes)

    def _count(self, num_bytes: int) -> None:
        self._bytes += num_bytes
        self._room.held_bytes += num_bytes


class Steps:
    """Bytes that come in parts, given in steps of any sizes: what is worked on ahead goes on between them."""

    def __init__(self, parts: AsyncIterator[Buffer]) -> None:
        self._parts, self._rest = parts, memoryview(b"")

    async def next_bytes(self, count: int) -> AsyncIterator[Buffer]:
        """So many bytes more, or all that are left."""
        while count:
            if not self._rest:
                self._rest = memoryview(await anext(self._parts, b""))
                if not self._rest:
                    return
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            yield part

    async def close(self) -> None:
        """Stop the work."""
        if isinstance(self._parts, AsyncGenerator):
            await self._parts.aclose()


async def _call(get: Callable[[T], Awaitable[R]], item: T) -> R:
    return await get(item)


def _seen(job: "asyncio.Future[Any]") -> None:
    if not job.cancelled():
        job.exception()
