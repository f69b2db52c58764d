"""What a block is expected to be, computed from the blocks it needs: the closed list of predictions.

straight  the base itself, or an exact cast of it, element by element; zeros behind its end
rows      runs of bytes copied from one or more bases: inserted, moved and fused rows; zeros where nothing
fits lora      W + scale * (B @ A), by elementwise operations in a fixed order: no BLAS, no fused multiply-add

A prediction need not be right: the difference to it is stored. It must be the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pbstore.codecs.casts import CASTS, cast_number
from pbstore.codecs.chunk import UINT, Uints
from pbstore.codecs.chunked import LazyBase
from pbstore.codecs.scratch import scratch
from pbstore.codecs.streams import Bytes, pack_stream, unpack_stream
from pbstore.codecs.types import DTYPE_BITS, CodecError

LITERAL = 0xFFFFFFFF
"""Base number of a run that no base predicts."""
MAX_RANK = 512
_TILE = 1 << 17
"""Elements of a merged adapter that are computed at a time."""
MAX_RUNS = 1 << 22
_DTYPES = ("F32", "BF16", "F16")
_RUN = np.dtype([("base", "<u4"), ("offset", "<u8"), ("length", "<u8")])


class Prediction(Protocol):
    """Expected elements of a block, any range of them."""

    def elements(self, start: int, stop: int) -> Uints:
        """Expected elements [start, stop) as unsigned integers."""

    def header(self) -> bytes:
        """Description that the payload keeps; `read_*` below undoes it."""


@dataclass(frozen=True, slots=True)
class Straight:
    """The base's own elements, cast by number `cast` (0: none)."""

    base: memoryview | LazyBase
    item_bytes: int
    cast: int = 0

    def elements(self, start: int, stop: int) -> Uints:
        """See `Prediction.elements`."""
        source = DTYPE_BITS[CASTS[self.cast - 1][0]] // 8 if self.cast else self.item_bytes
        have = self._bytes(start * source, stop * source, source).view(UINT[source])
        expected = CASTS[self.cast - 1][2](have) if self.cast else have
        return expected if len(have) == stop - start else _pad(expected, stop - start)

    def _bytes(self, begin: int, end: int, item_bytes: int) -> Bytes:
        """Bytes of whole elements of the base, fewer at its end."""
        end = min(end, len(self.base) // item_bytes * item_bytes)
        if isinstance(self.base, LazyBase):
            return self.base.read(begin, end)
        return np.frombuffer(self.base[begin:end], np.uint8) if begin < end else np.empty(0, np.uint8)

    def header(self) -> bytes:
        """See `Prediction.header`."""
        return bytes([self.cast])


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of bytes from several bases, in the block's order."""

    bases: tuple[memoryview, ...]
    item_bytes: int
    runs: npt.NDArray[np.void]
    """Fields base (LITERAL for none), offset and length in bytes; lengths are multiples of item_bytes."""

    def elements(self, start: int, stop: int) -> Uints:
        """See `Prediction.elements`."""
        begin, end = start * self.item_bytes, stop * self.item_bytes
        expected = np.zeros(end - begin, np.uint8)
        ends = np.cumsum(self.runs["length"].astype(np.int64))
        first = int(np.searchsorted(ends, begin, side="right"))
        last = int(np.searchsorted(ends, end, side="left"))
        for run, run_end in zip(self.runs[first : last + 1], ends[first : last + 1], strict=True):
            if run["base"] == LITERAL:
                continue
            run_begin = int(run_end) - int(run["length"])
            low, high = max(begin, run_begin), min(end, int(run_end))
            offset = int(run["offset"]) + low - run_begin
            source = np.frombuffer(self.bases[int(run["base"])], np.uint8, high - low, offset)
            expected[low - begin : high - begin] = source
        return expected.view(UINT[self.item_bytes])

    def header(self) -> bytes:
        """See `Prediction.header`."""
        columns = np.concatenate(
            [np.ascontiguousarray(self.runs[name]).view(np.uint8) for name in _RUN.names or ()]
        )
        return struct.pack("<I", len(self.runs)) + b"".join(pack_stream(columns, text=True))


@dataclass(frozen=True, slots=True)
class Lora:
    """A weight with a low-rank adapter merged into it.

    Attributes:
        weight: W, (rows, cols) row by row; dtype by its number in `_DTYPES`.
        down: A, (rank, cols).
        up: B, (rows, rank).
        scale: Factor of B @ A, rounded to float32.
        dtypes: Numbers of the dtypes of W, A, B and of the result.
    """

    weight: memoryview
    down: memoryview
    up: memoryview
    rows: int
    cols: int
    rank: int
    scale: float
    dtypes: tuple[int, int, int, int]

    def elements(self, start: int, stop: int) -> Uints:
        """See `Prediction.elements`."""
        first, last = start // self.cols, -(-stop // self.cols)
        down = _floats(self.down, self.dtypes[1], 0, self.rank * self.cols).reshape(self.rank, self.cols)
        kind = _DTYPES[self.dtypes[3]]
        number = cast_number("F32", kind)
        merged: Uints = np.empty((last - first) * self.cols, UINT[DTYPE_BITS[kind] // 8])
        rows = max(1, _TILE // self.cols)
        for top in range(first, last, rows):
            end = min(top + rows, last)
            up = _floats(self.up, self.dtypes[2], top * self.rank, end * self.rank).reshape(-1, self.rank)
            total = scratch("total", (end - top) * self.cols, np.float32)
            self._fill(total.reshape(-1, self.cols), np.ascontiguousarray(up.T), down)
            with np.errstate(all="ignore"):
                total += _floats(self.weight, self.dtypes[0], top * self.cols, end * self.cols)
            bits = total.view(np.uint32)
            tile = merged[(top - first) * self.cols : (end - first) * self.cols]
            np.copyto(tile, CASTS[number - 1][2](bits) if number else bits)
        return merged[start - first * self.cols : stop - first * self.cols]

    def _fill(
        self, total: npt.NDArray[np.float32], up: npt.NDArray[np.float32], down: npt.NDArray[np.float32]
    ) -> None:
        """The update, scale * (up.T @ down), of a few rows; up is (rank, rows)."""
        step = scratch("step", total.size, np.float32).reshape(total.shape)
        with np.errstate(all="ignore"):
            total[:] = 0
            for k in range(self.rank):
                np.multiply(up[k, :, None], down[None, k], out=step)
                total += step
            total *= np.float32(self.scale)

    def header(self) -> bytes:
        """See `Prediction.header`."""
        return struct.pack("<IIIf4B", self.rows, self.cols, self.rank, self.scale, *self.dtypes)


def dtype_number(dtype: str) -> int | None:
    """Number of a dtype that `Lora` can compute with, None for others."""
    return _DTYPES.index(dtype) if dtype in _DTYPES else None


def read_straight(
    payload: memoryview, position: int, item_bytes: int, bases: Sequence[memoryview | LazyBase]
) -> tuple[Straight, int]:
    """Read the description of a `Straight` and check it."""
    _expect(len(bases) == 1 and position < len(payload), "a straight difference needs one base")
    cast = payload[position]
    _expect(cast <= len(CASTS), f"unknown cast {cast}")
    _expect(not cast or DTYPE_BITS[CASTS[cast - 1][1]] == 8 * item_bytes, "cast to another width")
    return Straight(bases[0], item_bytes, cast), position + 1


def read_runs(
    payload: memoryview, position: int, item_bytes: int, bases: Sequence[memoryview], raw_bytes: int
) -> tuple[Runs, int]:
    """Read the description of `Runs` and check that they tile the block and stay inside the bases."""
    _expect(position + 4 <= len(payload), "it ends inside the row map")
    (count,) = struct.unpack_from("<I", payload, position)
    _expect(count <= min(MAX_RUNS, raw_bytes), f"{count} runs in a row map of {raw_bytes} bytes")
    columns, position = unpack_stream(payload, position + 4, count * _RUN.itemsize)
    runs, begin = np.empty(count, _RUN), 0
    for name in _RUN.names or ():
        kind = _RUN[name]
        runs[name] = columns[begin : begin + count * kind.itemsize].view(kind)
        begin += count * kind.itemsize
    sizes = np.array([len(base) for base in bases] or [0], np.uint64)
    literal = runs["base"] == LITERAL
    used = int(runs["base"][~literal].max(initial=0)) + 1
    _expect(used == max(1, len(bases)), f"a row map of {used} bases, got {len(bases)}")
    limit = np.where(literal, np.uint64(raw_bytes), sizes[np.where(literal, 0, runs["base"])])
    fits = (runs["length"] <= limit) & (
        literal | (runs["offset"] <= limit - np.minimum(runs["length"], limit))
    )
    _expect(bool(np.all(fits)), "a run beyond the end of its base")
    _expect(bool(np.all(runs["length"] % item_bytes == 0)), "a run of part of an element")
    _expect(sum(runs["length"].tolist()) == raw_bytes, "runs that do not tile the block")
    return Runs(tuple(bases), item_bytes, runs), position


def read_lora(
    payload: memoryview, position: int, item_bytes: int, bases: Sequence[memoryview], raw_bytes: int
) -> tuple[Lora, int]:
    """Read the description of a `Lora` and check every size in it."""
    head = struct.Struct("<IIIf4B")
    _expect(position + head.size <= len(payload), "it ends inside the adapter's sizes")
    rows, cols, rank, scale, *dtypes = head.unpack_from(payload, position)
    _expect(len(bases) == 3, f"a merged adapter needs 3 blocks, got {len(bases)}")
    _expect(max(dtypes) < len(_DTYPES) and 0 < rank <= MAX_RANK, "unknown dtype or rank of an adapter")
    widths = [DTYPE_BITS[_DTYPES[number]] // 8 for number in dtypes]
    _expect(widths[3] == item_bytes and rows * cols * item_bytes == raw_bytes, "adapter of another size")
    wanted = [rows * cols * widths[0], rank * cols * widths[1], rows * rank * widths[2]]
    _expect([len(base) for base in bases] == wanted, "adapter or weight of another size")
    a, b, c, d = dtypes
    return Lora(bases[0], bases[1], bases[2], rows, cols, rank, scale, (a, b, c, d)), position + head.size


def make_runs(runs: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.void]:
    """Runs (base, offset, length) as the array that `Runs` wants."""
    return np.array(list(runs), _RUN)


def _floats(data: memoryview, dtype: int, start: int, stop: int) -> npt.NDArray[np.float32]:
    name = _DTYPES[dtype]
    bits = np.frombuffer(data, UINT[DTYPE_BITS[name] // 8])[start:stop]
    number = cast_number(name, "F32")
    return (CASTS[number - 1][2](bits) if number else bits).view(np.float32)


def _pad(expected: Uints, length: int) -> Uints:
    padded = np.zeros(length, expected.dtype)
    padded[: len(expected)] = expected
    return padded


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise CodecError(f"codec payload: {problem}")
