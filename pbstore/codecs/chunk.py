"""One chunk of a tensor: unsigned integers, and an optional prediction of them, to bytes and back.

The steps, each optional and named by `Mode`:

1. difference to the prediction modulo 2^bits, minus a correction looked up by the prediction's top mantissa
   bits (AdamW's weight decay moves every untouched weight by a step that only depends on its mantissa);
   without a prediction, rotate the sign bit to the end, so that the exponent fills one byte;
2. add 0x80 to every byte of the difference, with carry (`balanced`), so that small ones of both signs have
   constant high bytes; chunks of earlier stores have the zigzag of the difference instead;
3. order the elements by the prediction's exponent, which tells how large the difference may be;
4. a bit mask of the non-zero elements, and only these afterwards;
5. byte planes, each stored as a stream.

A chunk that equals its prediction is one byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pbstore.codecs.scratch import scratch
from pbstore.codecs.streams import Bytes, pack_stream, unpack_stream
from pbstore.codecs.types import Buffer, CodecError

Uints: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

CHUNK_BYTES = 1 << 20
"""Raw bytes of a chunk; each is coded on its own: bounded memory, shared work, all in the cache."""
TABLE_BITS = 10
UINT: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_SAME, _CODED = 0, 1
SAME_AS_PREDICTED = bytes([_SAME])
"""A chunk that equals its prediction."""
_GROUP_ELEMENTS, _FIRST_ELEMENTS = 2048, 256


@dataclass(frozen=True, slots=True)
class Mode:
    """How a chunk is coded; the same for all chunks of a block.

    Attributes:
        item_bytes: Bytes of an element, 1, 2, 4 or 8.
        rotate: Move the sign bit to the end (only without prediction).
        context_shift: Order by bits [shift, shift + 8) of the prediction; None keeps the order.
        mask: Store a bit mask and the non-zero elements.
        table: Corrections by the top mantissa bits of the prediction, int32 (2^TABLE_BITS,); only for 4-byte
            floats.
        balanced: Differences with 0x80 added to every byte; False for the zigzag of earlier stores, which is
            only read.
    """

    item_bytes: int = 1
    rotate: bool = False
    context_shift: int | None = None
    mask: bool = False
    table: npt.NDArray[np.int32] | None = None
    balanced: bool = True


def encode_chunk(values: Uints, predicted: Uints | None, mode: Mode) -> list[Buffer]:
    """Code the elements of a chunk.

    Args:
        values: Elements as unsigned integers, (n,).
        predicted: Their prediction, (n,), or None.
        mode: The steps to take.

    Returns:
        The chunk's bytes in parts, for `decode_chunk`; valid until this thread codes the next chunk.
    """
    if predicted is None:
        return [bytes([_CODED]), *_pack_planes(_rotated(values) if mode.rotate else values, mode, [])]
    some = slice(_FIRST_ELEMENTS)  # most chunks differ at once
    if np.array_equal(values[some], predicted[some]) and np.array_equal(values, predicted):
        return [SAME_AS_PREDICTED]
    coded = np.subtract(values, predicted, out=scratch("coded", len(values), values.dtype))
    if mode.table is not None:
        coded -= correction(predicted, mode.table)
    coded += bias(mode.item_bytes)
    cuts: list[int] = []
    if mode.context_shift is not None:
        context = _context(predicted, mode.context_shift)
        order = np.argsort(context, kind="stable")
        coded = np.take(coded, order, out=scratch("ordered", len(coded), coded.dtype), mode="clip")
        cuts = _cuts(np.take(context, order, out=scratch("contexts", len(coded), np.uint8), mode="clip"))
    return [bytes([_CODED]), *_pack_planes(coded, mode, cuts)]


def num_bytes(parts: list[Buffer]) -> int:
    """Bytes of a coded chunk."""
    return sum(map(len, parts))


def decode_chunk(body: memoryview, predicted: Uints | None, mode: Mode, out: Uints) -> None:
    """Undo `encode_chunk`.

    Args:
        body: The chunk's bytes.
        predicted: Prediction of the elements, (n,), or None; not `out` itself.
        mode: The steps that were taken.
        out: Filled with the elements, (n,).

    Raises:
        CodecError: If the body does not give exactly as many elements as `out` has.
    """
    if not len(body) or body[0] > _CODED or (body[0] == _SAME and predicted is None):
        raise CodecError("codec payload: a chunk has no valid first byte")
    if predicted is not None and body[0] == _SAME:
        position = 1
        np.copyto(out, predicted)
    else:
        position = _unpack_planes(body, mode, out)
        _straighten(out, predicted, mode)
    if predicted is not None and body[0] == _CODED:
        if mode.table is not None:
            out += correction(predicted, mode.table)
        out += predicted
    if position != len(body):
        raise CodecError(f"codec payload: a chunk has {len(body)} bytes, {position} were expected")


@cache
def bias(item_bytes: int) -> np.unsignedinteger[Any]:
    """0x80 in every byte of an element."""
    return UINT[item_bytes](int.from_bytes(b"\x80" * item_bytes, "little"))


def split_planes(values: Uints) -> list[Bytes]:
    """Byte i of every element, for each i, lowest first; in this thread's scratch memory."""
    parts = [values]
    while parts[0].itemsize > 1:
        parts = [half for i, part in enumerate(parts) for half in _halves(part, f"{len(parts)} {i}")]
    return [part.view(np.uint8) for part in parts]


def _halves(values: Uints, name: str) -> tuple[Uints, Uints]:
    """The lower and the upper half of every element: halving twice moves less memory than four shifts."""
    bits = 4 * values.itemsize
    low, high = (scratch(f"{half} {name}", len(values), UINT[bits // 8]) for half in ("low", "high"))
    np.copyto(low, values, casting="unsafe")
    np.right_shift(values, values.dtype.type(bits), out=high, casting="unsafe")
    return low, high


def merge_planes(planes: list[Bytes], out: Uints) -> None:
    """Undo `split_planes`."""
    parts: list[Uints] = list(planes)
    while len(parts) > 1:
        item = 2 * parts[0].itemsize
        factor = UINT[item](1 << 4 * item)  # numpy multiplies into a wider type faster than it shifts
        joined = []
        for i in range(0, len(parts), 2):
            whole = out if len(parts) == 2 else scratch(f"joined {item} {i}", len(out), UINT[item])
            np.multiply(parts[i + 1], factor, out=whole)
            joined.append(np.bitwise_or(whole, parts[i], out=whole))
        parts = joined
    if parts[0] is not out:
        np.copyto(out, parts[0])


def correction(predicted: Uints, table: npt.NDArray[np.int32]) -> Uints:
    """Correction of each element, by the top mantissa bits of its prediction; in scratch memory."""
    key = scratch("shifted", len(predicted), np.uint32)
    np.right_shift(predicted, np.uint32(23 - TABLE_BITS), out=key)
    key &= np.uint32((1 << TABLE_BITS) - 1)
    index = scratch("index", len(predicted), np.intp)
    np.copyto(index, key)
    found: Uints = np.take(table.view(np.uint32), index, out=key, mode="clip")
    return found


def _rotated(values: Uints) -> Uints:
    """The sign bit at the lower end; in scratch memory."""
    kind = values.dtype.type
    coded: Uints = np.multiply(values, kind(2), out=scratch("coded", len(values), values.dtype))
    coded |= np.right_shift(
        values, kind(8 * values.itemsize - 1), out=scratch("shifted", len(values), values.dtype)
    )
    return coded


def _context(predicted: Uints, shift: int) -> Bytes:
    moved = scratch("shifted", len(predicted), predicted.dtype)
    np.right_shift(predicted, predicted.dtype.type(shift), out=moved)
    return moved.astype(np.uint8)


def _cuts(ordered: Bytes) -> list[int]:
    """Where the ordered chunk passes from one context to the next, small contexts joined."""
    kept = [0]
    for end in (np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist():
        if end - kept[-1] >= _GROUP_ELEMENTS:
            kept.append(end)
    return kept[1:]


def _pack_planes(coded: Uints, mode: Mode, cuts: list[int]) -> list[Buffer]:
    """Mask and planes; `cuts` says where the statistics change."""
    parts: list[Buffer] = []
    if mode.mask:
        nonzero = coded != bias(mode.item_bytes)
        parts += pack_stream(np.packbits(nonzero))
        coded = coded[nonzero]
        if len(cuts):
            cuts = np.cumsum(np.add.reduceat(nonzero, [0, *cuts], dtype=np.int64))[:-1].tolist()
    inner = [cut for cut in dict.fromkeys(cuts) if 0 < cut < len(coded)]
    for plane in split_planes(coded):
        parts += pack_stream(plane, inner)
    return parts


def _unpack_planes(body: memoryview, mode: Mode, out: Uints) -> int:
    """Fill `out` with what `_pack_planes` was given; returns the position behind it."""
    position, nonzero, count = 1, None, len(out)
    if mode.mask:
        bits, position = unpack_stream(body, position, (len(out) + 7) // 8)
        nonzero = np.flatnonzero(np.unpackbits(bits, count=len(out)).view(np.bool_))
        count = len(nonzero)
    planes = []
    for _ in range(mode.item_bytes):
        plane, position = unpack_stream(body, position, count)
        planes.append(plane)
    if nonzero is None:
        merge_planes(planes, out)
    else:
        packed = scratch("coded", count, out.dtype)
        merge_planes(planes, packed)
        out[...] = bias(mode.item_bytes) if mode.balanced else 0
        out[nonzero] = packed
    return position


def _straighten(out: Uints, predicted: Uints | None, mode: Mode) -> None:
    """From coded elements to differences, or to rotated-back elements, in place."""
    kind = out.dtype.type
    if predicted is None:
        if mode.rotate:
            top = kind(1 << 8 * mode.item_bytes - 1)  # numpy multiplies faster than it shifts
            high = np.multiply(out, top, out=scratch("shifted", len(out), out.dtype))
            out >>= kind(1)
            out |= high
        return
    if mode.context_shift is not None:
        ordered = scratch("ordered", len(out), out.dtype)
        ordered[np.argsort(_context(predicted, mode.context_shift), kind="stable")] = out
        np.copyto(out, ordered)
    if mode.balanced:
        out -= bias(mode.item_bytes)
    else:
        _unzigzag(out)


def _unzigzag(out: Uints) -> None:
    """Map 0, 1, 2, 3, ... to 0, -1, 1, -2, ..., in place: how earlier stores keep signs."""
    one = out.dtype.type(1)
    sign = out & one
    np.negative(sign, out=sign)
    out >>= one
    out ^= sign
