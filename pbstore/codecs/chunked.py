"""Payloads that are decoded chunk by chunk: all in parallel, or one after another in little memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Protocol, TypeVar

import numpy as np

from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.streams import Bytes
from pbstore.pool import Pool, in_order

_HELD_CHUNKS = 2
R = TypeVar("R")


class Chunks(Protocol):
    """A payload whose chunks can be decoded in any order."""

    @property
    def num_elements(self) -> int:
        """Elements of the block."""

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""

    @property
    def chunk_elements(self) -> int:
        """Elements of every chunk but the last."""

    def fill(self, index: int, out: Uints) -> None:
        """Decode a chunk into an array of its length."""


def parallel(function: Callable[[int], R], items: range, workers: int) -> Iterator[R]:
    """Results of a function of each item, in order, by some threads; none is at work when it ends."""
    if workers == 1 or len(items) == 1:
        return map(function, items)
    return in_order(_pool(workers), function, items)


@cache
def _pool(workers: int) -> Pool:
    """Threads that live on, with their scratch memory; `function` of `parallel` must not call it again."""
    return Pool(workers, "pbstore-chunk")


os.register_at_fork(after_in_child=_pool.cache_clear)


def decode_whole(chunks: Chunks, workers: int = 1, out: memoryview | None = None) -> memoryview:
    """All bytes, in `out` or in memory of their own."""
    if not chunks.num_elements:
        return memoryview(bytearray())
    kind, step = UINT[chunks.item_bytes], chunks.chunk_elements
    values = np.empty(chunks.num_elements, kind) if out is None else np.frombuffer(out, kind)

    def decode(start: int) -> None:
        chunks.fill(start // step, values[start : start + step])

    for _ in parallel(decode, range(0, len(values), step), workers):
        pass
    return values.data.cast("B") if out is None else out


def decode_parts(chunks: Chunks) -> Iterator[memoryview]:
    """The bytes of one chunk after another, each valid until the next is asked for."""
    step = min(chunks.chunk_elements, chunks.num_elements)
    buffer = np.empty(step, UINT[chunks.item_bytes])
    for index, start in enumerate(range(0, chunks.num_elements, max(step, 1))):
        part = buffer[: chunks.num_elements - start]
        chunks.fill(index, part)
        yield part.data.cast("B")


class LazyBase:
    """The bytes of a base, decoded where they are asked for; for one thread."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._held: OrderedDict[int, Uints] = OrderedDict()

    def __len__(self) -> int:
        return self._chunks.num_elements * self._chunks.item_bytes

    def read(self, begin: int, end: int) -> Bytes:
        """Bytes [begin, end), fewer at the end of the base; valid until the next call."""
        step = self._chunks.chunk_elements * self._chunks.item_bytes
        begin, end = min(begin, len(self)), min(end, len(self))
        first = begin // step
        if end <= (first + 1) * step:
            return self._chunk(first)[begin - first * step : end - first * step] if begin < end else _NOTHING
        joined = np.empty(end - begin, np.uint8)
        for index in range(first, -(-end // step)):
            low, high = max(begin, index * step), min(end, (index + 1) * step)
            joined[low - begin : high - begin] = self._chunk(index)[low - index * step : high - index * step]
        return joined

    def _chunk(self, index: int) -> Bytes:
        """Bytes of a chunk; the last few are held, and their memory is used again."""
        found = self._held.get(index)
        if found is None:
            step = min(self._chunks.chunk_elements, self._chunks.num_elements)
            full = len(self._held) == _HELD_CHUNKS
            found = (
                self._held.popitem(last=False)[1] if full else np.empty(step, UINT[self._chunks.item_bytes])
            )
            self._chunks.fill(index, found[: self._chunks.num_elements - index * step])
            self._held[index] = found
        self._held.move_to_end(index)
        return found.view(np.uint8)


_NOTHING = np.empty(0, np.uint8)
