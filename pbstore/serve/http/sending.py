"""Sending parts of files by the kernel (sendfile), from any event loop, with back-pressure."""

import asyncio
import os
import select
import socket
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

STEP_BYTES = 2 << 20
"""Bytes that one turn of the loop sends to one client: so long it blocks the loop; as nginx."""
Part: TypeAlias = tuple[int, int, int]
"""A part of a file: its descriptor, the offset, and how many bytes."""
Done: TypeAlias = Callable[[bool, Exception | None], None]
"""Called at the end: whether all was sent, and what went wrong, if not only the client went away."""
_MORE = getattr(socket, "MSG_MORE", 0)


class Wakes:
    """Tells senders that their sockets, which were full, take more: all of a loop in one call of the kernel.

    Each socket is registered once, edge-triggered: nothing is added to the loop and removed for each answer.
    With the last socket it goes itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._epoll = loop, select.epoll()
        self._senders: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def add(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` when a full socket takes more."""
        self._senders[fd] = ready
        self._epoll.register(fd, select.EPOLLOUT | select.EPOLLET)

    def remove(self, fd: int) -> None:
        """Forget a socket that is still open."""
        if self._senders.pop(fd, None) is not None:
            self._epoll.unregister(fd)
        if not self._senders and _wakes.pop(self._loop, None) is self:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _wake(self) -> None:
        for fd, _ in () if self._epoll.closed else self._epoll.poll(0):
            if (ready := self._senders.get(fd)) is not None:
                ready()


_wakes: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wakes]" = weakref.WeakKeyDictionary()


def wakes_of(loop: asyncio.AbstractEventLoop) -> Wakes:
    """The one of a loop."""
    found = _wakes.get(loop)
    if found is None:
        found = _wakes[loop] = Wakes(loop)
    return found


class FileSender:
    """Sends from files into one connection; uvloop has no `loop.sendfile`, and asyncio's stops the transport.

    The socket has a descriptor of its own here, since loops refuse to watch one that a transport has. It
    keeps the socket open: `close` must be called when the connection is lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._fd = self._socket.fileno()
        self._wakes = wakes_of(loop)
        self._wakes.add(self._fd, self.go_on)
        self._watched = False
        self._done: Done | None = None
        self._head = b""
        self._parts: Iterator[Part] = iter(())
        self._file, self._offset, self._left = -1, 0, 0
        self._is_full = False
        self.sent_bytes = 0
        """Bytes that the socket has taken."""

    async def send(self, parts: Iterable[Part]) -> None:
        """Send parts of open files, one behind the other, behind all that was written to the transport.

        As uvicorn's own sending it ends without an error where the client went away.

        Raises:
            EOFError: If a file ends before.
        """
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(whole: bool, error: Exception | None) -> None:
            if not ended.done():
                ended.set_exception(error) if error is not None else ended.set_result(None)

        self.start(b"", parts, done)
        try:
            await ended
        finally:
            self._stop()

    def start(self, head: bytes, parts: Iterable[Part], done: Done) -> None:
        """Send bytes, and parts of open files behind them; `done` may be called before this returns."""
        self._head, self._parts, self._left, self._done = head, iter(parts), 0, done
        self.go_on()

    def close(self) -> None:
        """Let go of the socket; whoever sends ends."""
        self._unwatch()
        if self._fd >= 0:
            self._wakes.remove(self._fd)
            self._fd = -1
            self._socket.close()
        self._end(False, None)

    def go_on(self) -> None:
        """Send as much as the socket takes now, behind what the transport holds, if there is any."""
        if self._done is None:
            return
        if self._fd < 0 or self._transport.is_closing():
            self._end(False, None)
            return
        if self._transport.get_write_buffer_size():
            self._watch()
            return
        self._unwatch()
        try:
            if self._turn():
                self._end(True, None)
            elif not self._is_full:
                self._loop.call_soon(self.go_on)
        except ConnectionError:
            self._transport.abort()
            self._end(False, None)
        except (EOFError, OSError) as error:
            self._end(False, error)

    def _turn(self) -> bool:
        """Send up to `STEP_BYTES`, or until the socket is full; whether that was all."""
        room, self._is_full = STEP_BYTES, False
        try:
            if self._head:
                done = self._socket.send(self._head, _MORE)
                self.sent_bytes += done
                self._head = self._head[done:]
                self._is_full = bool(self._head)
            while room > 0 and not self._is_full:
                if not self._left and not self._next_part():
                    return True
                room -= self._step(room)
        except BlockingIOError:
            self._is_full = True
        return False

    def _next_part(self) -> bool:
        part = next((one for one in self._parts if one[2]), None)
        if part is not None:
            self._file, self._offset, self._left = part
        return part is not None

    def _step(self, room: int) -> int:
        """One call of the kernel; how many bytes it sent."""
        asked = min(self._left, room)
        done = os.sendfile(self._fd, self._file, self._offset, asked)
        if not done:
            raise EOFError(f"a file ended {self._left} bytes early")
        self._is_full = done < asked  # or the file has ended, which the next turn finds
        self.sent_bytes += done
        self._offset, self._left = self._offset + done, self._left - done
        return done

    def _end(self, whole: bool, error: Exception | None) -> None:
        done = self._done
        self._stop()
        if done is not None:
            done(whole, error)

    def _stop(self) -> None:
        self._done, self._head, self._parts, self._left = None, b"", iter(()), 0
        self._unwatch()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._loop.add_writer(self._fd, self.go_on)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_writer(self._fd)
