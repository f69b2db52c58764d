"""Dtype and shape of tensors."""

import math
from dataclasses import dataclass

DTYPE_BITS: dict[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
"""Bits of one element, by safetensors dtype name."""


HEAD_BYTES = 8
"""First bytes of a tensor, by which it is found inside other files."""
MIN_ROW_BYTES = 64
"""Shorter rows are not looked for in other blocks."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Dtype (safetensors name) and shape of the tensor that a block holds."""

    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BITS:
            raise ValueError(f"dtype must be a safetensors dtype, got {self.dtype!r}")
        if any(size < 0 for size in self.shape):
            raise ValueError(f"shape must have no negative size, got {self.shape}")

    @property
    def num_elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole tensor, rounded up for dtypes below 8 bits."""
        return (self.num_elements * DTYPE_BITS[self.dtype] + 7) // 8

    @property
    def item_bytes(self) -> int:
        """Bytes of one element; 1 for dtypes below 8 bits."""
        return max(1, DTYPE_BITS[self.dtype] // 8)

    @property
    def row_bytes(self) -> int:
        """Bytes of the shortest trailing block of axes that has 64 bytes; 0 where there are no such rows."""
        length = self.item_bytes
        for size in reversed(self.shape[1:]):
            length *= size
            if length >= MIN_ROW_BYTES:
                return length
        return 0
