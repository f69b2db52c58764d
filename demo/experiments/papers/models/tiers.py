"""Coarse numbers first, the exact rest later: bytes and score of each tier, and what exactness costs in all.

A tier is a copy of the tensors in fewer bits; the rest is the tensor as the store codes it with the coarse
copy as its base (form `delta`). A broadcast can stop after the tier for users in a hurry, and goes on for
those who want the model bit for bit: rate and distortion, as in any progressive code.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from demo.experiments.papers.models.zoo import zoo_scored
from pbstore.codecs import TensorSpec, choose, decode
from pbstore.hashing import hash_block

Floats = npt.NDArray[np.float32]
LEVELS = {"int4": 7, "int8": 127}
"""Largest number on the grid of a row."""
AT_ONCE = "exact at once"
TIERS = (*LEVELS, "bf16", AT_ONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiered:
    """One tensor in two parts."""

    coarse: Tensor
    """What the model computes with until the rest has come, float32."""
    first_bytes: int
    """Coded bytes of the tier, scales included."""
    rest_bytes: int
    """Coded bytes of what makes the tensor of it."""


def tiered(value: Tensor, tier: str) -> Tiered:
    """Split a tensor.

    Args:
        value: float32, any shape; of one axis it is sent exactly at once, it is small.
        tier: One of `TIERS`.

    Raises:
        ValueError: If the tensor is not float32, or there is no such tier.
    """
    if value.dtype != torch.float32:
        raise ValueError(f"expected a tensor of float32, got {value.dtype}")
    if tier not in TIERS:
        raise ValueError(f"tier must be one of {', '.join(TIERS)}, got {tier!r}")
    exact = value.detach().contiguous().numpy()
    if value.ndim < 2 or tier == AT_ONCE:
        return Tiered(coarse=value, first_bytes=_coded(exact, "F32"), rest_bytes=0)
    if tier == "bf16":
        short = (exact.view(np.uint32) >> 16).astype(np.uint16)
        coarse, first = halves(short), _coded(short, "BF16")
    else:
        numbers, scale = on_grid(exact, LEVELS[tier])
        coarse, first = from_grid(numbers, scale), _coded(numbers, "I8") + _coded(scale, "F32")
    return Tiered(coarse=torch.from_numpy(coarse), first_bytes=first, rest_bytes=_coded(exact, "F32", coarse))


def _coded(values: npt.NDArray[np.generic], dtype: str, base: Floats | None = None) -> int:
    """Bytes that the store would keep, once they have been decoded again and compared."""
    spec = TensorSpec(dtype, values.shape)
    raw, bases = values.tobytes(), [] if base is None else [base.tobytes()]
    candidates = [(hash_block(one), one, TensorSpec("F32", values.shape)) for one in bases]
    coded = choose(raw, spec, candidates)
    back = decode(coded.codec, coded.payload, len(raw), bases if coded.needs else ())
    if bytes(back) != raw:
        raise AssertionError(f"{coded.codec} did not give {spec} back")
    return len(coded.payload)


def on_grid(exact: Floats, most: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Whole numbers in [-most, most] and the scale of each row, (rows, columns) and (rows,)."""
    rows = exact.reshape(exact.shape[0], -1)
    scale = (np.abs(rows).max(axis=1, initial=0) / np.float32(most)).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.rint(rows / safe[:, None]).astype(np.int8).reshape(exact.shape), scale


def from_grid(numbers: npt.NDArray[np.int8], scale: Floats) -> Floats:
    """The coarse tensor: each number times the scale of its row."""
    shape = (-1,) + (1,) * (numbers.ndim - 1)
    return np.asarray(numbers.astype(np.float32) * scale.reshape(shape))


def halves(short: npt.NDArray[np.uint16]) -> Floats:
    """The coarse tensor: upper halves of the bits of float32."""
    return (short.astype(np.uint32) << np.uint32(16)).view(np.float32)


@cache
def score_tier(name: str, tier: str) -> dict[str, float]:
    """A classifier of the zoo sent in two parts.

    Args:
        name: Model of the zoo.
        tier: One of `TIERS`.

    Returns:
        `score` held out with the tier alone, `first_mb` of the tier, `exact_mb` of tier and rest, MB.
    """
    scored = zoo_scored(name)
    first = rest = 0
    with torch.no_grad():
        for value in scored.net.state_dict().values():
            if value.dtype == torch.float32:
                sent = tiered(value, tier)
                first, rest = first + sent.first_bytes, rest + sent.rest_bytes
                value.copy_(sent.coarse)
    return {"score": scored.score(), "first_mb": first / 1e6, "exact_mb": (first + rest) / 1e6}
