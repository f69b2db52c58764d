"""Byte streams of known length, each stored in one of four ways: one repeated byte, as is, zstd, or masked.

A masked stream has one byte value in most places: a bit mask of the other places and the bytes there, each a
stream itself. Huffman codes spend a whole bit on the common byte, and matches are slow to find between rare
others: the mask is 10 to 35 % smaller there and takes half the time (differences of MiniLM's fine-tunes).

    head      form (1 byte): repeated 0, as is 1, zstd 2, masked 3; number of bytes that follow (4 bytes)
    masked    the common byte; a stream of one bit for each byte, set where it is another, first byte in the
              highest bit; a stream of the other bytes; neither of the two streams is masked

A stream never expands by more than its 5-byte head. zstd runs at level 1 with long minimum matches and a tiny
hash table: planes of weights hold no real matches, so the search only costs time and splits literals that
Huffman codes better (2.5 times faster and 8 % smaller on exponents than plain level 1, measured on MiniLM).
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zstandard

from pbstore.codecs.scratch import scratch
from pbstore.codecs.types import Buffer, CodecError

Bytes = npt.NDArray[np.uint8]

_HEAD = struct.Struct("<BI")
REPEAT, PLAIN, ZSTD, MASKED = 0, 1, 2, 3
_PROBE_BYTES = 4096
_PROBE_FROM_BYTES = 2 * _PROBE_BYTES
_MASK_SHARE = 0.5
_SLOW_SEARCH = 0.04
_EVEN_SHARE = 0.02
_RANDOM_BITS = 7.8
"""Entropy of a sample from which on coding it saves less than 2 %."""
_ENTROPY = zstandard.ZstdCompressionParameters.from_level(1, min_match=7, hash_log=6)
_TEXT = zstandard.ZstdCompressionParameters.from_level(3)
_TIMES_LOG = np.arange(2 * _PROBE_BYTES) * np.log2(np.maximum(np.arange(2 * _PROBE_BYTES), 1))
_local = threading.local()


def _compressor(text: bool) -> zstandard.ZstdCompressor:
    name = "text" if text else "entropy"
    found: zstandard.ZstdCompressor | None = getattr(_local, name, None)
    if found is None:
        found = zstandard.ZstdCompressor(compression_params=_TEXT if text else _ENTROPY)
        setattr(_local, name, found)
    return found


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor()
    return found


def pack_stream(data: Bytes, cuts: Sequence[int] = (), *, text: bool = False) -> list[Buffer]:
    """Store a stream.

    Args:
        data: The bytes.
        cuts: Where the statistics change, ascending, inside the stream: each part gets its own Huffman codes.
        text: Search for real matches (level 3) instead of coding entropy only.

    Returns:
        The parts to be written one after another: the head, then the stored bytes, maybe `data` itself.
    """
    if not data.size:
        return [_HEAD.pack(PLAIN, 0)]
    if len(data) < _PROBE_FROM_BYTES or text:
        return _repeated(data) or _pack_plain(data, cuts, text)
    sample = data[:: len(data) // _PROBE_BYTES]
    counts = np.bincount(sample, minlength=256)
    most = counts.max()
    if most == len(sample) and (repeated := _repeated(data)):
        return repeated
    if most <= _EVEN_SHARE * len(sample) and _entropy(counts, len(sample)) > _RANDOM_BITS:
        return [_HEAD.pack(PLAIN, len(data)), data.data]
    if most > _MASK_SHARE * len(sample) and not cuts:
        return _pack_masked(data, np.uint8(counts.argmax()))
    return _pack_plain(data, cuts)


def _repeated(data: Bytes) -> list[Buffer]:
    """The parts of a stream of one byte; none of another."""
    if data[0] != data[-1] or np.any(data != data[0]):
        return []
    return [_HEAD.pack(REPEAT, 1), bytes(data[:1])]


def _entropy(counts: npt.NDArray[np.intp], total: int) -> float:
    """Bits of a byte in a sample of less than 2 * _PROBE_BYTES bytes, a little less than in the whole."""
    return math.log2(total) - float(_TIMES_LOG[counts].sum()) / total


def _pack_plain(data: Bytes, cuts: Sequence[int] = (), text: bool = False) -> list[Buffer]:
    data = np.ascontiguousarray(data)
    packed = _compress(data.data, cuts, _compressor(text))
    if len(packed) < data.size:
        return [_HEAD.pack(ZSTD, len(packed)), packed]
    return [_HEAD.pack(PLAIN, data.size), data.data]


def _pack_masked(data: Bytes, common: np.uint8) -> list[Buffer]:
    other = np.not_equal(data, common, out=scratch("other", len(data), np.bool_))
    mask, rest = _pack_plain(np.packbits(other)), _pack_plain(data[_places(other)])
    parts = [bytes([common]), *mask, *rest]
    return [_HEAD.pack(MASKED, sum(map(len, parts))), *parts]


def _places(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Where an array is true.

    Up to a tenth of trues numpy searches for each by itself, beyond that it goes through all without a
    branch, which is three times faster than its search near a tenth: there it is given more trues at the end.
    """
    count = int(np.count_nonzero(marked))
    if not _SLOW_SEARCH * len(marked) < count <= 0.1 * len(marked):
        return np.flatnonzero(marked)
    padded = scratch("padded", len(marked) + len(marked) // 8, np.bool_)
    padded[: len(marked)] = marked
    padded[len(marked) :] = True
    return np.flatnonzero(padded)[:count]


def _compress(data: memoryview, cuts: Sequence[int], compressor: zstandard.ZstdCompressor) -> bytes:
    if not cuts:
        return compressor.compress(data)
    writer = compressor.compressobj(size=len(data))
    parts = []
    for begin, end in zip([0, *cuts[:-1]], cuts, strict=True):
        parts += [writer.compress(data[begin:end]), writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join([*parts, writer.compress(data[cuts[-1] :]), writer.flush()])


def unpack_stream(
    payload: memoryview, position: int, length: int, *, masked: bool = True
) -> tuple[Bytes, int]:
    """Read the stream of `length` bytes that starts at `position`; its output size is fixed beforehand.

    Args:
        payload: Holds the stream.
        position: Its first byte.
        length: Bytes that it must give.
        masked: Whether it may be masked; the parts of a masked stream may not.

    Returns:
        The stream (read-only) and the position behind it.

    Raises:
        CodecError: If the stored form is damaged or does not give exactly `length` bytes.
    """
    if position + _HEAD.size > len(payload):
        raise CodecError(f"codec payload ends at {len(payload)}, inside the head of a stream")
    mode, stored = _HEAD.unpack_from(payload, position)
    begin = position + _HEAD.size
    end = begin + stored
    if end > len(payload):
        raise CodecError(f"codec payload has {len(payload)} bytes, a stream needs {end}")
    if mode == REPEAT and stored == 1:
        return np.full(length, payload[begin], np.uint8), end
    if mode == PLAIN and stored == length:
        return np.frombuffer(payload[begin:end], np.uint8), end
    if mode == ZSTD:
        return np.frombuffer(decompress(payload[begin:end], length), np.uint8), end
    if mode == MASKED and stored > 1 and masked:
        return _unpack_masked(payload[begin:end], length), end
    raise CodecError(f"codec payload: stream of {length} bytes has form {mode} with {stored} bytes")


def _unpack_masked(body: memoryview, length: int) -> Bytes:
    bits, position = unpack_stream(body, 1, (length + 7) // 8, masked=False)
    places = _places(np.unpackbits(bits, count=length).view(np.bool_))
    others, position = unpack_stream(body, position, len(places), masked=False)
    if position != len(body):
        raise CodecError(f"codec payload: a masked stream has {len(body)} bytes, {position} were expected")
    data = np.full(length, body[0], np.uint8)
    data[places] = others
    return data


def decompress(data: memoryview, length: int) -> bytes:
    """Decompress one zstd frame of exactly `length` bytes; nothing is allocated before the size is checked.

    Raises:
        CodecError: If the frame is damaged or declares another size.
    """
    try:
        declared = zstandard.get_frame_parameters(data).content_size
        if declared != length:
            raise CodecError(f"zstd frame declares {declared} bytes, expected {length}")
        raw = _decompressor().decompress(data, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(f"zstd frame is damaged: {error}") from error
    if len(raw) != length:
        raise CodecError(f"zstd frame gives {len(raw)} bytes, expected {length}")
    return raw
