"""Edits of tensors as people make them, on small random weights."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pbstore.codecs.types import TensorSpec

DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
}


def raw_of(tensor: Tensor) -> tuple[bytes, TensorSpec]:
    """Bytes, dtype and shape of a tensor."""
    tensor = tensor.contiguous()
    return tensor.view(torch.uint8).numpy().tobytes(), TensorSpec(DTYPES[tensor.dtype], tuple(tensor.shape))


def slerp(t: float, x: Tensor, y: Tensor) -> Tensor:
    """Along the arc between two."""
    u, v = x.numpy().ravel(), y.numpy().ravel()
    angle = np.arccos(np.sum((u / np.linalg.norm(u)) * (v / np.linalg.norm(v))))
    first, second = (np.sin(s * angle) / np.sin(angle) for s in (1 - t, t))
    return torch.from_numpy((first * u + second * v).astype(np.float32)).reshape(x.shape)


def ties(x: Tensor, y: Tensor, density: float = 0.2) -> Tensor:
    """Only the largest changes."""
    change = y - x
    least = change.abs().flatten().kthvalue(int(change.numel() * (1 - density))).values
    return x + torch.where(change.abs() > least, change, 0)


def dare(x: Tensor, y: Tensor, g: torch.Generator, drop: float = 0.8) -> Tensor:
    """Random changes, larger by as much as there are fewer."""
    change = y - x
    return x + change * (torch.rand(change.shape, generator=g) >= drop) / (1 - drop)


def without_smallest(x: Tensor, share: float = 0.3) -> Tensor:
    """Pruned by magnitude."""
    return x * (x.abs() > x.abs().flatten().kthvalue(int(x.numel() * share)).values)


def two_of_four(x: Tensor) -> Tensor:
    """Pruned to the two largest of each four."""
    groups = x.reshape(-1, 4)
    kept = torch.zeros_like(groups).scatter_(1, groups.abs().topk(2, dim=1).indices, 1)
    return (groups * kept).reshape(x.shape)


def int8(x: Tensor) -> tuple[Tensor, Tensor]:
    """A scale for each row."""
    scale = x.abs().amax(1, keepdim=True) / 127
    return (x / scale).round().clamp(-128, 127).to(torch.int8), scale


def int4(x: Tensor, group: int = 32) -> Tensor:
    """Two to a byte, a scale for each run of a row."""
    runs = x.reshape(x.shape[0], -1, group)
    scale = runs.abs().amax(2, keepdim=True) / 7
    q = (runs / scale).round().clamp(-8, 7).to(torch.int16).reshape(x.shape) + 8
    return (q[:, ::2] | (q[:, 1::2] << 4)).to(torch.uint8)


def truncated(x: Tensor) -> Tensor:
    """To bfloat16 without rounding."""
    return torch.from_numpy((x.numpy().view(np.uint32) >> 16).astype(np.uint16)).view(torch.bfloat16)


def weights(shape: tuple[int, int] = (192, 256)) -> tuple[Tensor, Tensor, Tensor]:
    """A base and two fine-tunes of it."""
    g = torch.Generator().manual_seed(3)
    base = torch.randn(shape, generator=g) * 0.05
    return base, *(base + torch.randn(shape, generator=g) * 0.003 for _ in range(2))


def edits(x: Tensor, y: Tensor, z: Tensor) -> dict[str, tuple[Callable[[], Tensor], float]]:
    """How each edit of a base and its fine-tunes is made, and the share of its bytes that it may take."""
    g = torch.Generator().manual_seed(4)
    columns, rows = torch.randperm(x.shape[1], generator=g), torch.randperm(x.shape[0], generator=g)
    up, down = torch.randn(x.shape[0], 4, generator=g) * 0.02, torch.randn(4, x.shape[1], generator=g) * 0.02
    return {
        "mean": (lambda: (x + y) / 2, 0.002),
        "lerp": (lambda: torch.lerp(x, y, 0.3), 0.002),
        "lerp by hand": (lambda: 0.7 * x + 0.3 * y, 0.002),
        "slerp": (lambda: slerp(0.4, x, y), 0.05),
        "task arithmetic": (lambda: x + 0.6 * (y - x), 0.002),
        "two tasks": (lambda: x + 0.4 * ((y - x) + (z - x)), 0.003),
        "two tasks of different weight": (lambda: x + 0.3 * (y - x) + 0.5 * (z - x), 0.003),
        "mean of three": (lambda: (x + y + z) / 3, 0.003),
        "mean of two fine-tunes": (lambda: (y + z) / 2, 0.003),
        "mean in bf16": (lambda: ((x + y) / 2).bfloat16(), 0.004),
        "mean made in bf16": (lambda: (x.bfloat16() + y.bfloat16()) / 2, 0.004),
        "ties": (lambda: ties(x, y), 0.003),
        "dare": (lambda: dare(x, y, g), 0.03),
        "pruned by magnitude": (lambda: without_smallest(x), 0.002),
        "pruned at random": (lambda: x * (torch.rand(x.shape, generator=g) > 0.3), 0.032),
        "pruned 2:4": (lambda: two_of_four(x), 0.002),
        "times a number": (lambda: x * 1.1, 0.002),
        "times a number in bf16": (lambda: (x * 1.1).bfloat16(), 0.002),
        "times a vector": (lambda: x * (1 + 0.1 * torch.randn(x.shape[1], generator=g)), 0.01),
        "times a vector of rows": (lambda: x * (1 + 0.1 * torch.randn(x.shape[0], 1, generator=g)), 0.01),
        "fp8": (lambda: x.to(torch.float8_e4m3fn), 0.004),
        "fp8 e5m2": (lambda: x.to(torch.float8_e5m2), 0.004),
        "fp8 with a scale": (lambda: (x * (448 / x.abs().max())).to(torch.float8_e4m3fn), 0.004),
        "f64": (lambda: x.double(), 0.001),
        "f16 and back": (lambda: x.half().float(), 0.002),
        "bf16 truncated": (lambda: truncated(x), 0.002),
        "int8": (lambda: int8(x)[0], 0.01),
        "int8 turned back": (lambda: int8(x)[0].float() * int8(x)[1], 0.02),
        "int4": (lambda: int4(x), 0.02),
        "transposed": (lambda: x.T, 0.002),
        "half of the columns": (lambda: x[:, x.shape[1] // 2 :], 0.004),
        "columns permuted": (lambda: x[:, columns], 0.01),
        "neurons permuted": (lambda: x[rows][:, columns], 0.01),
        "beside itself": (lambda: torch.cat([x, x], 1), 0.004),
        "halves of it beside each other": (lambda: torch.cat([x, x], 1) / 2, 0.004),
        "on a diagonal": (lambda: torch.block_diag(x, x), 0.006),
        "tiled in bf16": (lambda: x.repeat(2, 2).bfloat16(), 0.006),
        "columns repeated": (lambda: x.repeat_interleave(2, 1), 0.002),
        "columns padded": (lambda: torch.nn.functional.pad(x, (0, 64)), 0.004),
        "rows repeated in bf16": (lambda: x.repeat_interleave(3, 0).bfloat16(), 0.004),
        "a low-rank update": (lambda: x + up @ down, 0.13),
    }
