"""What a model answered, or why it did not; read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class NotRunError(Exception):
    """A model that cannot be run here; says why."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What a model answered."""

    arrays: Mapping[str, np.ndarray[Any, Any]]
    """Raw outputs by name, in the model's own precision (bfloat16 widened to float32, which is exact)."""
    line: str
    """The same for a human."""

    def equals(self, other: "Inference") -> bool:
        """Whether every output is bit-equal, not merely close."""
        return self.arrays.keys() == other.arrays.keys() and all(
            value.dtype == other.arrays[name].dtype
            and value.shape == other.arrays[name].shape
            and value.tobytes() == other.arrays[name].tobytes()
            for name, value in self.arrays.items()
        )
