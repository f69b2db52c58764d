"""From a payload back to raw bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pbstore.blocks import CAST, RAW, RECAST, ZSTD
from pbstore.codecs.chunked import Chunks, LazyBase, decode_parts, decode_whole
from pbstore.codecs.grid import GRID, read_grid
from pbstore.codecs.payload import DELTA, NUMERIC, PLANES, read_payload
from pbstore.codecs.streams import unpack_stream
from pbstore.codecs.types import Buffer, CodecError

CODECS = (RAW, ZSTD, *NUMERIC, GRID, RECAST)
"""Every form that a block may be stored in."""
LAZY = (DELTA, CAST, RECAST)
"""Forms whose base need not be decoded as a whole."""


def decode(
    codec: str,
    payload: Buffer,
    raw_bytes: int,
    bases: Sequence[Buffer] = (),
    *,
    workers: int = 1,
    out: memoryview | None = None,
) -> memoryview:
    """Raw bytes of an encoded block: exactly `raw_bytes` of them, fixed before anything is decoded.

    Whether they are the right bytes only their hash can tell: the caller compares it with the block's id.

    Args:
        codec: `Encoded.codec`.
        payload: `Encoded.payload`.
        raw_bytes: Length of the result.
        bases: Raw bytes of `Encoded.needs`, in that order; of the first alone for "recast".
        workers: Threads that share the chunks.
        out: Memory for the result, exactly `raw_bytes` long; "raw" and "zstd" do without it.

    Returns:
        The bytes; writable memory of its own, except for "raw", which gives the payload itself.

    Raises:
        CodecError: If the codec is unknown or the payload does not fit.
    """
    data = memoryview(payload).cast("B")
    if codec in (RAW, ZSTD):
        return _opaque(codec, data, raw_bytes, len(bases))
    chunks = _chunks(codec, data, raw_bytes, [memoryview(base).cast("B") for base in bases])
    return decode_whole(chunks, workers, out)


def decode_in_parts(
    codec: str, payload: Buffer, raw_bytes: int, bases: Sequence[Buffer | LazyBase] = ()
) -> Iterator[memoryview]:
    """The same bytes in runs of about a megabyte, each valid until the next is asked for.

    Args:
        codec: `Encoded.codec`.
        payload: `Encoded.payload`.
        raw_bytes: Length of all runs.
        bases: As for `decode`; those of the codecs in `LAZY` may be lazy.
    """
    data = memoryview(payload).cast("B")
    if codec in (RAW, ZSTD):
        yield _opaque(codec, data, raw_bytes, len(bases))
    else:
        held = [base if isinstance(base, LazyBase) else memoryview(base).cast("B") for base in bases]
        yield from decode_parts(_chunks(codec, data, raw_bytes, held))


def lazy_base(
    codec: str, payload: Buffer, raw_bytes: int, bases: Sequence[Buffer | LazyBase] = ()
) -> Buffer | LazyBase:
    """A block as a base of `decode_in_parts`, decoded where it is asked for; its own bases as there."""
    held = [base if isinstance(base, LazyBase) else memoryview(base).cast("B") for base in bases]
    if codec in (PLANES, GRID, *LAZY):
        return LazyBase(_chunks(codec, memoryview(payload).cast("B"), raw_bytes, held))
    return decode(codec, payload, raw_bytes, [base for base in held if isinstance(base, memoryview)])


def _opaque(codec: str, data: memoryview, raw_bytes: int, num_bases: int) -> memoryview:
    if num_bases:
        raise CodecError(f"{codec} payload needs no base, got {num_bases}")
    if codec == RAW:
        if len(data) != raw_bytes:
            raise CodecError(f"raw payload has {len(data)} bytes, expected {raw_bytes} and no base")
        return data
    stream, position = unpack_stream(data, 0, raw_bytes)
    if position != len(data):
        raise CodecError(f"zstd payload has {len(data)} bytes, {position} were expected")
    return np.require(stream, requirements="W").data


def _chunks(codec: str, data: memoryview, raw_bytes: int, bases: Sequence[memoryview | LazyBase]) -> Chunks:
    if codec == GRID:
        if bases:
            raise CodecError(f"grid payload needs no base, got {len(bases)}")
        return read_grid(data, raw_bytes)
    if codec == RECAST:
        codec = CAST
    if codec not in NUMERIC:
        raise CodecError(f"unknown codec {codec[:40]!r}")
    return read_payload(codec, data, raw_bytes, bases)
