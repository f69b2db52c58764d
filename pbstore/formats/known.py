"""Stored tensors inside any file, at any offset: found by their first bytes, proved by their hash.

So a tensor of a safetensors file is one block with the same tensor in an HDF5 file, in an archive of which
nobody here knows the format, and in a shard that holds all parameters one behind the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pbstore.formats.chunking import WINDOW_BYTES, Bytes, Read
from pbstore.hashing import BlockId, hash_block

HEAD_BYTES = 8
FLAT_BYTES = 8 << 20
"""Shorter runs of numbers are taken for one tensor."""
_LEAST_DISTINCT = 4
_MOST_HASHED = 4
"""Bytes hashed in vain, as a multiple of the bytes that are searched."""


class KnownTensor(NamedTuple):
    """A stored tensor."""

    head: bytes
    """Its first eight bytes."""
    block_id: BlockId
    num_bytes: int


class KnownTensors:
    """Tensors that are looked for."""

    def __init__(self, tensors: Sequence[KnownTensor]) -> None:
        told = [tensor for tensor in tensors if len(set(tensor.head)) >= _LEAST_DISTINCT]
        told.sort(key=lambda tensor: (int.from_bytes(tensor.head, "little"), -tensor.num_bytes))
        self._tensors = told
        self._heads = np.array([int.from_bytes(tensor.head, "little") for tensor in told], np.uint64)
        self._maps = [np.zeros(1 << 16, np.bool_) for _ in range(2)]
        for place, known in enumerate(self._maps):
            known[(self._heads >> np.uint64(16 * place) & np.uint64(0xFFFF)).astype(np.intp)] = True

    def __len__(self) -> int:
        return len(self._tensors)

    def begin(self, read: Read, num_bytes: int) -> bool:
        """Whether one of the tensors may begin near the start of many bytes, and end before they do."""
        if num_bytes < FLAT_BYTES or not self._tensors:
            return False
        places = self._places(read, WINDOW_BYTES)
        heads = (read(place, place + HEAD_BYTES).tobytes() for place in places)
        return any(tensor.num_bytes < num_bytes for head in heads for tensor in self._with_head(head))

    def find(self, read: Read, num_bytes: int) -> list[tuple[int, int]]:
        """Offset and length of the tensors that lie in some bytes, ascending and apart."""
        found: list[tuple[int, int]] = []
        end, left = 0, _MOST_HASHED * num_bytes
        for offset in self._places(read, num_bytes) if self._tensors else ():
            if offset < end:
                continue
            for tensor in self._with_head(read(offset, offset + HEAD_BYTES).tobytes()):
                if offset + tensor.num_bytes > num_bytes or left < tensor.num_bytes:
                    continue
                if hash_block(read(offset, offset + tensor.num_bytes).data) == tensor.block_id:
                    end = offset + tensor.num_bytes
                    found.append((offset, tensor.num_bytes))
                    break
                left -= tensor.num_bytes
        return found

    def _with_head(self, head: bytes) -> list[KnownTensor]:
        if len(head) < HEAD_BYTES or not self._tensors:
            return []
        number = np.uint64(int.from_bytes(head, "little"))
        first, last = (int(np.searchsorted(self._heads, number, side=side)) for side in ("left", "right"))
        return self._tensors[first:last]

    def _places(self, read: Read, num_bytes: int) -> Iterator[int]:
        """Where a tensor may begin, ascending."""
        for begin in range(0, max(0, num_bytes - HEAD_BYTES + 1), WINDOW_BYTES):
            window = read(begin, min(begin + WINDOW_BYTES + HEAD_BYTES - 1, num_bytes))
            found = np.concatenate([self._in_window(window, shift) for shift in range(2)])
            yield from (np.sort(found) + begin).tolist()

    def _in_window(self, window: Bytes, shift: int) -> npt.NDArray[np.intp]:
        """Places of a window, every second one, where the first eight bytes are those of a tensor."""
        pairs = np.frombuffer(window, "<u2", (len(window) - shift) // 2, shift)
        some = np.flatnonzero(self._maps[0][pairs])
        some = some[2 * some + shift + HEAD_BYTES <= len(window)]
        some = some[self._maps[1][pairs[some + 1]]]
        words = np.zeros(len(some), np.uint64)
        for place in range(4):
            words |= pairs[some + place].astype(np.uint64) << np.uint64(16 * place)
        at = np.minimum(np.searchsorted(self._heads, words), len(self._heads) - 1)
        found: npt.NDArray[np.intp] = 2 * some[self._heads[at] == words] + shift
        return found
