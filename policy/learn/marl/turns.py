"""Nodes decide one after another, each at its own turn, and announce what they will hold.

The order rotates by one node a slot. A node that decides sees its own view and what the others have
announced: those before it what they will hold now, those after it what they held last. It takes blocks from
its best score down, those that fit its room and that its link and its budget of updates can bring.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.errors import DivergedError
from policy.learn.marl.actors import Actor
from policy.learn.marl.view import with_held


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limits:
    """What a node can hold and bring."""

    sizes: Tensor
    """(blocks,), bytes."""
    capacity: Tensor
    """(nodes,), bytes."""
    hop_s: Tensor
    """Time of each block from another node, (blocks,), s."""
    cloud_s: Tensor
    """Time of each block from the cloud, (blocks,), s."""
    budget_bytes: float = math.inf
    """Most bytes that a node may bring in a slot."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decided:
    """What all nodes decided; nodes in their own order, not in that of their turns."""

    scores: Tensor
    """What caches were filled by, noise included, (samples, nodes, blocks)."""
    holds: Tensor
    """1 where a node will hold a block, (samples, nodes, blocks)."""


def turn_of(slots: Tensor, nodes: int) -> Tensor:
    """Turn of each node, (samples, nodes): node `slot % nodes` begins."""
    return (torch.arange(nodes) - slots[:, None]) % nodes


def others_share(before: Tensor, after: Tensor, turn: Tensor) -> Tensor:
    """Share of the other nodes that have announced a block when a node decides, (samples, nodes, blocks).

    Args:
        before: 1 where a node held a block, (samples, nodes, blocks).
        after: 1 where it will, same shape.
        turn: Turn of each node, (samples, nodes).
    """
    nodes = before.shape[1]
    earlier = (turn[:, None, :] < turn[:, :, None]).float()
    later = (turn[:, None, :] > turn[:, :, None]).float()
    return (earlier @ after + later @ before) / max(nodes - 1, 1)


def decide(
    actor: Actor,
    view: Tensor,
    before: Tensor,
    slots: Tensor,
    idle_s: Tensor,
    limits: Limits,
    distance: Tensor,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Decided:
    """Let all nodes decide.

    Args:
        actor: Scores.
        view: (samples, nodes, blocks, NUM_VIEW), or as from `view.told`.
        before: 1 where a node has a block at hand, (samples, nodes, blocks).
        slots: Slot of each sample, (samples,).
        idle_s: Time that each node's link has for updates, (samples, nodes), s.
        limits: Room and link times.
        distance: Of every two nodes, (nodes, nodes).
        noise: Noise on scores of their shape; None: none.
    """
    samples, nodes = view.shape[:2]
    rows, now = torch.arange(samples), before
    start = with_held(view, before, (before.sum(dim=1, keepdim=True) - before) / max(nodes - 1, 1))
    asked = actor.asked(start, distance)
    scores: list[Tensor] = []
    for place in range(nodes):
        node = (slots + place) % nodes
        mine = before[rows, node]
        others = (now.sum(dim=1) - now[rows, node]) / max(nodes - 1, 1)
        score = actor.own(with_held(view[rows, node], mine, others)) + asked[rows, node]
        score = score if noise is None else score + noise(score)
        there = (before.sum(dim=1) + now.sum(dim=1)) > 0
        seconds = torch.where(there, limits.hop_s, limits.cloud_s) * (1 - mine)
        rations = [(limits.sizes, limits.capacity[node]), (seconds, idle_s[rows, node])]
        if math.isfinite(limits.budget_bytes):
            rations.append((limits.sizes * (1 - mine), torch.full((samples,), limits.budget_bytes)))
        taken = fill(score.detach(), rations)
        now = now.clone()
        now[rows, node] = taken
        scores.append(score)
    turn = turn_of(slots, nodes)[..., None].expand(-1, -1, view.shape[2])
    return Decided(scores=torch.stack(scores, dim=1).gather(1, turn), holds=now)


def fill(scores: Tensor, rations: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Take blocks from the best score down, skipping what does not fit a ration; ties by block number.

    Args:
        scores: (samples, blocks).
        rations: Of room, of link time, of updates: what each block needs, (blocks,) or (samples, blocks), and
            what each sample has, (samples,).

    Returns:
        1 where taken, (samples, blocks).

    Raises:
        DivergedError: If a score is NaN.
    """
    if bool(torch.isnan(scores).any()):
        raise DivergedError(f"{int(torch.isnan(scores).sum())} of {scores.numel()} scores are not numbers")
    ranks = torch.argsort(scores, dim=-1, descending=True, stable=True)
    ordered = [need.double().expand_as(ranks).gather(-1, ranks).T for need, _ in rations]
    needs = torch.stack(ordered, dim=1).numpy()  # (blocks, rations, samples)
    left = torch.stack([has.double().expand(len(ranks)) for _, has in rations]).numpy()
    takes = np.empty((len(needs), len(ranks)), dtype=bool)
    for place, need in enumerate(needs):
        takes[place] = (need <= left).all(axis=0)
        left -= need * takes[place]
    return torch.zeros(scores.shape).scatter_(-1, ranks, torch.from_numpy(takes).T.float())
