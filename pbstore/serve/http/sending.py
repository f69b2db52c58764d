"""Sending parts of files by the kernel (sendfile), from any event loop, with back-pressure."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from typing import TypeAlias

STEP_BYTES = 2 << 20
"""Bytes that one turn of the loop sends to one client: so long it blocks the loop; as nginx."""
Part: TypeAlias = tuple[int, int, int]
"""A part of a file: its descriptor, the offset, and how many bytes."""


class FileSender:
    """Sends from files into one connection; uvloop has no `loop.sendfile`, and asyncio's stops the transport.

    The socket is watched by a descriptor of its own, since loops refuse to watch one that a transport has. It
    keeps the socket open: `close` must be called when the connection is lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._fd = os.dup(transport.get_extra_info("socket").fileno())
        self._watched = False
        self._done: asyncio.Future[None] | None = None
        self._parts: Iterator[Part] = iter(())
        self._file, self._offset, self._left = -1, 0, 0
        self._ended, self._is_full = True, False
        self.sent_bytes = 0
        """Bytes that the socket has taken."""

    async def send(self, parts: Iterable[Part]) -> None:
        """Send parts of open files, one behind the other, behind all that was written to the transport.

        As uvicorn's own sending it ends without an error where the client went away.

        Raises:
            EOFError: If a file ends before.
        """
        self._parts, self._left, self._ended = iter(parts), 0, False
        if not self._transport.get_write_buffer_size():
            self._turn()
        if not self._ended and self._fd >= 0:
            self._done = self._loop.create_future()
            self._watch()
            try:
                await self._done
            finally:
                self._ended, self._done = True, None
                self._unwatch()

    def close(self) -> None:
        """Let go of the socket; whoever sends ends."""
        self._unwatch()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._finish(None)

    def _ready(self) -> None:
        """The socket takes more; what the transport holds goes first."""
        if self._transport.get_write_buffer_size():
            return
        try:
            self._turn()
        except (EOFError, OSError) as error:
            self._finish(error)
            return
        if self._ended:
            self._finish(None)

    def _turn(self) -> None:
        """Send as much as the socket takes now, up to `STEP_BYTES`."""
        room = STEP_BYTES
        if self._fd < 0 or self._transport.is_closing():
            self._ended = True
        try:
            while room > 0 and not self._ended:
                done = self._step(room)
                room = 0 if self._is_full else room - done
        except BlockingIOError:
            return
        except ConnectionError:
            self._ended = True
            self._transport.abort()

    def _step(self, room: int) -> int:
        """One call of the kernel; how many bytes it sent."""
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                self._ended = True
                return 0
            self._file, self._offset, self._left = part
        asked = min(self._left, room)
        done = os.sendfile(self._fd, self._file, self._offset, asked)
        self._is_full = done < asked  # or the file has ended, which the next turn finds
        if not done:
            raise EOFError(f"a file ended {self._left} bytes early")
        self.sent_bytes += done
        self._offset, self._left = self._offset + done, self._left - done
        return done

    def _finish(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._loop.add_writer(self._fd, self._ready)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_writer(self._fd)
