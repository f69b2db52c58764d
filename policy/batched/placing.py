"""Capacity decoders for many worlds at once; they agree with `policy.place.greedy`."""

import torch
from torch import Tensor

from policy.errors import DivergedError


def fill_scores(
    scores: Tensor,
    sizes_bytes: Tensor,
    capacity_bytes: Tensor,
    before: Tensor | None = None,
    budget_bytes: float = float("inf"),
) -> Tensor:
    """Each node takes blocks from its best score down, skipping what does not fit; ties by block number.

    Args:
        scores: (worlds, nodes, blocks).
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        before: Placement now, bool (worlds, nodes, blocks); None: all empty.
        budget_bytes: Most bytes a node may add.

    Returns:
        Holders of each block as integers, (worlds, blocks).

    Raises:
        DivergedError: If a score is NaN.
    """
    if bool(torch.isnan(scores).any()):
        raise DivergedError(f"{int(torch.isnan(scores).sum())} of {scores.numel()} scores are not numbers")
    ranks = torch.argsort(scores, dim=-1, descending=True, stable=True)
    size = sizes_bytes.to(torch.float64)[ranks]
    room = capacity_bytes.to(torch.float64).expand(scores.shape[:2]).clone()
    limited = budget_bytes != float("inf")
    fits = torch.empty_like(ranks, dtype=torch.bool)
    if limited:
        kept = torch.zeros_like(fits) if before is None else before.gather(-1, ranks)
        price = torch.where(kept, 0.0, size)
        budget = torch.full_like(room, budget_bytes)
    for place in range(scores.shape[-1]):
        take = size[..., place] <= room
        if limited:
            take &= price[..., place] <= budget
            budget -= torch.where(take, price[..., place], 0.0)
        room -= torch.where(take, size[..., place], 0.0)
        fits[..., place] = take
    holds = torch.zeros_like(fits).scatter_(-1, ranks, fits)
    ones = 1 << torch.arange(scores.shape[1], device=scores.device)
    return (holds * ones[:, None]).sum(dim=1)


def greedy_masks(
    tables_s: Tensor, sizes_bytes: Tensor, capacity_bytes: Tensor, start: Tensor | None = None
) -> Tensor:
    """Add the (node, block) pair that saves most seconds per byte until nothing fits or helps, per world.

    Args:
        tables_s: Cost of each block under each set of holders, (worlds, blocks, 2^nodes), s.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).
        start: Holders to add to, as integers, (worlds, blocks); within capacity. None: empty.

    Returns:
        Holders of each block as integers, (worlds, blocks).
    """
    worlds, blocks, _ = tables_s.shape
    size = sizes_bytes.to(tables_s.dtype)
    rows = torch.arange(worlds, device=tables_s.device)
    ones = 1 << torch.arange(capacity_bytes.numel(), device=tables_s.device)
    masks = (
        torch.zeros((worlds, blocks), dtype=torch.int64, device=size.device)
        if start is None
        else start.clone()
    )
    room = capacity_bytes.to(tables_s.dtype) - _used(masks, size, ones)
    density = _gain(tables_s, masks, ones) / size
    density.masked_fill_((_holds(masks, ones)) | (size > room[..., None]), -torch.inf)
    while True:
        best, flat = density.view(worlds, -1).max(dim=1)
        live = best > 0
        if not bool(live.any()):
            return masks
        node, block = flat // blocks, flat % blocks
        masks[rows, block] = torch.where(live, masks[rows, block] | ones[node], masks[rows, block])
        room[rows, node] -= torch.where(live, size[block], 0.0)
        held = masks[rows, block]
        after = tables_s[rows[:, None], block[:, None], held[:, None] | ones]
        gain = (tables_s[rows, block, held][:, None] - after) / size[block][:, None]
        shut = ((held[:, None] & ones) != 0) | torch.isneginf(density[rows, :, block])
        density[rows, :, block] = torch.where(shut, -torch.inf, gain)
        density[rows, node] = density[rows, node].masked_fill(size > room[rows, node][:, None], -torch.inf)
        density[~live] = -torch.inf


def drop_to_fit(tables_s: Tensor, masks: Tensor, sizes_bytes: Tensor, capacity_bytes: Tensor) -> Tensor:
    """Take copies off nodes that hold too much, least loss per byte first, until all fit, per world.

    Args:
        tables_s: Cost of each block under each set of holders, (worlds, blocks, 2^nodes), s.
        masks: Holders of each block, (worlds, blocks); may exceed capacities.
        sizes_bytes: (blocks,).
        capacity_bytes: (nodes,).

    Returns:
        Holders that fit, (worlds, blocks).
    """
    worlds, blocks, _ = tables_s.shape
    size, room = sizes_bytes.to(tables_s.dtype), capacity_bytes.to(tables_s.dtype)
    rows = torch.arange(worlds, device=tables_s.device)
    ones = 1 << torch.arange(capacity_bytes.numel(), device=tables_s.device)
    masks = masks.clone()
    while True:
        over = _used(masks, size, ones) > room
        if not bool(over.any()):
            return masks
        fewer = (masks[:, None, :] & ~ones[:, None]).transpose(1, 2)
        now = tables_s.gather(2, masks[..., None])
        loss = (tables_s.gather(2, fewer) - now).transpose(1, 2) / size
        loss.masked_fill_(~(_holds(masks, ones) & over[..., None]), torch.inf)
        least, flat = loss.reshape(worlds, -1).min(dim=1)
        node, block = flat // blocks, flat % blocks
        lighter = masks[rows, block] & ~ones[node]
        masks[rows, block] = torch.where(torch.isfinite(least), lighter, masks[rows, block])


def _holds(masks: Tensor, ones: Tensor) -> Tensor:
    """Placement, bool (worlds, nodes, blocks)."""
    return (masks[:, None, :] & ones[:, None]) != 0


def _used(masks: Tensor, size: Tensor, ones: Tensor) -> Tensor:
    """Bytes on each node, (worlds, nodes)."""
    return (_holds(masks, ones) * size).sum(dim=-1)


def _gain(tables_s: Tensor, masks: Tensor, ones: Tensor) -> Tensor:
    """Seconds saved by one more copy, (worlds, nodes, blocks)."""
    more = (masks[:, None, :] | ones[:, None]).transpose(1, 2)
    now = tables_s.gather(2, masks[..., None])
    return (now - tables_s.gather(2, more)).transpose(1, 2).contiguous()
