"""Casts of a program: between float32 and any other dtype, on bit patterns, the same on every machine.

Rounding is to nearest, ties to even; integers saturate and take a NaN for 0. Float8 is as torch has it: E4M3
has no infinities and saturates, E5M2 has them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pbstore.codecs.casts import CASTS, cast_number
from pbstore.codecs.chunk import UINT
from pbstore.codecs.types import DTYPE_BITS

Array = npt.NDArray[Any]
INTEGERS: dict[str, type[np.integer[Any]]] = {
    "I8": np.int8,
    "U8": np.uint8,
    "I16": np.int16,
    "U16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
}
FLOATS: dict[str, type[np.floating[Any]]] = {"F32": np.float32, "F64": np.float64}
"""Dtypes that steps compute with; all others are unsigned integers of their width on the stack."""
_MAGNITUDE, _EXPONENT = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)


class _Small(NamedTuple):
    """A float of 8 bits."""

    mantissa_bits: int
    bias: int
    top: int
    """Code of the greatest magnitude that is no NaN: of an infinity, if there is one."""
    infinite: bool


_NAN = 0x7F
_SMALL = {"F8_E4M3": _Small(3, 7, 0x7E, False), "F8_E5M2": _Small(2, 15, 0x7C, True)}


def stack_type(dtype: str) -> type[Any]:
    """Numpy's type of a dtype's elements on the stack."""
    return FLOATS.get(dtype) or UINT[DTYPE_BITS[dtype] // 8]


def known_cast(source: str, target: str) -> bool:
    """Whether a program may cast: to or from float32, where both are known."""
    others = {"F32", "F64", "BF16", "F16", *_SMALL, *INTEGERS}
    return source != target and "F32" in (source, target) and {source, target} <= others


def cast(values: Array, source: str, target: str) -> Array:
    """Elements in another dtype, of the same shape."""
    if target == "F32":
        return _to_f32(values, source)
    return _from_f32(values, target)


def _to_f32(values: Array, source: str) -> Array:
    if source in _SMALL:
        return _wide(source)[values]
    if source in INTEGERS:
        return values.view(INTEGERS[source]).astype(np.float32)
    if source == "F64":
        with np.errstate(all="ignore"):
            return values.astype(np.float32)
    number = cast_number(source, "F32")
    bits = CASTS[(number or 1) - 1][2](np.ascontiguousarray(values).reshape(-1))
    return bits.view(np.float32).reshape(values.shape)


def _from_f32(values: Array, target: str) -> Array:
    if target == "F64":
        return values.astype(np.float64)
    if target in INTEGERS:
        return _to_integers(values, target)
    bits = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    if target in _SMALL:
        return _to_small(bits, _SMALL[target]).reshape(values.shape)
    number = cast_number("F32", target)
    return CASTS[(number or 1) - 1][2](bits).reshape(values.shape)


def _to_integers(values: Array, target: str) -> Array:
    kind = INTEGERS[target]
    limits = np.iinfo(kind)
    wide = np.where(np.isnan(values), np.float32(0), values).astype(np.float64)
    low, high = float(limits.min), float(limits.max)
    if target == "I64":
        high = float(limits.max - 1023)  # the greatest that a float64 has
    whole = np.trunc(np.minimum(np.maximum(wide, low), high)).astype(np.int64)
    return whole.astype(kind).view(UINT[np.dtype(kind).itemsize])


def truncate(values: Array) -> Array:
    """Float32 to bfloat16 by dropping the lower half."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return (bits >> np.uint32(16)).astype(np.uint16)


def quiet(values: Array) -> Array:
    """Floats with one NaN, so that no processor's habit shows; the same array where there are none."""
    nan = np.isnan(values)
    if not nan.any():
        return values
    return np.where(nan, values.dtype.type(np.nan), values)


@cache
def _wide(dtype: str) -> Array:
    """Float32 of each code of a small float."""
    small = _SMALL[dtype]
    codes = np.arange(256)
    exponent = (codes >> small.mantissa_bits) & ((1 << (7 - small.mantissa_bits)) - 1)
    mantissa = codes & ((1 << small.mantissa_bits) - 1)
    unit = 2.0 ** (1 - small.bias - small.mantissa_bits)
    whole = np.where(exponent > 0, mantissa + (1 << small.mantissa_bits), mantissa).astype(np.float64)
    size = whole * unit * 2.0 ** np.maximum(exponent - 1, 0)
    magnitude = codes & 0x7F
    size = np.where((magnitude == small.top) & small.infinite, np.inf, size)
    size = np.where(magnitude > small.top, np.nan, size)
    return np.where(codes >= 128, -size, size).astype(np.float32)


def _to_small(bits: npt.NDArray[np.uint32], small: _Small) -> Array:
    """Codes of float32 bits.

    The magnitude is added to a power of two whose last bit is the small float's, which rounds it.
    """
    size = np.minimum(bits & _MAGNITUDE, np.uint32((127 + 17) << 23))
    least = np.uint32((128 - small.bias) << 23)
    step = np.maximum(size & _EXPONENT, least) + np.uint32((23 - small.mantissa_bits) << 23)
    magic = step.view(np.float32)
    rounded = (size.view(np.float32) + magic) - magic
    unit = np.float32(2.0 ** (small.bias - 1 + small.mantissa_bits))
    tiny = (np.minimum(rounded, np.float32(1)) * unit).astype(np.uint32)
    offset = np.uint32((127 - small.bias) << small.mantissa_bits)
    usual = (rounded.view(np.uint32) >> np.uint32(23 - small.mantissa_bits)) - offset
    codes = np.where(rounded.view(np.uint32) < least, tiny, usual)
    codes = np.minimum(codes, np.uint32(small.top))
    codes |= (bits >> np.uint32(24)) & np.uint32(0x80)
    return np.where((bits & _MAGNITUDE) > _EXPONENT, np.uint32(_NAN), codes).astype(np.uint8)
