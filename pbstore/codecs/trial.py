"""Trials on a sample: what a form would cost, and which steps of the coder pay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pbstore.codecs.chunk import TABLE_BITS, UINT, Mode, Uints, encode_chunk, num_bytes
from pbstore.codecs.derive.evaluate import Derived
from pbstore.codecs.grid import RUN
from pbstore.codecs.predict import Prediction
from pbstore.codecs.streams import pack_stream
from pbstore.codecs.types import TensorSpec

_MODE_GAIN = 0.015
_CONTEXT_GAIN = {False: 0.2, True: 0.08}
"""Ordering takes longer than all other steps together; it must save so much, by `thorough`."""
_SAMPLE_BYTES = 1 << 18
_LARGE_BYTES = 8 << 20
TABLE_FROM_BYTES = 1 << 17
_REPEAT_ELEMENTS = 4096
_MASK_SHARE = 0.05
_CONTEXT = {"F32": 23, "BF16": 7, "F16": 8, "F64": 52}


def best_mode(
    values: Uints, expected: Uints, spec: TensorSpec, plain_cost: float = math.inf, *, thorough: bool
) -> tuple[Mode, float]:
    """Add a step of the coder where a sample says that it pays.

    Args:
        values: Sampled elements.
        expected: Their prediction.
        spec: Dtype and shape of the tensor.
        plain_cost: Share of the bytes that the plainest mode leaves, infinite if it was not tried.
        thorough: Take a slow step for a small gain.

    Returns:
        The mode, and the share of the bytes that it leaves.
    """
    mode = Mode(item_bytes=spec.item_bytes)
    size = plain_cost * values.nbytes
    if math.isinf(size):
        size = num_bytes(encode_chunk(values, expected, mode))
    for step in _steps(values, expected, spec):
        trial = replace(mode, **step)  # type: ignore[arg-type]
        smaller = num_bytes(encode_chunk(values, expected, trial))
        gain = (
            _CONTEXT_GAIN[thorough]
            if trial.context_shift is not None and mode.context_shift is None
            else _MODE_GAIN
        )
        if smaller < (1 - gain) * size - 16:
            mode, size = trial, smaller
    return mode, size / values.nbytes


def _steps(values: Uints, expected: Uints, spec: TensorSpec) -> Iterator[dict[str, object]]:
    """Steps worth a trial."""
    has_table = False
    if spec.dtype == "F32" and spec.num_bytes >= TABLE_FROM_BYTES and _repeats(values, expected):
        has_table = True
        yield {"table": fit_table(values, expected)}
    if spec.dtype in _CONTEXT:
        yield {"context_shift": _CONTEXT[spec.dtype]}
    if has_table or np.count_nonzero(values == expected) > _MASK_SHARE * len(values):
        yield {"mask": True}


def fit_table(values: Uints, expected: Uints) -> npt.NDArray[np.int32]:
    """Median difference for each value of the prediction's top mantissa bits, int32 (2^TABLE_BITS,)."""
    bins = 1 << TABLE_BITS
    key = (expected >> np.uint32(23 - TABLE_BITS)) & np.uint32(bins - 1)
    biased = (values - expected) ^ np.uint32(1 << 31)
    ranked = np.sort(key.astype(np.uint64) << np.uint64(32) | biased)
    edges = np.searchsorted(ranked, np.arange(bins + 1, dtype=np.uint64) << np.uint64(32))
    middle = np.minimum((edges[:-1] + edges[1:]) // 2, len(ranked) - 1)
    median = ranked[middle].astype(np.uint32) ^ np.uint32(1 << 31)
    return np.where(edges[1:] > edges[:-1], median, np.uint32(0)).view(np.int32)


def _repeats(values: Uints, expected: Uints) -> bool:
    """Whether many differences are the same but not zero: a sign of weight decay and nothing else."""
    step = max(1, len(values) // _REPEAT_ELEMENTS)
    difference = values[::step] - expected[::step]
    difference = np.sort(difference[difference != 0])
    return bool(np.mean(difference[1:] == difference[:-1]) > 0.1) if len(difference) > 64 else False


class Sample:
    """Element ranges spread evenly over a tensor; all of it where it is small."""

    def __init__(self, num_elements: int, item_bytes: int) -> None:
        whole = num_elements * item_bytes
        segments = 8 if whole < _LARGE_BYTES else 32
        sample = min(max(whole // 32, _SAMPLE_BYTES // 8), _SAMPLE_BYTES)
        length = max(1, sample // segments // item_bytes // RUN) * RUN
        self.item_bytes = item_bytes
        if num_elements <= segments * length:
            self.ranges = [(0, num_elements)]
        else:
            last = num_elements - length
            starts = [last * i // (segments - 1) // RUN * RUN for i in range(segments)]
            self.ranges = [(start, start + length) for start in starts]

    def of(self, data: memoryview) -> Uints:
        """The sampled elements."""
        values = np.frombuffer(data, UINT[self.item_bytes])
        return np.concatenate([values[start:stop] for start, stop in self.ranges])

    def predicted(self, prediction: Prediction) -> Uints:
        """The prediction of the sampled elements."""
        return np.concatenate([prediction.elements(start, stop) for start, stop in self.ranges])

    def alternatives(self, derived: Derived) -> list[Uints]:
        """All predictions of the sampled elements."""
        found = [derived.alternatives(start, stop) for start, stop in self.ranges]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def text_cost(data: memoryview) -> float:
    """Share of the bytes that zstd leaves, on a sample."""
    sample = Sample(len(data), 1).of(data)
    return sum(map(len, pack_stream(sample, text=True))) / len(sample)
