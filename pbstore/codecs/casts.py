"""Exact casts between float formats on bit patterns: the same bits on every machine.

Rounding is to nearest, ties to even; every NaN becomes the one quiet NaN of the target, so that no
processor's habit shows. Only the casts listed in `CASTS` exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pbstore.codecs.scratch import scratch

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
Uints = npt.NDArray[np.unsignedinteger[Any]]

_BF16_NAN, _F16_NAN, _F32_NAN = np.uint16(0x7FC0), np.uint16(0x7E00), np.uint32(0x7FC00000)
_INFINITY, _MINUS_INFINITY, _MANTISSA = np.uint32(0x7F800000), np.uint32(0xFF800000), np.uint32(0x007FFFFF)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_FEW = 2048
"""Fewer floats are cast faster by numpy's one step than by many of ours."""


def f32_to_bf16(bits: U32) -> U16:
    """Round float32 bits to bfloat16 bits."""
    rounded = np.right_shift(bits, np.uint32(16), out=scratch("cast", len(bits), np.uint32))
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    return _without_nans(rounded.astype(np.uint16), bits, _BF16_NAN)


def bf16_to_f32(bits: U16) -> U32:
    """Widen bfloat16 bits to float32 bits."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return _quiet_f32(wide)


def f32_to_f16(bits: U32) -> U16:
    """Round float32 bits to float16 bits.

    The weight's magnitude is added to a power of two whose last bit is float16's: that addition rounds, also
    where a processor takes subnormals for zero, and for many weights it is twice as fast as numpy's own cast.
    """
    if len(bits) < _FEW:
        with np.errstate(all="ignore"):
            return _without_nans(bits.view(np.float32).astype(np.float16).view(np.uint16), bits, _F16_NAN)
    rounded, other = (scratch(name, len(bits), np.uint32) for name in ("cast", "other cast"))
    size = rounded.view(np.float32)
    np.bitwise_and(bits, _MAGNITUDE, out=rounded)
    with np.errstate(all="ignore"):
        size *= np.float32(2.0**112)  # what is too large becomes infinite
        size *= np.float32(2.0**-110)
        np.bitwise_and(bits, _INFINITY, out=other)
        np.maximum(other, np.uint32((127 - 14) << 23), out=other)
        other += np.uint32(15 << 23)
        size += other.view(np.float32)
    np.right_shift(rounded, np.uint32(13), out=other)
    other &= np.uint32(0x7C00)
    rounded &= np.uint32(0x0FFF)
    rounded += other
    np.right_shift(bits, np.uint32(16), out=other)
    other &= np.uint32(0x8000)
    rounded |= other
    return _without_nans(rounded.astype(np.uint16), bits, _F16_NAN)


def f16_to_f32(bits: U16) -> U32:
    """Widen float16 bits to float32 bits."""
    wide: U32 = np.take(_wide_f16(), bits, mode="clip")
    return wide


@cache
def _wide_f16() -> U32:
    """Float32 bits of every float16."""
    with np.errstate(all="ignore"):
        every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
        return _quiet_f32(every.astype(np.float32).view(np.uint32))


def _without_nans(result: U16, bits: U32, quiet: np.uint16) -> U16:
    """A cast of float32 bits with one NaN where those are NaNs."""
    nan = _nans(bits)
    if nan is not None:
        result[nan] = quiet
    return result


def _nans(bits: U32) -> npt.NDArray[np.bool_] | None:
    """Where float32 bits are NaNs, None if nowhere (which is cheaper to find out)."""
    if not bits.size:
        return None
    positive, negative = np.maximum.reduce(bits.view(np.int32)), np.maximum.reduce(bits)
    if positive <= _INFINITY and negative <= _MINUS_INFINITY:
        return None
    nans: npt.NDArray[np.bool_] = (bits & _INFINITY) == _INFINITY
    nans &= (bits & _MANTISSA) != 0
    return nans


def _quiet_f32(bits: U32) -> U32:
    nan = _nans(bits)
    if nan is not None:
        bits[nan] = _F32_NAN
    return bits


CASTS: tuple[tuple[str, str, Callable[[Any], Uints]], ...] = (
    ("F32", "BF16", f32_to_bf16),
    ("F32", "F16", f32_to_f16),
    ("BF16", "F32", bf16_to_f32),
    ("F16", "F32", f16_to_f32),
    ("F16", "BF16", lambda bits: f32_to_bf16(f16_to_f32(bits))),
    ("BF16", "F16", lambda bits: f32_to_f16(bf16_to_f32(bits))),
)
"""Source, target, function; a cast's number in a payload is its place here plus one: only append."""


def cast_number(source: str, target: str) -> int | None:
    """Number of the cast between two dtypes: 0 for none needed, None for none known."""
    if source == target:
        return 0
    for number, (known_source, known_target, _) in enumerate(CASTS, 1):
        if (source, target) == (known_source, known_target):
            return number
    return None
