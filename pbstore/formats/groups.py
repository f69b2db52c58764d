"""Which tensors of a safetensors file are too small for blocks of their own: they share one, in a group.

A block costs a header in its pack, a row of the index and a place in the manifest, some 500 bytes in all. So
many tiny tensors in a row, and the factors of small adapters, become one block; a tensor is then addressed
by block and offset. Where a group ends depends on names and lengths alone, so that versions of a model are
cut alike, and one that changed in a few tensors is a small difference to the other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

from pbstore.formats.safetensors_header import TensorEntry
from pbstore.spec import DTYPE_BITS, MIN_ROW_BYTES, TensorSpec

TINY_BYTES = 1 << 10
"""Tensors below this are grouped where `TINY_RUN` of them stand in a row."""
TINY_RUN = 64
FACTOR_BYTES = 16 << 10
"""Factors of adapters up to this are grouped where `FACTOR_RUN` of them stand in a row."""
FACTOR_RUN = 4
_FACTORS = (".lora_A.", ".lora_B.")
LEAST_BYTES, MOST_BYTES = 512 << 10, 4 << 20
"""From the first length on a group may end, at the second one it does."""
_END_ONE_IN = 16
"""Of the names that a group may end at."""
_LONGEST_ROW = 4096


def runs(tensors: Sequence[TensorEntry]) -> Iterator[list[TensorEntry]]:
    """Tensors in the order of the file: those that share a block together, any other one by itself.

    Args:
        tensors: As they lie in the file; those without bytes are left out.
    """
    run: list[TensorEntry] = []
    for tensor in tensors:
        if not tensor.length:
            continue
        if run and not _goes_on(run[-1], tensor):
            yield from _cut(run)
            run = []
        run.append(tensor)
    if run:
        yield from _cut(run)


def flat_spec(specs: Sequence[TensorSpec]) -> TensorSpec:
    """A group as one tensor; its rows are the longest that all members are whole rows of, if they fit."""
    dtype, item = specs[0].dtype, specs[0].item_bytes
    total = sum(spec.num_bytes for spec in specs)
    row = math.gcd(*(spec.num_bytes for spec in specs))
    if not MIN_ROW_BYTES <= row <= _LONGEST_ROW:
        row = item
    return TensorSpec(dtype, (total // row, row // item) if row > item else (total // item,))


def group_name(names: Sequence[str]) -> str:
    """What a group is called, for those who look for relatives by name."""
    return f"{names[0]}+{len(names) - 1}"


def is_group(name: str | None) -> bool:
    """Whether something is called as `group_name` calls groups."""
    return name is not None and name.rpartition("+")[2].isdigit()


def _kind(tensor: TensorEntry) -> tuple[str, bool] | None:
    """What a tensor may share a block with; None if it has its own."""
    if DTYPE_BITS[tensor.spec.dtype] < 8:
        return None
    is_factor = any(part in tensor.name for part in _FACTORS)
    if tensor.length > (FACTOR_BYTES if is_factor else TINY_BYTES - 1):
        return None
    return tensor.spec.dtype, is_factor


def _goes_on(last: TensorEntry, tensor: TensorEntry) -> bool:
    kind = _kind(tensor)
    return kind is not None and kind == _kind(last) and last.offset + last.length == tensor.offset


def _cut(run: list[TensorEntry]) -> Iterator[list[TensorEntry]]:
    """A run of like tensors as groups, or one by one if it is short."""
    kind = _kind(run[0])
    if kind is None or len(run) < (FACTOR_RUN if kind[1] else TINY_RUN):
        yield from ([tensor] for tensor in run)
        return
    group: list[TensorEntry] = []
    size = 0
    for tensor in run:
        group.append(tensor)
        size += tensor.length
        if size >= MOST_BYTES or (size >= LEAST_BYTES and _may_end(tensor.name)):
            yield group
            group, size = [], 0
    if group:
        yield group


def _may_end(name: str) -> bool:
    """Whether a group may end behind a tensor: by the end of its name, which prefixes do not change."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdigit()), -3)
    tail = ".".join(parts[first:])
    return zlib.crc32(tail.encode("utf-8", "surrogatepass")) % _END_ONE_IN == 0
