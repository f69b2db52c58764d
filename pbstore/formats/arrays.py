"""Where numpy's and ONNX files can be cut: at their arrays, whose dtype and shape the files tell."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pbstore.formats.cuts import MIN_CUT_BYTES, Cut, NotSoError
from pbstore.spec import TensorSpec

NUMPY_MAGIC = b"\x93NUMPY"
_NUMPY = {
    "<f4": "F32", "<f2": "F16", "<f8": "F64", "|i1": "I8", "|u1": "U8", "<i2": "I16", "<u2": "U16",
    "<i4": "I32", "<u4": "U32", "<i8": "I64", "<u8": "U64", "|b1": "BOOL",
}  # fmt: skip
_ONNX = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64",
    12: "U32", 13: "U64", 16: "BF16", 17: "F8_E4M3", 19: "F8_E5M2",
}  # fmt: skip
_MOST_HEADER_BYTES = 1 << 16
_MOST_FIELDS = 1 << 20
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DTYPE, _NAME, _RAW_DATA = 1, 2, 8, 9


def numpy_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    """The array of a file as `numpy.save` writes it."""
    head = file.read(12)
    if len(head) < 12 or head[:6] != NUMPY_MAGIC or head[6] not in (1, 2, 3):
        raise NotSoError
    wide = head[6] > 1
    length = struct.unpack_from("<I" if wide else "<H", head, 8)[0]
    start = (12 if wide else 10) + length
    if length > _MOST_HEADER_BYTES or start > file_bytes:
        raise NotSoError
    file.seek(12 if wide else 10)
    try:
        told = ast.literal_eval(file.read(length).decode("latin-1"))
        dtype, shape = _NUMPY[told["descr"]], tuple(int(size) for size in told["shape"])
        spec = TensorSpec(dtype, shape[::-1] if told["fortran_order"] else shape)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise NotSoError from error
    if spec.num_bytes > file_bytes - start:
        raise NotSoError
    if spec.num_bytes >= MIN_CUT_BYTES:
        yield Cut(start, spec.num_bytes, spec)


def may_be_onnx(head: bytes) -> bool:
    """Whether a file begins as ONNX models do: with the version of the format, a small number, and more."""
    return (
        len(head) > 3 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] in (0x12, 0x3A, 0x42, 0x1A, 0x22)
    )


def onnx_cuts(file: BinaryIO, file_bytes: int) -> Iterator[Cut]:
    """The raw data of an ONNX model's initializers."""
    for number, begin, length in _fields(file, 0, file_bytes):
        if number == _GRAPH:
            for inner, start, size in _fields(file, begin, begin + length):
                if inner == _INITIALIZER and size >= MIN_CUT_BYTES:
                    yield from _initializer(file, start, size)


@dataclass(slots=True)
class _Initializer:
    """What is known of an initializer."""

    dims: list[int] = field(default_factory=list)
    dtype: int = 0
    name: str | None = None
    data: tuple[int, int] | None = None


def _initializer(file: BinaryIO, start: int, size: int) -> Iterator[Cut]:
    found = _Initializer()
    for number, begin, length in _fields(file, start, start + size):
        if number == _DIMS:
            found.dims += _numbers(file, begin, length)
        elif number == _DTYPE:
            found.dtype = _numbers(file, begin, length)[0]
        elif number == _NAME and length < 1 << 12:
            file.seek(begin)
            found.name = file.read(length).decode("utf-8", "replace")
        elif number == _RAW_DATA:
            found.data = (begin, length)
    if found.data is None or found.data[1] < MIN_CUT_BYTES or found.dtype not in _ONNX:
        return
    spec = TensorSpec(_ONNX[found.dtype], tuple(found.dims))
    yield Cut(*found.data, spec if spec.num_bytes == found.data[1] else None, found.name)


def _fields(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, place and length of each field of a message; of a varint, the bytes that hold it."""
    position = begin
    for _ in range(_MOST_FIELDS):
        if position == end:
            return
        key, position = _varint(file, position, end)
        kind = key & 7
        if kind == _VARINT:
            start = position
            _, position = _varint(file, position, end)
        elif kind in (_FIXED_64, _FIXED_32):
            start, position = position, position + (8 if kind == _FIXED_64 else 4)
        elif kind == _BYTES:
            length, start = _varint(file, position, end)
            position = start + length
        else:
            raise NotSoError
        if position > end:
            raise NotSoError
        yield key >> 3, start, position - start
    raise NotSoError


def _varint(file: BinaryIO, position: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    file.seek(position)
    value = 0
    for place, byte in enumerate(file.read(min(10, end - position))):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    raise NotSoError


def _numbers(file: BinaryIO, begin: int, length: int) -> list[int]:
    """One number or several packed ones."""
    if not 0 < length <= 1 << 10:
        raise NotSoError
    numbers, position = [], begin
    while position < begin + length:
        number, position = _varint(file, position, begin + length)
        numbers.append(number)
    return numbers
