"""Casts between float formats give numpy's bits on every machine, and one NaN."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from pbstore.codecs.casts import f16_to_f32, f32_to_f16

U32 = npt.NDArray[np.uint32]
LOW_HALVES = (0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x7FFF, 0x8000, 0xF000, 0xFFFF)
"""Lower halves of float32 around those where the rounding to float16 turns."""


def every_upper_half() -> U32:
    """Each sign, exponent and upper mantissa of float32, with the lower halves above."""
    return np.add.outer(np.array(LOW_HALVES, np.uint32), np.arange(1 << 16, dtype=np.uint32) << 16).ravel()


def as_numpy_casts(bits: U32) -> npt.NDArray[np.uint16]:
    with np.errstate(all="ignore"):
        halves = bits.view(np.float32).astype(np.float16).view(np.uint16)
    return np.where(np.isnan(bits.view(np.float32)), np.uint16(0x7E00), halves)


@contextmanager
def subnormals_are_zero() -> Iterator[None]:
    import torch

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not take subnormals for zero")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def test_many_floats_round_as_numpy_rounds_them() -> None:
    bits = every_upper_half()
    assert np.array_equal(f32_to_f16(bits), as_numpy_casts(bits))


def test_few_floats_round_as_many_do() -> None:
    bits = every_upper_half()
    few = np.concatenate([f32_to_f16(bits[i : i + 1000]) for i in range(0, len(bits), 1000)])
    assert np.array_equal(few, f32_to_f16(bits))


def test_rounding_does_not_depend_on_how_the_processor_takes_subnormals() -> None:
    bits = every_upper_half()
    expected = f32_to_f16(bits)
    with subnormals_are_zero():
        found = f32_to_f16(bits)
    assert np.array_equal(found, expected)


def test_every_half_widens_and_comes_back() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    numbers = np.isfinite(halves.view(np.float16))
    wide = f16_to_f32(halves)
    assert np.array_equal(wide.view(np.float32)[numbers], halves.view(np.float16)[numbers].astype(np.float32))
    assert set(wide[np.isnan(halves.view(np.float16))].tolist()) == {0x7FC00000}
    assert np.array_equal(f32_to_f16(wide)[numbers], halves[numbers])
