"""Reading and hashing in one thread, storing in another, with a bound on the bytes in between."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pbstore.buffers import Buffers
from pbstore.codecs.types import TensorSpec
from pbstore.hashing import BlockId

FEED_BYTES = 64 << 20
"""Raw bytes that are read and not yet stored."""
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FreshBlock:
    """A block that was read from a file; its bytes are the sink's memory until they are released."""

    block_id: BlockId
    raw: memoryview
    spec: TensorSpec | None
    name: str | None
    """The tensor's name, None if it is no tensor."""
    hashed: "Future[None]"
    """Done when the bytes have gone into the hash of their file."""
    probed: bytes | None = None
    """A few elements of a tensor whose bytes are no longer at hand."""


class UnwantedError(Exception):
    """A sink does not want what is being read."""


class Sink(Protocol):
    """Where a reader of files hands its blocks."""

    def reserve(self, num_bytes: int) -> memoryview:
        """Memory for so many bytes; waits while too many are held."""

    def release(self, block: FreshBlock) -> None:
        """Give a block's memory back: nobody needs it any more, but maybe the hash of its file."""

    def keep(self, block: FreshBlock) -> None:
        """Take a block; its memory is released when it is dealt with."""


class DryRun:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def reserve(self, num_bytes: int) -> memoryview:
        """See `Sink`."""
        return self._buffers.take(num_bytes)

    def release(self, block: FreshBlock) -> None:
        """See `Sink`."""
        raw = block.raw  # the block itself would tie its hash and its memory into a knot
        block.hashed.add_done_callback(lambda _: self._buffers.give(raw))

    def keep(self, block: FreshBlock) -> None:
        """See `Sink`."""
        self.release(block)


class _StoppedError(Exception):
    """The consumer does not want any more."""


class Feed(Generic[R]):
    """Runs a producer in a thread and gives its blocks to the caller's thread, in order."""

    def __init__(self, produce: Callable[[Sink], R], buffers: Buffers | None = None) -> None:
        self._produce = produce
        self._held = 0
        self._blocks: deque[FreshBlock] = deque()
        self._buffers = buffers or Buffers()
        self._change = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._result: list[R] = []

    def runs(self) -> Iterator[deque[FreshBlock]]:
        """All blocks, as many at a time as are there; an error of the producer comes behind the last.

        The caller takes the blocks from the left, so that nobody else holds them, and releases them.
        """
        thread = threading.Thread(target=self._run, name="pbstore-feed", daemon=True)
        thread.start()
        try:
            while run := self._next():
                yield run
        finally:
            with self._change:
                self._stopped = True
                self._change.notify_all()
            thread.join()
        if self._error is not None:
            raise self._error

    @property
    def result(self) -> R:
        """What the producer returned; there is one after the last block."""
        return self._result[0]

    def reserve(self, num_bytes: int) -> memoryview:
        """See `Sink`."""
        with self._change:
            self._change.wait_for(
                lambda: self._stopped or self._held == 0 or self._held + num_bytes <= FEED_BYTES
            )
            if self._stopped:
                raise _StoppedError
            self._held += num_bytes
        return self._buffers.take(num_bytes)

    def release(self, block: FreshBlock) -> None:
        """See `Sink`."""
        raw = block.raw  # the block itself would tie its hash and its memory into a knot
        block.hashed.add_done_callback(lambda _: self._take_back(raw))

    def _take_back(self, raw: memoryview) -> None:
        try:
            self._buffers.give(raw)
        finally:
            with self._change:
                self._held -= len(raw)
                self._change.notify_all()

    def keep(self, block: FreshBlock) -> None:
        """See `Sink`."""
        with self._change:
            self._blocks.append(block)
            self._change.notify_all()

    def _next(self) -> deque[FreshBlock]:
        with self._change:
            while not self._blocks and not self._ended:
                self._change.wait(0.5)
            run, self._blocks = self._blocks, deque()
            return run

    def _run(self) -> None:
        try:
            self._result.append(self._produce(self))
        except _StoppedError:
            pass
        except BaseException as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()
