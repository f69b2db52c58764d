"""What slots of a world cost under any placement, ready to be gathered.

Where slots overlap and users' mean delay counts, this is the distilled clock (`policy.learn.slot_clock`) on
the requests and rates of the slot; else the exact additive tables. Both are sums over blocks, the clock one
in each unit and turn, of which the largest counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.interfaces import Bool, Float, Int
from policy.learn.request_statistics import Single
from policy.learn.single_rates import joint_air
from policy.learn.slot_clock import SlotClock, turns_of
from policy.learn.value import Classes, class_times, classes_of
from policy.scenario import World


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotCosts:
    """Slots of many worlds."""

    cost_s: Tensor
    """Time of each block in each unit, by holders, (worlds, slots, units, 2^nodes, blocks), s."""
    sent: Tensor
    """1 where a block is sent before a turn is done, (worlds, slots, turns, blocks)."""
    weight: Tensor
    """What the delay of a turn counts, (worlds, slots, turns)."""

    def by_block(self, worlds: Tensor, slots: Tensor, holders: Tensor) -> Tensor:
        """Cost of some slots, split over their blocks, (samples, blocks), s.

        A turn's delay is the sum over its blocks in the unit that binds, so the parts add up to it.

        Args:
            worlds: (samples,).
            slots: (samples,).
            holders: Nodes that cache each block, as integers, (samples, blocks).
        """
        cost = self.cost_s[worlds, slots]
        index = holders[:, None, None, :].expand(-1, cost.shape[1], 1, -1)
        work = cost.gather(2, index)[:, :, 0]  # (samples, units, blocks)
        sent = self.sent[worlds, slots]
        binding = torch.einsum("stb,sub->stu", sent, work).argmax(dim=-1)
        chosen = work.gather(1, binding[..., None].expand(-1, -1, work.shape[-1]))  # (samples, turns, blocks)
        return torch.einsum("st,stb,stb->sb", self.weight[worlds, slots], sent, chosen)


def additive_costs(tables_s: Tensor) -> SlotCosts:
    """Costs that add over blocks, from tables (worlds, slots, blocks, 2^nodes), s: one unit, one turn."""
    worlds, slots, blocks, _ = tables_s.shape
    return SlotCosts(
        cost_s=tables_s.transpose(2, 3)[:, :, None].contiguous(),
        sent=torch.ones((worlds, slots, 1, blocks)),
        weight=torch.ones((worlds, slots, 1)),
    )


def clock_costs(worlds: Sequence[World], rates: Sequence[Float], clock: SlotClock) -> SlotCosts:
    """Costs by the clock.

    Args:
        worlds: Worlds of one scenario.
        rates: Of each world, see `policy.learn.single_rates.world_rates`.
        clock: Prices.
    """
    parts = [_world_costs(world, rate, clock) for world, rate in zip(worlds, rates, strict=True)]
    turns = max(sent.shape[1] for _, sent, _ in parts)
    wide = [(0, turns - sent.shape[1]) for _, sent, _ in parts]
    sent = [np.pad(part[1], ((0, 0), w, (0, 0))) for part, w in zip(parts, wide, strict=True)]
    weight = [np.pad(part[2], ((0, 0), w)) for part, w in zip(parts, wide, strict=True)]
    return SlotCosts(
        cost_s=torch.from_numpy(np.stack([part[0] for part in parts])),
        sent=torch.from_numpy(np.stack(sent)),
        weight=torch.from_numpy(np.stack(weight)),
    )


def _world_costs(world: World, rates: Float, clock: SlotClock) -> tuple[Single, Single, Single]:
    """`cost_s`, `sent` and `weight` of one world."""
    catalog, config = world.scenario.catalog, world.scenario.config
    of = classes_of(catalog.members)
    first = np.unique(of.of_block, return_index=True)[1]
    bits = 8.0 * catalog.sizes_bytes.astype(np.float64)
    class_bits: Float = np.bincount(of.of_block, weights=bits).astype(np.float64)
    air = joint_air(rates, config.radio.bandwidth_hz).astype(np.float32)
    air[..., 0] = 0.0
    times = np.concatenate(
        [_times(world, slot, air[slot : slot + 1], of, first) for slot in range(air.shape[0])], axis=2
    )
    costs = clock.costs(times, config.links).transpose(3, 0, 1, 2)[..., of.of_block] * bits
    turns = [
        _turns(world, slot, air[slot : slot + 1, :, -1], of, class_bits, first) for slot in range(len(air))
    ]
    most = max(sent.shape[1] for sent, _ in turns)
    sent = np.concatenate([_widened(sent, most) for sent, _ in turns])[..., of.of_block]
    weight = np.concatenate([_widened(weight, most) for _, weight in turns])
    return costs.astype(np.float32), sent, weight


def _times(world: World, slot: int, air: Single, of: Classes, first: Int) -> Single:
    return class_times(world.trace.requests[slot : slot + 1], air, of, _kept(world, slot, first))


def _turns(
    world: World, slot: int, fastest: Single, of: Classes, class_bits: Float, first: Int
) -> tuple[Single, Single]:
    asked = world.trace.requests[slot : slot + 1]
    return turns_of(asked, fastest, of, class_bits, _kept(world, slot, first))[:2]


def _kept(world: World, slot: int, first: Int) -> Bool | None:
    kept = world.devices(slot)
    return None if kept is None else kept[:, first]


def _widened(array: Single, turns: int) -> Single:
    """More turns of nothing along axis 1."""
    return np.pad(array, [(0, 0), (0, turns - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])
