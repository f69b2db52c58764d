"""The header of a safetensors file: parsed strictly, kept verbatim.

Layout: 8 bytes little-endian length n, n bytes of JSON, then the tensors' bytes. The JSON maps names to
{dtype, shape, data_offsets}; offsets count from the end of the header and must cover the data without hole or
overlap.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from operator import attrgetter
from typing import BinaryIO, NamedTuple

from pbstore.errors import CheckpointError
from pbstore.spec import DTYPE_BITS, TensorSpec

MAX_HEADER_BYTES = 100_000_000
"""Longest header that safetensors itself accepts."""
MAX_TENSOR_BYTES = 1 << 62
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})


class TensorEntry(NamedTuple):
    """One tensor of a safetensors file; `offset` counts from the start of the file, bytes."""

    name: str
    spec: TensorSpec
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Parsed header: its length with the 8 length bytes, the tensors by offset, the free metadata."""

    header_bytes: int
    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]


def header_length(prefix: bytes) -> int:
    """Bytes of the header, with its 8 length bytes, from the first 8 bytes of a file.

    Raises:
        CheckpointError: If there are fewer than 8 bytes or the length is out of range.
    """
    if len(prefix) < 8:
        raise CheckpointError(f"safetensors header: need 8 bytes of length, got {len(prefix)}")
    (length,) = struct.unpack_from("<Q", prefix)
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise CheckpointError(f"safetensors header: length must be 2..{MAX_HEADER_BYTES}, got {length}")
    return int(length) + 8


def read_header(file: BinaryIO, file_bytes: int, *, whole: bool = True) -> SafetensorsHeader:
    """Parse the header of an open safetensors file of `file_bytes` bytes; see `parse_header`.

    Raises:
        CheckpointError: In one line, for every way a header can be bad.
    """
    header_bytes = header_length(file.read(8))
    if header_bytes > file_bytes:
        raise CheckpointError(f"safetensors header: claims {header_bytes} bytes, file has {file_bytes}")
    return parse_header(file.read(header_bytes - 8), file_bytes, whole=whole)


def parse_header(text: bytes, file_bytes: int, *, whole: bool = True) -> SafetensorsHeader:
    """Parse header JSON (without its 8 length bytes) of a file of `file_bytes` bytes.

    A file that need not be `whole` may end earlier or later than its tensors do.

    Raises:
        CheckpointError: If it is not JSON of the right form, or the tensors do not tile the data exactly.
    """
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"safetensors header: not JSON ({type(error).__name__})") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"safetensors header: expected an object, got {type(table).__name__}")
    metadata = table.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("safetensors header: __metadata__ must map strings to strings")
    base = len(text) + 8
    entries = [_entry(name, value, base) for name, value in table.items()]
    entries.sort(key=attrgetter("offset", "length"))
    end = _check_tiling(entries, base)
    if whole and end != file_bytes:
        raise CheckpointError(f"safetensors file: expected {end} bytes, got {file_bytes}")
    return SafetensorsHeader(base, tuple(entries), metadata)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise CheckpointError("safetensors header: a name appears twice")
    return table


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_TENSOR_BYTES


def _entry(name: str, value: object, base: int) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise CheckpointError(f"safetensors header: {name[:80]!r} needs dtype, shape, data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise CheckpointError(f"safetensors header: {name[:80]!r} has unknown dtype {str(dtype)[:40]!r}")
    if not isinstance(shape, list) or not all(map(_is_size, shape)) or len(shape) > 64:
        raise CheckpointError(f"safetensors header: {name[:80]!r} has a bad shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise CheckpointError(f"safetensors header: {name[:80]!r} has bad data_offsets")
    spec = TensorSpec(dtype, tuple(shape))
    begin, end = offsets
    if spec.num_elements * DTYPE_BITS[dtype] != (end - begin) * 8:
        raise CheckpointError(
            f"safetensors header: {name[:80]!r} needs {spec.num_bytes} bytes, data_offsets give {end - begin}"
        )
    return TensorEntry(name, spec, base + begin, end - begin)


def _check_tiling(entries: list[TensorEntry], base: int) -> int:
    position = base
    for entry in entries:
        if entry.offset != position:
            raise CheckpointError(
                f"safetensors header: {entry.name[:80]!r} starts at {entry.offset}, expected {position}"
            )
        position += entry.length
    return position
