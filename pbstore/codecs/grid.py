"""Weights that lie on a grid: what is left when a quantised file was turned back into floats.

Quantised formats (GGUF's and their like) keep, for each run of 32 weights, a scale and a small integer for
each weight, some also an offset. After de-quantising, every weight is `scale * q + offset`, rounded to the
file's dtype, but nothing says so. Scale and offset are found again from the least and the greatest weight of
a run where they give it exactly (GGUF's Q4_1 and Q8_0), else by weighted least squares (small weights are
known to more digits, so they count more), and rounded to float16, in which the quantised file kept them.
What they do not predict exactly is stored as a difference, so a wrong guess costs bytes, never truth.

A chunk of the payload holds the scales and, if there are any, the offsets, each as the number of bytes of an
element (2: float16, 4: float32) and its byte planes; the integers, two to a byte where they are 0..15; and
the difference as `encode_chunk` codes it.

This is a coder of artefacts: no trained weight that was never quantised lies on such a grid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pbstore.codecs.casts import CASTS, cast_number
from pbstore.codecs.chunk import (
    SAME_AS_PREDICTED,
    UINT,
    Mode,
    Uints,
    decode_chunk,
    encode_chunk,
    merge_planes,
    split_planes,
)
from pbstore.codecs.payload import CHUNK_BITS, join_chunks, read_bounds
from pbstore.codecs.scratch import TakeMemory, new_pages, scratch
from pbstore.codecs.streams import Bytes, pack_stream, unpack_stream
from pbstore.codecs.types import DTYPE_BITS, Buffer, CodecError, TensorSpec

GRID = "grid"
RUN = 32
"""Weights that share a scale."""
AFFINE, SYMMETRIC = 0, 1
"""scale * q + offset with q in 0..15; scale * q with q in -127..127."""
DTYPES = ("F32", "BF16", "F16")
VERSION = 2
"""Version 1, which is only read, has scales as float32, an integer a byte, and a mask of what is left."""
CHUNK_BYTES = 1 << 18
_HEAD = struct.Struct("<4B")
_PROBE_RUNS, _FEW_RUNS = 64, 8
_LEAST_SHARE = 0.7
_MODES: dict[int, Callable[[int], Mode]] = {
    1: lambda item_bytes: Mode(item_bytes=item_bytes, mask=True, balanced=False),
    2: lambda item_bytes: Mode(item_bytes=item_bytes),
}
"""How the difference to the grid is coded, by version; the first is only read."""
Floats = npt.NDArray[np.float32]
Levels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.int8]


def find_kind(values: Uints, dtype: str) -> int | None:
    """The grid on which sampled weights seem to lie, None for none.

    Args:
        values: Whole runs of weights, as bits, (n,).
        dtype: Their dtype.
    """
    if dtype not in DTYPES or len(values) < RUN:
        return None
    runs = values[: len(values) // RUN * RUN].reshape(-1, RUN)
    runs = runs[:: max(1, len(runs) // _PROBE_RUNS)][:_PROBE_RUNS]
    few = runs[:: max(1, len(runs) // _FEW_RUNS)]  # almost all tensors lie on no grid: be quick to say so
    for kind, share in ((AFFINE, _share_of_few_levels), (SYMMETRIC, _share_on_grid)):
        if share(few, dtype) > _LEAST_SHARE / 2 and share(runs, dtype) > _LEAST_SHARE:
            return kind
    return None


def _share_of_few_levels(runs: Uints, _: str) -> float:
    """Share of the runs with at most 16 different weights; 0 where most have one or two."""
    ordered = np.sort(runs, axis=1)
    distinct = 1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)
    return float(np.mean(distinct <= 16)) if np.mean(distinct) > 2 else 0.0


def _share_on_grid(runs: Uints, dtype: str) -> float:
    """Share of the weights that a symmetric grid gives exactly."""
    bits = np.ascontiguousarray(runs).reshape(-1)
    by_extremes = _fit_extremes(bits, dtype, SYMMETRIC)[3]
    if by_extremes > _LEAST_SHARE:
        return by_extremes
    return float(np.mean(_predict(*_fit(bits, dtype, SYMMETRIC), dtype) == bits))


def encode_grid(values: Uints, dtype: str, kind: int) -> list[Buffer]:
    """Code whole runs of weights; the parts are valid until this thread codes the next ones.

    Args:
        values: Weights as bits, (n,), n a multiple of RUN.
        dtype: Their dtype.
        kind: AFFINE or SYMMETRIC.
    """
    share = 0.0
    if _fit_extremes(values[: _PROBE_RUNS * RUN], dtype, kind)[3] > _LEAST_SHARE:
        scale, offset, q, share = _fit_extremes(values, dtype, kind)
    if share <= _LEAST_SHARE:
        scale, offset, q = _fit(values, dtype, kind)
    columns = [_pack_column(scale), _pack_column(offset)] if kind == AFFINE else [_pack_column(scale)]
    levels = q.view(np.uint8).reshape(-1)
    parts = [*columns, *pack_stream(_in_pairs(levels) if kind == AFFINE else levels)]
    if share == 1:
        return [*parts, SAME_AS_PREDICTED]
    return [
        *parts,
        *encode_chunk(values, _predict(scale, offset, q, dtype), _MODES[VERSION](values.itemsize)),
    ]


def decode_grid(body: memoryview, dtype: str, kind: int, version: int, out: Uints) -> None:
    """Undo `encode_grid`: fill `out` with weights, (n,), n a multiple of RUN.

    Raises:
        CodecError: If the body does not give exactly as many weights as `out` has.
    """
    scale, position = _unpack_column(body, 0, len(out) // RUN, version)
    offset = np.zeros_like(scale)
    if kind == AFFINE:
        offset, position = _unpack_column(body, position, len(out) // RUN, version)
    if kind == AFFINE and version > 1:
        pairs, position = unpack_stream(body, position, len(out) // 2)
        q = _apart(pairs)
    else:
        q, position = unpack_stream(body, position, len(out))
    levels: Levels = (q.view(np.int8) if kind == SYMMETRIC else q).reshape(-1, RUN)
    predicted = _predict(scale, offset, levels, dtype)
    decode_chunk(body[position:], predicted, _MODES[version](DTYPE_BITS[dtype] // 8), out)


def fits_grid(spec: TensorSpec) -> bool:
    """Whether a tensor's rows are whole runs."""
    return spec.dtype in DTYPES and bool(spec.shape) and spec.shape[-1] % RUN == 0 and spec.num_elements > 0


def write_grid(
    raw: memoryview, dtype: str, kind: int, workers: int = 1, take: TakeMemory = new_pages
) -> Buffer:
    """Payload of a block: version, dtype, kind, log2 of the chunk's bytes; lengths of the chunks; chunks."""
    values = np.frombuffer(raw, UINT[DTYPE_BITS[dtype] // 8])
    step = CHUNK_BYTES // values.itemsize

    def code(start: int) -> list[Buffer]:
        return encode_grid(values[start : start + step], dtype, kind)

    head = _HEAD.pack(VERSION, DTYPES.index(dtype), kind, CHUNK_BYTES.bit_length() - 1)
    starts = range(0, len(values), step)
    return join_chunks(head, starts, code, workers, take(len(raw)))


@dataclass(frozen=True, slots=True)
class GridChunks:
    """A payload of a grid, read as far as its chunks; see `Chunks`."""

    payload: memoryview
    dtype: str
    kind: int
    version: int
    bounds: list[int]
    num_elements: int
    chunk_elements: int

    @property
    def item_bytes(self) -> int:
        """See `Chunks`."""
        return DTYPE_BITS[self.dtype] // 8

    def fill(self, index: int, out: Uints) -> None:
        """See `Chunks`."""
        body = self.payload[self.bounds[index] : self.bounds[index + 1]]
        decode_grid(body, self.dtype, self.kind, self.version, out)


def read_grid(payload: memoryview, raw_bytes: int) -> GridChunks:
    """Read all of a payload but its chunks; they give exactly `raw_bytes` bytes.

    Raises:
        CodecError: If the payload is damaged in a way that shows before the bytes are hashed; so does `fill`.
    """
    if len(payload) < _HEAD.size:
        raise CodecError(f"codec payload has {len(payload)} bytes, its head needs {_HEAD.size}")
    version, number, kind, chunk_bits = _HEAD.unpack_from(payload)
    known = version in _MODES and number < len(DTYPES) and kind <= SYMMETRIC and chunk_bits in CHUNK_BITS
    item = DTYPE_BITS[DTYPES[number]] // 8 if known else 1
    if not known or raw_bytes % (RUN * item):
        raise CodecError(f"codec payload: no grid of version {version}, dtype {number}, kind {kind}")
    step, count = (1 << chunk_bits) // item, raw_bytes // item
    bounds = read_bounds(payload, _HEAD.size, -(-count // step))
    return GridChunks(payload, DTYPES[number], kind, version, bounds, count, step)


def _in_pairs(levels: Bytes) -> Bytes:
    """Two numbers of 0..15 in a byte."""
    pairs = levels.view("<u2")
    joined: Bytes = (pairs | pairs >> np.uint16(4)).astype(np.uint8)
    return joined


def _apart(pairs: Bytes) -> Bytes:
    """Undo `_in_pairs`; in scratch memory."""
    spread = scratch("pairs", len(pairs), "<u2")
    np.copyto(spread, pairs)
    spread |= np.left_shift(spread, np.uint16(4), out=scratch("shifted", len(pairs), "<u2"))
    spread &= np.uint16(0x0F0F)
    return spread.view(np.uint8)


def _pack_column(column: Floats) -> bytes:
    """Scales or offsets: bytes of an element, 2 if float16 has them all, else 4, and their planes."""
    with np.errstate(all="ignore"):
        half = column.astype(np.float16)
    exact = np.array_equal(half.astype(np.float32), column)
    bits: Uints = half.view(np.uint16) if exact else column.view(np.uint32)
    return b"".join(
        [bytes([bits.itemsize]), *(part for plane in split_planes(bits) for part in pack_stream(plane))]
    )


def _unpack_column(body: memoryview, position: int, count: int, version: int) -> tuple[Floats, int]:
    """Undo `_pack_column`; also the position behind it. Version 1 has float32 and does not say so."""
    item_bytes = 4
    if version > 1:
        item_bytes, position = (body[position] if position < len(body) else 0), position + 1
    if item_bytes not in (2, 4):
        raise CodecError("codec payload: a grid's scales have 2 or 4 bytes")
    planes: list[Bytes] = []
    for _ in range(item_bytes):
        plane, position = unpack_stream(body, position, count)
        planes.append(plane)
    bits = np.empty(count, UINT[item_bytes])
    merge_planes(planes, bits)
    return (bits.view(np.float16).astype(np.float32) if item_bytes == 2 else bits.view(np.float32)), position


def _to_floats(values: Uints, dtype: str) -> Floats:
    """Weights as float32, (n / RUN, RUN); what is not finite as 0."""
    number = cast_number(dtype, "F32")
    floats: Floats = (CASTS[number - 1][2](values) if number else values).view(np.float32)
    with np.errstate(all="ignore"):
        finite = np.isfinite(floats.sum())  # a sum that is not finite may also come of large weights
    if not finite:
        floats = np.nan_to_num(floats, posinf=0.0, neginf=0.0)
    return floats.reshape(-1, RUN)


def _predict(scale: Floats, offset: Floats, q: Levels, dtype: str) -> Uints:
    """Bits of scale * q + offset: one multiplication and one addition in float32, then a cast."""
    with np.errstate(all="ignore"):
        floats = scratch("floats", q.size, np.float32).reshape(-1, RUN)
        np.copyto(floats, q)
        floats *= scale[:, None]
        floats += offset[:, None]
    return _cast(floats.reshape(-1), dtype)


def _cast(floats: Floats, dtype: str) -> Uints:
    """Bits of floats (n,) in a dtype."""
    number = cast_number("F32", dtype)
    return CASTS[number - 1][2](floats.view(np.uint32)) if number else floats.view(np.uint32)


def _fit(values: Uints, dtype: str, kind: int) -> tuple[Floats, Floats, Levels]:
    """Scale and offset of each run, (n / RUN,), and the integers, (n / RUN, RUN).

    All sums go over the first axis of the transposed weights, (RUN, n / RUN), which numpy does fast.
    """
    v, q, weight = (scratch(f"fit {i}", len(values), np.float32).reshape(RUN, -1) for i in range(3))
    np.copyto(v, _to_floats(values, dtype).T)
    with np.errstate(all="ignore"):
        np.multiply(v, v, out=weight)
        weight += np.float32(1e-12)
        low, high = v.min(axis=0), v.max(axis=0)
        if kind == SYMMETRIC:
            np.copyto(q, v)
            _to_nearest(q, np.maximum(high, -low), 127)
            np.divide(q, weight, out=weight)
            scale = _dot(weight, v) / _dot(weight, q)
            return _rounded(scale), np.zeros_like(scale), _by_run(q).astype(np.int8)
        np.subtract(v, low, out=q)
        _to_nearest(q, high - low, 15)
        np.reciprocal(weight, out=weight)
        levels = _by_run(q).astype(np.uint8)
        scale, offset = _line(weight, q, v)
        return _rounded(scale), _rounded(offset), levels


def _fit_extremes(values: Uints, dtype: str, kind: int) -> tuple[Floats, Floats, Levels, float]:
    """The same from the least and the greatest weight of each run, as min-max quantisers set them.

    Also the share of the weights that scale and offset then give exactly.
    """
    turned = scratch("turned", len(values), values.dtype).reshape(RUN, -1)
    np.copyto(turned, values.reshape(-1, RUN).T)
    v = _to_floats(turned.reshape(-1), dtype).reshape(RUN, -1)
    q = scratch("fit 0", len(values), np.float32).reshape(RUN, -1)
    with np.errstate(all="ignore"):
        low, high = v.min(axis=0), v.max(axis=0)
        offset = low if kind == AFFINE else np.zeros_like(low)
        width, top = (high - low, 15) if kind == AFFINE else (np.maximum(high, -low), 127)
        np.subtract(v, offset, out=q)
        _to_nearest(q, width, top)
        turned_back = _by_run(q)
        levels: Levels = turned_back.astype(np.uint8) if kind == AFFINE else turned_back.astype(np.int8)
        scale, offset = _rounded(width / np.float32(top)), _rounded(offset)
        q *= scale  # as `_predict` does, in another order of the weights
        q += offset
    share = np.count_nonzero(_cast(q.reshape(-1), dtype) == turned.reshape(-1)) / len(values)
    return scale, offset, levels, share


def _by_run(q: Floats) -> Floats:
    """(RUN, n / RUN) to (n / RUN, RUN), in scratch memory; numpy is slow to do that with single bytes."""
    turned = scratch("floats", q.size, np.float32).reshape(-1, RUN)
    np.copyto(turned, q.T)
    return turned


def _to_nearest(v: Floats, width: Floats, levels: int) -> None:
    """Nearest integers of v, in place, on a scale on which `width` is `levels`."""
    safe = width.copy()
    safe[~(safe > 0)] = 1
    v *= np.float32(levels) / safe
    np.rint(v, out=v)


def _line(weight: Floats, q: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Weighted least squares of v on q, run by run, around the mean of q; overwrites weight and q."""
    total = weight.sum(axis=0)
    middle, mean = _dot(weight, q) / total, _dot(weight, v) / total
    q -= middle
    weight *= q
    scale: Floats = _dot(weight, v) / _dot(weight, q)
    offset: Floats = mean - scale * middle
    return scale, offset


def _dot(one: Floats, other: Floats) -> Floats:
    """Sums of products over the first axis."""
    sums: Floats = np.einsum("ij,ij->j", one, other)
    return sums


def _rounded(column: Floats) -> Floats:
    """To float16 where it has the digits, as float32."""
    finite: Floats = np.where(np.isfinite(column), column, np.float32(0)).astype(np.float32)
    half = finite.astype(np.float16).astype(np.float32)
    beyond = (np.abs(half) < np.float32(6.2e-5)) | ~np.isfinite(half)
    half[beyond] = finite[beyond]
    return half
