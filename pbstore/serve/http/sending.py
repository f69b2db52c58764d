"""Sending parts of files by the kernel (sendfile), from any event loop, with back-pressure."""

import asyncio
import os

STEP_BYTES = 1 << 20
"""Bytes that one call sends: it blocks the loop for as long as copying so much takes."""


class FileSender:
    """Sends from files into one connection; uvloop has no `loop.sendfile`, and asyncio's stops the transport.

    The socket is watched by a descriptor of its own, since loops refuse to watch one that a transport has. It
    keeps the socket open: `close` must be called when the connection is lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop, self._transport = loop, transport
        self._fd = os.dup(transport.get_extra_info("socket").fileno())
        self._writable: asyncio.Future[None] | None = None
        self.sent_bytes = 0
        """Bytes that the socket has taken."""

    async def send(self, file: int, offset: int, count: int) -> None:
        """Send `count` bytes of an open file from `offset` behind all that was written to the transport.

        As uvicorn's own sending it ends without an error where the client went away.

        Raises:
            EOFError: If the file ends before.
        """
        await self._flushed()
        while count and self._fd >= 0 and not self._transport.is_closing():
            try:
                done = os.sendfile(self._fd, file, offset, min(count, STEP_BYTES))
            except BlockingIOError:
                await self._wait()
                continue
            except ConnectionError:
                self._transport.abort()
                return
            if not done:
                raise EOFError(f"the file ended {count} bytes early")
            self.sent_bytes += done
            offset, count = offset + done, count - done
            if done == STEP_BYTES:  # the client keeps up: let others have the loop
                await asyncio.sleep(0)

    def close(self) -> None:
        """Let go of the socket; whoever waits is told that the client went away."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._writable is not None:
            self._loop.remove_writer(fd)
            if not self._writable.done():
                self._writable.set_result(None)
        os.close(fd)

    async def _flushed(self) -> None:
        """Wait until the transport has written what it holds."""
        while self._transport.get_write_buffer_size() and self._fd >= 0:
            await asyncio.sleep(0)
            if self._transport.get_write_buffer_size():
                await self._wait()

    async def _wait(self) -> None:
        """Until the socket takes more."""
        if self._fd < 0:
            return
        self._writable = self._loop.create_future()
        self._loop.add_writer(self._fd, self._ready)
        try:
            await self._writable
        finally:
            if self._fd >= 0:
                self._loop.remove_writer(self._fd)
            self._writable = None

    def _ready(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
