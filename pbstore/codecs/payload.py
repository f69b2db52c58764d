"""Payload of the numeric codecs: a head, the prediction's description, the lengths of the chunks, the chunks.

    head       version, element bytes, flags, context shift (255: none), log2 of the chunk's raw bytes
    table      int32 (2^TABLE_BITS,) as a stream, when the flag says so
    prediction what `Prediction.header` gave; of codecs "derive1" to "derive3" a program, see `derive.grammar`
    lengths    4 bytes for each chunk
    chunks     each as `encode_chunk` made it, behind what it chooses of several predictions

Everything is little-endian. The number of chunks follows from the raw length, which the caller knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pbstore.blocks import CAST
from pbstore.codecs.chunk import (
    CHUNK_BYTES,
    TABLE_BITS,
    UINT,
    Mode,
    Uints,
    decode_chunk,
    encode_chunk,
    num_bytes,
)
from pbstore.codecs.chunked import LazyBase, parallel
from pbstore.codecs.derive.choices import decode_choices, encode_choices
from pbstore.codecs.derive.evaluate import DERIVED, Derived, read_derived
from pbstore.codecs.predict import Prediction, read_lora, read_runs, read_straight
from pbstore.codecs.scratch import TakeMemory, new_pages
from pbstore.codecs.streams import pack_stream, unpack_stream
from pbstore.codecs.types import Buffer, CodecError

VERSION = 1
PLANES, DELTA, ROWS, LORA = "planes", "delta", "rows", "lora"
NUMERIC = (PLANES, DELTA, CAST, ROWS, LORA, *DERIVED)
_HEAD = struct.Struct("<5B")
CHUNK_BITS = range(12, 27)
_ROTATE, _MASK, _TABLE, _BALANCED = 1, 2, 4, 8
_NO_CONTEXT = 255
_SHORT_BYTES = 1 << 15
"""Parts that are copied while other threads wait: to let them run and wait for them takes longer."""


def write_payload(
    raw: memoryview,
    mode: Mode,
    prediction: Prediction | None,
    workers: int = 1,
    take: TakeMemory = new_pages,
) -> Buffer:
    """Code all chunks of a block; `raw` holds whole elements."""
    values = np.frombuffer(raw, UINT[mode.item_bytes])
    step = CHUNK_BYTES // mode.item_bytes

    def code(start: int) -> list[Buffer]:
        return encode_predicted(values[start : start + step], start, mode, prediction)

    flags = mode.rotate * _ROTATE | mode.mask * _MASK | (mode.table is not None) * _TABLE | _BALANCED
    context = _NO_CONTEXT if mode.context_shift is None else mode.context_shift
    parts: list[Buffer] = [_HEAD.pack(VERSION, mode.item_bytes, flags, context, CHUNK_BYTES.bit_length() - 1)]
    if mode.table is not None:
        parts += pack_stream(mode.table.view(np.uint8), text=True)
    if prediction is not None:
        parts.append(prediction.header())
    starts = range(0, len(values), step)
    return join_chunks(b"".join(parts), starts, code, workers, take(len(raw) + 4 * len(starts)))


def encode_predicted(values: Uints, start: int, mode: Mode, prediction: Prediction | None) -> list[Buffer]:
    """Code a chunk that starts at an element: what it chooses of several predictions, then the rest."""
    stop = start + len(values)
    if isinstance(prediction, Derived) and len(prediction.kinds) > 1:
        chosen, expected = encode_choices(values, prediction.alternatives(start, stop))
        return [*chosen, *encode_chunk(values, expected, mode)]
    return encode_chunk(values, None if prediction is None else prediction.elements(start, stop), mode)


@dataclass(frozen=True, slots=True)
class NumericChunks:
    """A numeric payload, read as far as its chunks; see `Chunks`."""

    payload: memoryview
    mode: Mode
    prediction: Prediction | None
    bounds: list[int]
    num_elements: int
    chunk_elements: int

    @property
    def item_bytes(self) -> int:
        """See `Chunks`."""
        return self.mode.item_bytes

    def fill(self, index: int, out: Uints) -> None:
        """See `Chunks`."""
        start = index * self.chunk_elements
        body = self.payload[self.bounds[index] : self.bounds[index + 1]]
        if isinstance(self.prediction, Derived) and len(self.prediction.kinds) > 1:
            alternatives = self.prediction.alternatives(start, start + len(out))
            expected, position = decode_choices(body, 0, alternatives)
            decode_chunk(body[position:], expected, self.mode, out)
            return
        predicted = None if self.prediction is None else self.prediction.elements(start, start + len(out))
        decode_chunk(body, predicted, self.mode, out)


def read_payload(
    codec: str, payload: memoryview, raw_bytes: int, bases: Sequence[memoryview | LazyBase]
) -> NumericChunks:
    """Read all of a payload but its chunks; they give exactly `raw_bytes` bytes.

    Only a single base of a straight difference may be lazy.

    Raises:
        CodecError: If the payload is damaged in a way that shows before the bytes are hashed; so does `fill`.
    """
    mode, chunk_bytes, position = _read_mode(payload)
    if raw_bytes % mode.item_bytes:
        raise CodecError(f"codec payload: {raw_bytes} bytes are not whole elements of {mode.item_bytes}")
    prediction, position = _read_prediction(codec, payload, position, mode, bases, raw_bytes)
    step, count = chunk_bytes // mode.item_bytes, raw_bytes // mode.item_bytes
    bounds = read_bounds(payload, position, -(-count // step))
    return NumericChunks(payload, mode, prediction, bounds, count, step)


def _read_mode(payload: memoryview) -> tuple[Mode, int, int]:
    """Mode, raw bytes of a chunk, and the position behind."""
    if len(payload) < _HEAD.size:
        raise CodecError(f"codec payload has {len(payload)} bytes, its head needs {_HEAD.size}")
    version, item_bytes, flags, context, chunk_bits = _HEAD.unpack_from(payload)
    if version != VERSION or item_bytes not in UINT or flags > 15:
        raise CodecError(f"codec payload: version {version}, element {item_bytes}, flags {flags} are unknown")
    if context != _NO_CONTEXT and context >= 8 * item_bytes:
        raise CodecError(f"codec payload: context shift {context} in elements of {item_bytes} bytes")
    if chunk_bits not in CHUNK_BITS:
        raise CodecError(f"codec payload: chunks of 2^{chunk_bits} bytes")
    position, table = _HEAD.size, None
    if flags & _TABLE:
        if item_bytes != 4:
            raise CodecError(f"codec payload: a table of corrections for elements of {item_bytes} bytes")
        stream, position = unpack_stream(payload, position, 4 << TABLE_BITS)
        table = stream.view(np.int32)
    mode = Mode(
        item_bytes=item_bytes,
        rotate=bool(flags & _ROTATE),
        context_shift=None if context == _NO_CONTEXT else context,
        mask=bool(flags & _MASK),
        table=table,
        balanced=bool(flags & _BALANCED),
    )
    return mode, 1 << chunk_bits, position


def _read_prediction(
    codec: str,
    payload: memoryview,
    position: int,
    mode: Mode,
    bases: Sequence[memoryview | LazyBase],
    raw_bytes: int,
) -> tuple[Prediction | None, int]:
    if codec == PLANES:
        if bases or mode.table is not None or mode.context_shift is not None:
            raise CodecError("codec payload: planes without a base have no context, table or base")
        return None, position
    if codec in (DELTA, CAST):
        return read_straight(payload, position, mode.item_bytes, bases)
    held = [base for base in bases if isinstance(base, memoryview)]
    if codec in DERIVED and len(held) == len(bases) == 1 + DERIVED.index(codec):
        return read_derived(payload, position, mode.item_bytes, held, raw_bytes)
    if codec == ROWS and len(held) == len(bases):
        return read_runs(payload, position, mode.item_bytes, held, raw_bytes)
    if codec == LORA and len(held) == len(bases):
        return read_lora(payload, position, mode.item_bytes, held, raw_bytes)
    raise CodecError(f"unknown codec {codec!r}")


def join_chunks(
    head: bytes, starts: range, code: Callable[[int], list[Buffer]], workers: int, out: memoryview
) -> Buffer:
    """Head, lengths of the chunks, chunks; in `out`, or in more memory if they need it."""
    position = begin = len(head) + 4 * len(starts)
    if begin > len(out):
        out = new_pages(begin)
    whole = np.frombuffer(out, np.uint8)
    lengths = np.zeros(len(starts), "<u4")
    shared = workers > 1 and len(starts) > 1

    def in_memory_of_its_own(start: int) -> list[Buffer]:
        return [np.concatenate([np.frombuffer(part, np.uint8) for part in code(start)]).data]

    for index, parts in enumerate(parallel(in_memory_of_its_own if shared else code, starts, workers)):
        lengths[index] = num_bytes(parts)
        if position + num_bytes(parts) > len(out):
            more = new_pages(2 * len(out) + num_bytes(parts))
            more[:position] = out[:position]
            out, whole = more, np.frombuffer(more, np.uint8)
        for part in parts:
            end = position + len(part)
            if len(part) < _SHORT_BYTES:
                out[position:end] = part
            else:  # numpy lets other threads run meanwhile
                np.copyto(whole[position:end], np.frombuffer(part, np.uint8))
            position = end
    out[:begin] = head + lengths.tobytes()
    return out[:position]


def read_bounds(payload: memoryview, position: int, count: int) -> list[int]:
    """Where the chunks begin and the last one ends, from their lengths at `position`.

    Raises:
        CodecError: If they do not end where the payload does.
    """
    begin = position + 4 * count
    if begin > len(payload):
        raise CodecError(f"codec payload has {len(payload)} bytes, its table needs {begin}")
    lengths = np.frombuffer(payload[position:begin], "<u4").astype(np.int64)
    bounds: list[int] = (begin + np.concatenate([[0], np.cumsum(lengths)])).tolist()
    if bounds[-1] != len(payload):
        raise CodecError(f"codec payload has {len(payload)} bytes, its chunks need {bounds[-1]}")
    return bounds
