"""Best placements over the whole horizon in hindsight: a bracket.

Without the capacities the problem falls apart into one shortest path for each block, over 2^nodes states and
all slots (Viterbi). Capacities get prices: for any prices >= 0 the sum of priced paths minus the value of the
room is a lower bound (Lagrange); prices climb by subgradient steps of Polyak's length. The priced optimum,
cut down to fit slot by slot, filled up greedily, then improved block by block along exact paths in the room
that is left, gives an upper bound. Cost is additive whatever the scenario's timing: of slots that are played
with another timing this bounds nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from policy.batched.placing import drop_to_fit, greedy_masks
from policy.batched.worlds import WorldBatch
from policy.interfaces import Float
from policy.slot.tables import mask_bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HorizonBracket:
    """Cost of the best placements in hindsight, per world, mean over slots."""

    lower_s: Float
    """No policy costs less, (worlds,), s per slot."""
    upper_s: Float
    """Cost of `masks`, (worlds,), s per slot."""
    masks: Tensor
    """Placements that reach the upper bound, (worlds, slots, blocks)."""


def hindsight_bracket(batch: WorldBatch, steps: int = 120, sweeps: int = 1) -> HorizonBracket:
    """Bracket the hindsight optimum of additive cost, cache updates included; caches start empty.

    An update budget is ignored: the lower bound stays valid, the placements of the upper may break it.

    Args:
        batch: Worlds with their tables.
        steps: Subgradient steps on the prices.
        sweeps: Passes of block-wise improvement.
    """
    problem = _Horizon(batch)
    prices, lower = _climb(problem, steps)
    masks = _decode(problem, prices)
    for _ in range(sweeps):
        masks = _improve(problem, masks)
    slots = batch.num_slots
    return HorizonBracket(
        lower_s=lower.numpy() / slots, upper_s=problem.cost(masks).numpy() / slots, masks=masks
    )


class _Horizon:
    """Tensors of the problem, in double."""

    def __init__(self, batch: WorldBatch) -> None:
        config = batch.scenario.config
        self.tables = batch.tables_s.double()
        self.worlds, self.slots, self.blocks, self.sets = self.tables.shape
        self.nodes = config.num_nodes
        self.sizes = torch.tensor(batch.scenario.catalog.sizes_bytes, dtype=torch.float64)
        self.room = torch.tensor(batch.scenario.capacity_bytes, dtype=torch.float64)
        self.members = torch.tensor(mask_bits(self.nodes), dtype=torch.float64)
        jump = config.update_weight * batch.update_s_bit.double() * 8.0
        self.jump = jump[None] * self.sizes[:, None, None]
        """Cost to go from one set of holders to another, (blocks, before, after), s."""

    def cost(self, masks: Tensor) -> Tensor:
        """Cost of placements (worlds, slots, blocks), summed over slots, (worlds,), s."""
        delay = self.tables.gather(3, masks[..., None])[..., 0].sum(dim=(1, 2))
        before = torch.cat([torch.zeros_like(masks[:, :1]), masks[:, :-1]], dim=1)
        blocks = torch.arange(self.blocks)
        return delay + self.jump[blocks, before, masks].sum(dim=(1, 2))

    def used(self, masks: Tensor) -> Tensor:
        """Bytes on each node, (worlds, slots, nodes)."""
        return torch.einsum("wtjn,j->wtn", self.members[masks], self.sizes)

    def to_go(self, charged: Tensor, jump: Tensor) -> list[Tensor]:
        """Least cost after each slot given its set, one tensor (..., sets) a slot; the last is zero.

        Args:
            charged: Cost of each set in each slot, (worlds, slots, ..., sets).
            jump: Cost between sets, (..., sets, sets).
        """
        value = torch.zeros_like(charged[:, 0])
        values = [value]
        for slot in range(self.slots - 1, 0, -1):
            value = (jump + (charged[:, slot] + value).unsqueeze(-2)).amin(dim=-1)
            values.append(value)
        return values[::-1]

    def path(self, charged: Tensor, jump: Tensor) -> tuple[Tensor, Tensor]:
        """Cheapest path from empty caches: its cost, (worlds, ...), and its sets, (worlds, slots, ...)."""
        ahead = self.to_go(charged, jump)
        held = torch.zeros(ahead[0].shape[:-1], dtype=torch.int64)
        total = torch.zeros(held.shape, dtype=torch.float64)
        steps = []
        wide = jump.expand(*held.shape, self.sets, self.sets)
        for slot in range(self.slots):
            row = wide.gather(-2, held[..., None, None].expand(*held.shape, 1, self.sets)).squeeze(-2)
            value = row + charged[:, slot] + ahead[slot]
            best, step = value.min(dim=-1)
            if slot == 0:
                total = best
            held = step
            steps.append(step)
        return total, torch.stack(steps, dim=1)


def _charge(problem: _Horizon, prices: Tensor) -> Tensor:
    """Tables plus the rent of the room each set takes, (worlds, slots, blocks, sets), s."""
    rent = torch.einsum("wtn,cn->wtc", prices, problem.members)
    return problem.tables + rent[:, :, None, :] * problem.sizes[:, None]


def _climb(problem: _Horizon, steps: int) -> tuple[Tensor, Tensor]:
    """Subgradient ascent on the prices, s per byte, (worlds, slots, nodes); returns the best and their bound.

    Polyak's step aims at the cost of a real placement; it shortens when the bound stalls.
    """
    scale = problem.tables[..., 0].sum(dim=2) / problem.room.sum()
    prices = 0.3 * scale[..., None].expand(problem.worlds, problem.slots, problem.nodes)
    aim = problem.cost(_decode(problem, prices))
    best_prices, best = prices, torch.full_like(aim, -torch.inf)
    length, stalled = torch.ones_like(aim), torch.zeros_like(aim)
    slope = torch.zeros_like(prices)
    for _ in range(steps):
        value, masks = problem.path(_charge(problem, prices), problem.jump)
        bound = value.sum(dim=-1) - (prices * problem.room).sum(dim=(1, 2))
        stalled = torch.where(bound > best + 1e-4 * best.abs(), 0.0, stalled + 1)
        best_prices = torch.where((bound > best)[:, None, None], prices, best_prices)
        best = torch.maximum(best, bound)
        length = torch.where(stalled >= 5, 0.7 * length, length)
        stalled = torch.where(stalled >= 5, 0.0, stalled)
        slope = 0.5 * slope + 0.5 * (problem.used(masks) - problem.room)
        step = length * (aim - bound).clamp(min=0) / slope.square().sum(dim=(1, 2)).clamp(min=1e-12)
        prices = (prices + step[:, None, None] * slope).clamp(min=0.0)
    return best_prices, best


def _decode(problem: _Horizon, prices: Tensor) -> Tensor:
    """Slot by slot: the priced optimum cut to fit, filled up by this slot's cost plus the priced rest."""
    charged = _charge(problem, prices)
    ahead = problem.to_go(charged, problem.jump)
    held = torch.zeros((problem.worlds, problem.blocks), dtype=torch.int64)
    blocks = torch.arange(problem.blocks)
    steps = []
    for slot in range(problem.slots):
        rest = problem.jump[blocks, held] + ahead[slot]
        value = problem.tables[:, slot] + rest
        start = (charged[:, slot] + rest).argmin(dim=-1)
        start = drop_to_fit(value, start, problem.sizes, problem.room)
        held = greedy_masks(value, problem.sizes, problem.room, start)
        steps.append(held)
    return torch.stack(steps, dim=1)


def _improve(problem: _Horizon, masks: Tensor) -> Tensor:
    """Re-route one block after another along its exact best path in the room the others leave."""
    masks = masks.clone()
    used = problem.used(masks)
    for block in range(problem.blocks):
        mine = problem.members[masks[..., block]] * problem.sizes[block]
        left = problem.room - (used - mine)
        too_big = (problem.members[None, None] * problem.sizes[block] > left[:, :, None] + 1e-6).any(dim=-1)
        charged = problem.tables[:, :, block].masked_fill(too_big, torch.inf)
        _, path = problem.path(charged, problem.jump[block])
        masks[..., block] = path
        used = used - mine + problem.members[path] * problem.sizes[block]
    return masks
