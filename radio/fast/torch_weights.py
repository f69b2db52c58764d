"""The same fixed point in torch: large batches on several cores or on a GPU."""

import numpy as np
import torch

from radio.fast.weights import FixedPoint
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["TorchKernel"]

_TINY = 1e-30
_FLOOR = 1e-6


class TorchKernel:
    """`radio.fast.weights.fixed_point` on a torch device; numpy in, numpy out."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def __call__(
        self,
        g: ComplexArray,
        u: ComplexArray,
        users: BoolArray,
        num_nodes: int,
        num_iterations: int,
        length: float = 0.0,
        weights: FloatArray | None = None,
    ) -> FixedPoint:
        """Arguments and result as in numpy; TF32 is never used, the dtype is complex64 throughout."""
        with torch.inference_mode():
            found = _run(
                torch.from_numpy(np.ascontiguousarray(g)).to(self.device),
                torch.from_numpy(np.ascontiguousarray(u)).to(self.device),
                torch.from_numpy(np.ascontiguousarray(users)).to(self.device),
                num_nodes,
                num_iterations,
                length,
                None if weights is None else torch.from_numpy(weights).to(self.device),
            )
            best, least, ended, prices = (part.cpu().numpy() for part in found)
        return FixedPoint(u=best, least=least, weights=ended, prices=prices)


def _run(
    g: torch.Tensor,
    u: torch.Tensor,
    users: torch.Tensor,
    num_nodes: int,
    num_iterations: int,
    length: float,
    weights: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The iteration; returns best beams, their least amplitude, weights and prices."""
    adjoint = g.mH.contiguous().resolve_conj()
    absent = None
    if not bool(users.all()):
        absent = torch.zeros(users.shape, device=g.device).masked_fill_(~users, torch.inf)[:, :, None]
    scaled, norm = _unit(u, num_nodes)
    u = u if length else scaled
    if weights is None:
        weights = torch.ones((*g.shape[:2], u.shape[3]), device=g.device)
    pushed = weights
    best, least = u.clone(), torch.zeros((len(g), 1, u.shape[3]), device=g.device)
    for step in range(num_iterations + 1):
        y = torch.bmm(g, u.flatten(2)).reshape(len(g), -1, *u.shape[2:])
        amplitude = torch.sqrt(_power(y).sum(dim=2)) + _TINY
        amplitude = amplitude if absent is None else amplitude + absent
        weakest = amplitude.amin(dim=1, keepdim=True)
        third = 3 * step // num_iterations
        if third:
            better = weakest > least
            best = torch.where(better[:, :, None, :], u, best)
            least = torch.where(better, weakest, least)
        if step == num_iterations:
            break
        weights = weights * (weakest / amplitude) ** (0.5, 1.0, 1.5)[third]
        if step % 4 == 3:
            weights = weights / weights.amax(dim=1, keepdim=True)
        if third < 2:
            weights = weights.clamp_min(_FLOOR)
        pushed = weights / amplitude
        if length:
            pushed = pushed * (weakest / amplitude) ** 4
        gathered = torch.bmm(adjoint, (y * pushed[:, :, None, :]).flatten(2))
        sent, norm = _unit(gathered.reshape(u.shape), num_nodes)
        u = _ascend(u, sent, norm, length) if length else sent
    return best, least[:, 0], pushed, norm


def _power(z: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(z).square().sum(dim=-1)


def _unit(u: torch.Tensor, num_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale each node's block to norm one, zeros stay; also the norms, (batch, nodes, starts)."""
    batch, _, columns, starts = u.shape
    blocks = u.reshape(batch, num_nodes, -1, columns, starts)
    norm = torch.sqrt(_power(blocks).sum(dim=(2, 3)) + _TINY)
    return _scale_nodes(u, 1.0 / norm), norm


def _ascend(u: torch.Tensor, sent: torch.Tensor, norm: torch.Tensor, length: float) -> torch.Tensor:
    """A step along sent, of unit blocks that had these norms, and back into the balls of norm one."""
    share = norm * (length / norm.amax(dim=1, keepdim=True))
    moved, size = _unit(u + _scale_nodes(sent, share), norm.shape[1])
    return _scale_nodes(moved, size.clamp_max(1.0))


def _scale_nodes(u: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Each node's block times a factor, (batch, nodes, starts)."""
    batch, num_nodes, starts = factor.shape
    return (u.reshape(batch, num_nodes, -1, starts) * factor[:, :, None, :]).reshape(u.shape)
