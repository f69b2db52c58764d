"""From what a caller hands over to arrays, masks, ranks and generators, or an error that names it."""

import operator

import numpy as np
from numpy.typing import ArrayLike

from radio.errors import BadInputError
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["LARGEST", "as_array", "as_complex", "as_generator", "as_mask", "as_rank", "as_real", "reject"]

LARGEST = 1e60
"""Largest number taken, and one over the least noise: powers of SNR then stay within double precision."""


def as_array(name: str, value: object) -> np.ndarray:
    """Any array: lists, numpy, or torch tensors with a gradient, a conjugate bit or on a device.

    Raises:
        BadInputError: If it is no array of one shape, or hides entries behind a mask.
    """
    if np.ma.is_masked(value):
        raise BadInputError(name, "no masked entries", type(value).__name__)
    try:
        if hasattr(value, "detach"):
            tensor = value.detach().cpu()
            for resolve in ("resolve_conj", "resolve_neg"):
                tensor = getattr(tensor, resolve, lambda tensor=tensor: tensor)()
            value = tensor
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(name, "an array of numbers", f"{type(value).__name__} ({line})") from None


def as_complex(name: str, value: object, axes: str = "..., users, nodes, antennas") -> ComplexArray:
    """Finite complex numbers of at most LARGEST, with three axes or more."""
    array = as_array(name, value)
    if array.ndim < 3 or array.dtype.kind not in "cfiu":
        raise BadInputError(name, f"numbers ({axes})", f"{array.dtype} {array.shape}")
    with np.errstate(all="ignore"):
        array = array.astype(np.complex128)
        bad = ~np.isfinite(array)
        reject(name, bad, "finite numbers", "NaN or infinity")
        reject(name, np.abs(array) > 1.001 * LARGEST, f"numbers of at most {LARGEST:g}", "larger ones")
    return array


def as_real(name: str, value: object) -> FloatArray:
    """Real numbers in double precision, any shape, not yet checked for their values."""
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise BadInputError(name, "real numbers", f"{array.dtype} {array.shape}")
    with np.errstate(all="ignore"):
        return array.astype(np.float64)


def as_mask(name: str, value: ArrayLike | None, size: int) -> BoolArray:
    """Bool (..., size); None is all. Numbers are refused: 0 and 1 might be a mask or indices."""
    if value is None:
        return np.ones(size, dtype=bool)
    array = as_array(name, value)
    if array.dtype != np.bool_ or array.shape[-1:] != (size,):
        hint = "" if array.dtype == np.bool_ else "; of indices make np.isin(np.arange(n), indices)"
        raise BadInputError(name, f"bool (..., {size})", f"{array.dtype} {array.shape}{hint}")
    return array


def as_rank(rank: object) -> int | str:
    """A whole number >= 1 of any kind, or "full"."""
    if isinstance(rank, str) and rank == "full":
        return rank
    try:
        if isinstance(rank, bool | np.bool_):
            raise TypeError
        whole = operator.index(rank)  # type: ignore[arg-type]
    except TypeError:
        whole = 0
    if whole < 1:
        raise BadInputError("rank", 'an int >= 1 or "full"', repr(rank))
    return whole


def as_generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """A generator; None and numbers seed one, None with 0."""
    if isinstance(rng, np.random.Generator):
        return rng
    seed = 0 if rng is None else rng
    try:
        if isinstance(seed, bool | np.bool_):
            raise TypeError
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if whole < 0:
        raise BadInputError("rng", "a numpy Generator, a seed >= 0 or None", repr(rng))
    return np.random.default_rng(whole)


def reject(name: str, bad: BoolArray, expected: str, got: str) -> None:
    """Raise for the entries marked bad."""
    if bad.any():
        indices = tuple(tuple(int(i) for i in row) for row in np.argwhere(bad)[:1000])
        raise BadInputError(name, expected, got, indices)
