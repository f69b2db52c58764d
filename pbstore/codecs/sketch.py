"""Finding the stored tensors most like a new one, by content: no names, shards or dtypes.

A sketch holds two things. *Marks* are 64-bit hashes that similar tensors share: of a few sampled values cut
to half an octave (they survive fine-tuning and casts), and the smallest hashes of whole rows (they survive
moved, inserted and fused rows). *Values* are about 1,024 sampled values as bfloat16, to rank what the marks
found. Positions depend on powers of two below the number of elements, so that a longer tensor shares them.

An index keeps the marks of eligible bases only; a look-up touches a few short lists whatever the number of
tensors. Of a block that is stored as a difference it keeps two numbers, its `cast_keys`, by which an exact
cast of it is recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pbstore.codecs.casts import bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16
from pbstore.codecs.chunk import UINT
from pbstore.codecs.rows import row_keys
from pbstore.codecs.types import HEAD_BYTES, BlockId, Buffer, CodecError, TensorSpec

_LEVELS = 3
_VALUES = 336
_BANDS = 8
_BAND_VALUES = 4
_ROW_MARKS = 24
_LONGEST_LIST = 64
_CLEAR_BITS = 6.0
_CLOSE_BITS = 0.5
_SMALL_ELEMENTS = 1 << 16
_CAST_VALUES = 128
PROBES, PROBED_ELEMENTS = 32, 8192
"""Elements of a probe, and of the least tensor that has one."""
MOST_SHARE = 0.01
"""Of a tensor's bytes, what an index may keep to find it by."""
GROUP_SHARE = 0.001
"""The same of a group of tiny tensors."""
MARK_BYTES = 24
"""About what a mark takes in an index beside the sketch."""
MAX_HITS = 24
"""Blocks worth a look at their values, of those that share marks."""
MIN_ELEMENTS = 64
"""Smaller tensors have no sketch: they cost next to nothing whole."""
_FLOATS = ("F32", "BF16", "F16", "F64")
CASTABLE = ("F32", "BF16", "F16")
"""Dtypes between which casts are known, see `casts.CASTS`."""

U16 = npt.NDArray[np.uint16]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is known of a tensor without its bytes.

    Attributes:
        level: Floor of the binary logarithm of the number of elements.
        values: Sampled values as bfloat16 bits, uint16 (levels, values per level), the highest level first;
            none (0, values per level) where only marks were kept.
        marks: Hashes shared by similar tensors, int64 (n,), each once, those that tell most first.
    """

    level: int
    values: U16
    marks: I64

    @property
    def has_values(self) -> bool:
        """Whether it tells how near a tensor is, not only that it may be."""
        return len(self.values) > 0

    def within(self, num_bytes: int, *, group: bool = False) -> Sketch:
        """What of the sketch an index keeps of a tensor of so many bytes: a hundredth, of a group less.

        Whole from about 360 KB on, below that the first marks only, one at least: the values can be had from
        the tensor, which is read quickly.
        """
        share = GROUP_SHARE if group else MOST_SHARE
        if len(self.to_bytes()) + MARK_BYTES * len(self.marks) <= num_bytes * share:
            return self
        count = int(num_bytes * share) // (8 + MARK_BYTES)
        return Sketch(self.level, self.values[:0], self.marks[: max(1, count)])

    def to_bytes(self) -> bytes:
        """The sketch as bytes for an index on disk: about 2 kB, or 8 a mark."""
        return bytes([self.level]) + self.values.astype("<u2").tobytes() + self.marks.astype("<i8").tobytes()

    @staticmethod
    def from_bytes(stored: bytes) -> Sketch:
        """Undo `to_bytes`.

        Raises:
            CodecError: If the bytes are not a sketch.
        """
        size = 1 + _LEVELS * _VALUES * 2
        if 1 < len(stored) < size and len(stored) % 8 == 1:
            marks = np.frombuffer(stored, "<i8", offset=1)
            return Sketch(stored[0], np.empty((0, _VALUES), np.uint16), marks)
        if len(stored) < size or (len(stored) - size) % 8:
            raise CodecError(f"a sketch has {size} + 8 n bytes or 1 + 8 n, got {len(stored)}")
        values = np.frombuffer(stored, "<u2", _LEVELS * _VALUES, 1).reshape(_LEVELS, _VALUES)
        return Sketch(stored[0], values, np.frombuffer(stored, "<i8", offset=size))


def sketch(raw: Buffer, spec: TensorSpec) -> Sketch | None:
    """Sketch of a tensor, None if it is too small, constant or not made of numbers.

    Args:
        raw: The tensor's bytes.
        spec: Its dtype and shape.

    Raises:
        ValueError: If `spec` does not fit the number of bytes.
    """
    data = memoryview(raw).cast("B")
    if spec.num_bytes != len(data):
        raise ValueError(f"{spec} needs {spec.num_bytes} bytes, got {len(data)}")
    if not _has_sketch(spec):
        return None
    count, level = spec.num_elements, spec.num_elements.bit_length() - 1
    values = _values_of(data, spec, level)
    bands = _bands(values, level, count, spec.dtype in _FLOATS)
    keys = row_keys(data, spec)
    rows = _smallest(keys, _ROW_MARKS).view(np.int64).tolist() if len(keys) >= 4 else []
    marks = [mark for pair in zip_longest(bands, rows) for mark in pair if mark is not None]
    if not marks:
        return None
    return Sketch(level, values, np.array(list(dict.fromkeys(marks)), np.int64))


def glance(raw: Buffer, spec: TensorSpec) -> Sketch | None:
    """A tensor's sketch without marks, which takes a fraction of the time; None as `sketch`."""
    if not _has_sketch(spec):
        return None
    level = spec.num_elements.bit_length() - 1
    return Sketch(level, _values_of(raw, spec, level), np.empty(0, np.int64))


def _values_of(raw: Buffer, spec: TensorSpec, level: int) -> U16:
    items = np.frombuffer(raw, UINT[spec.item_bytes])
    return _as_bf16(items[_all_positions(level)], spec.dtype).reshape(_LEVELS, _VALUES)


def probe(raw: Buffer, spec: TensorSpec) -> bytes | None:
    """A tensor's first `HEAD_BYTES` bytes and a few exact elements; None for a small tensor.

    By these a merge of it is recognised, and the tensor itself inside a file of an unknown format.
    """
    if spec.num_elements < PROBED_ELEMENTS or not _has_sketch(spec):
        return None
    items = np.frombuffer(raw, UINT[spec.item_bytes])
    return bytes(memoryview(raw).cast("B")[:HEAD_BYTES]) + items[probed(spec)].tobytes()


def probed(spec: TensorSpec) -> npt.NDArray[np.int64]:
    """Which elements are in a tensor's probe."""
    return _positions(spec.num_elements.bit_length() - 1)[:PROBES]


def cast_keys(raw: Buffer, spec: TensorSpec) -> dict[str, int]:
    """Numbers by which exact casts of a tensor are recognised, without its bytes.

    Of a tensor and an exact cast of it, the numbers for the narrower of the two dtypes are equal. So may be
    those of tensors that differ only where nothing is sampled.

    Args:
        raw: The tensor's bytes.
        spec: Its dtype and shape.

    Returns:
        A 64-bit number for each of "BF16" and "F16"; none if the tensor is too small or cannot be cast.
    """
    if spec.dtype not in CASTABLE or not _has_sketch(spec):
        return {}
    some = np.frombuffer(raw, UINT[spec.item_bytes])[
        _positions(spec.num_elements.bit_length() - 1)[:_CAST_VALUES]
    ]
    if spec.dtype != "F32":
        given = some.astype(np.uint16)
        some = bf16_to_f32(given) if spec.dtype == "BF16" else f16_to_f32(given)
    bits = some.astype(np.uint32, copy=False)
    values = {"BF16": f32_to_bf16(bits), "F16": f32_to_f16(bits)}
    if spec.dtype != "F32":
        values[spec.dtype] = given
    size = spec.num_elements.to_bytes(8, "little")
    return {
        dtype: int.from_bytes(
            blake3(size + dtype.encode() + cast.tobytes()).digest(length=8), "little", signed=True
        )
        for dtype, cast in values.items()
    }


def _smallest(keys: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.uint64]:
    """The smallest different keys, ascending, at most `count`."""
    some = 8 * count
    found = np.unique(np.partition(keys, some)[:some] if len(keys) > some else keys)
    if len(found) < count and len(keys) > some:  # many rows are equal
        found = np.unique(keys)
    return found[:count]


def _has_sketch(spec: TensorSpec) -> bool:
    whole = spec.num_elements * spec.item_bytes == spec.num_bytes
    return spec.num_elements >= MIN_ELEMENTS and whole and spec.dtype != "C64"


def gap(raw: Buffer, spec: TensorSpec, other: Sketch) -> float:
    """Mean number of bits by which a few values of a tensor differ from those of a sketch: see `distance`.

    Much faster than a sketch of its own; 16 if the two are not of about the same size.
    """
    level = spec.num_elements.bit_length() - 1
    if not _has_sketch(spec) or level != other.level:
        return 16.0
    items = np.frombuffer(raw, UINT[spec.item_bytes])
    return _mean_bits(_as_bf16(items[_positions(level)], spec.dtype), other.values[0])


def distance(one: Sketch, other: Sketch) -> float:
    """Mean number of bits by which sampled values differ: 0 equal, 16 not comparable."""
    bits = []
    for i, row in enumerate(one.values):
        j = other.level - (one.level - i)
        if 0 <= j < _LEVELS:
            bits.append(_mean_bits(row, other.values[j]))
    return min(bits) if bits else 16.0


def _mean_bits(one: U16, other: U16) -> float:
    return float(np.mean(np.frexp(np.abs(one.astype(np.int32) - other.astype(np.int32)))[1]))


def rank(wanted: Sketch, hits: Iterable[tuple[BlockId, Sketch]], limit: int = 8) -> list[BlockId]:
    """Order blocks that share marks with a tensor, the likeliest base first.

    Args:
        wanted: Sketch of the new tensor.
        hits: Blocks that share a mark, most shared marks first, with their sketches.
        limit: Most blocks to return.

    Returns:
        A clear match alone, or with one nearly as near; an equal one with the next, for it may be the block
        itself. Otherwise the two nearest, and behind them those that share most marks: they may hold the
        tensor's rows in other places.
    """
    found = list(hits)
    gaps = {block_id: distance(wanted, other) for block_id, other in found}
    levels = {block_id: other.level for block_id, other in found}
    nearest = sorted(gaps, key=lambda block_id: gaps[block_id])[:2]
    if nearest and gaps[nearest[0]] < _CLEAR_BITS and levels[nearest[0]] == wanted.level:
        reach = gaps[nearest[0]] + _CLOSE_BITS
        return nearest if gaps[nearest[0]] == 0 else [i for i in nearest if gaps[i] < reach]
    return list(dict.fromkeys([*nearest, *gaps]))[:limit]


class SketchIndex:
    """Sketches of the blocks that may serve as bases, in memory.

    An index on disk does the same with a table (mark, block) and the sketches' bytes: count the blocks that
    share a mark, then `rank` the first `MAX_HITS`.
    """

    def __init__(self) -> None:
        self._sketches: dict[BlockId, Sketch] = {}
        self._lists: dict[int, list[BlockId]] = {}

    def __len__(self) -> int:
        return len(self._sketches)

    def __contains__(self, block_id: object) -> bool:
        return block_id in self._sketches

    def __iter__(self) -> Iterator[tuple[BlockId, Sketch]]:
        return iter(self._sketches.items())

    def add(self, block_id: BlockId, found: Sketch) -> None:
        """File a block; nothing happens if it is there already."""
        if block_id not in self._sketches:
            self._sketches[block_id] = found
            for mark in found.marks.tolist():
                self._lists.setdefault(mark, []).append(block_id)

    def discard(self, block_id: BlockId) -> None:
        """Forget a block; nothing happens if it is not there."""
        found = self._sketches.pop(block_id, None)
        for mark in () if found is None else found.marks.tolist():
            kept = [other for other in self._lists[mark] if other != block_id]
            if kept:
                self._lists[mark] = kept
            else:
                del self._lists[mark]

    def similar(self, wanted: Sketch, limit: int = 8) -> list[BlockId]:
        """Blocks most like a tensor, the likeliest base first; see `rank`."""
        votes: Counter[BlockId] = Counter()
        for mark in wanted.marks.tolist():
            votes.update(self._lists.get(mark, [])[-_LONGEST_LIST:])
        hits = [block_id for block_id, _ in votes.most_common(MAX_HITS)]
        return rank(wanted, [(block_id, self._sketches[block_id]) for block_id in hits], limit)


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Splitmix64's finaliser, on every element (Steele et al., OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@cache
def _positions(level: int) -> npt.NDArray[np.int64]:
    """Sampled positions below 2^level, always the same."""
    seeds = np.arange(1, _VALUES + 1, dtype=np.uint64) + np.uint64(level << 32)
    mixed = _mix(seeds * np.uint64(0x9E3779B97F4A7C15))
    return (mixed & np.uint64((1 << level) - 1)).astype(np.int64)


@cache
def _all_positions(level: int) -> npt.NDArray[np.int64]:
    """Those of the highest level, then those of the levels below it."""
    return np.concatenate([_positions(level - i) for i in range(_LEVELS)])


def _as_bf16(items: npt.NDArray[np.unsignedinteger[Any]], dtype: str) -> U16:
    """Floats rounded to bfloat16; the low bits of anything else."""
    if dtype == "BF16":
        return items.astype(np.uint16)
    if dtype == "F32":
        return f32_to_bf16(items.astype(np.uint32))
    if dtype == "F16":
        return f32_to_bf16(f16_to_f32(items.astype(np.uint16)))
    if dtype == "F64":
        with np.errstate(all="ignore"):
            return f32_to_bf16(items.view(np.float64).astype(np.float32).view(np.uint32))
    return (items & items.dtype.type(min(0xFFFF, np.iinfo(items.dtype).max))).astype(np.uint16)


def _bands(values: U16, level: int, count: int, is_float: bool) -> list[int]:
    """One mark for each group of values of each level, cut to sign, exponent and one bit of mantissa."""
    coarse = values[:, : _BANDS * _BAND_VALUES] >> np.uint16(6 if is_float else 0)
    coarse = coarse.reshape(_LEVELS, _BANDS, _BAND_VALUES)
    state = _salts(level, count if count < _SMALL_ELEMENTS else 0)
    for i in range(_BAND_VALUES):
        state = _mix(state ^ coarse[:, :, i].astype(np.uint64)) + np.uint64(1)
    telling = (coarse != coarse[:, :, :1]).any(axis=2)
    marks: list[int] = state[telling].view(np.int64).tolist()
    return marks


@lru_cache(256)
def _salts(level: int, count: int) -> npt.NDArray[np.uint64]:
    """What the marks of each band of each level start from; of small tensors, their size tells them apart."""
    salts = np.array([(level - i) << 8 | count << 16 for i in range(_LEVELS)], np.uint64)
    return np.add.outer(salts, np.arange(_BANDS, dtype=np.uint64))
