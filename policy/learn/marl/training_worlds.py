"""Training ground of the learned baselines: many worlds at once, every action judged by a gather."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.batched import WorldBatch, batch_worlds, fill_scores
from policy.learn.marl.view import node_distance, precompute
from policy.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldSet:
    """Worlds of one scenario with all that never reacts to caching."""

    batch: WorldBatch
    view: Tensor
    """Features of each slot, (slots, worlds, nodes, blocks, NUM_VIEW)."""
    distance: Tensor
    """(nodes, nodes)."""
    sizes: Tensor
    """(blocks,), bytes."""
    capacity: Tensor
    """(nodes,), bytes."""
    scale_s: float
    """Cost of a slot with nothing cached; costs are learnt in units of it."""

    @property
    def num_nodes(self) -> int:
        """Nodes."""
        return int(self.capacity.numel())

    @property
    def empty(self) -> Tensor:
        """Holders before slot 0, (worlds, blocks)."""
        return torch.zeros((self.batch.num_worlds, self.sizes.numel()), dtype=torch.int64)

    def features(self, slots: Tensor, worlds: Tensor, before: Tensor) -> Tensor:
        """Features of each (node, block) pair, (samples, nodes, blocks, NUM_FEATURES)."""
        held = self.bits_of(before)
        others = (held.sum(dim=1, keepdim=True) - held) / max(self.num_nodes - 1, 1)
        return torch.cat([self.view[slots, worlds], held[..., None], others[..., None]], dim=-1)

    def bits_of(self, holders: Tensor) -> Tensor:
        """Holders as 0 and 1, (samples, nodes, blocks)."""
        return ((holders[:, None, :] >> torch.arange(self.num_nodes)[:, None]) & 1).float()

    def fill(self, scores: Tensor) -> Tensor:
        """Scores (samples, nodes, blocks) to holders that fit, (samples, blocks)."""
        return fill_scores(scores, self.sizes, self.capacity)

    def block_costs(self, slots: Tensor, worlds: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Delay and weighted update of each block in units of `scale_s`, (samples, blocks)."""
        delay = self.batch.tables_s[worlds, slots].gather(2, after[..., None])[..., 0]
        return delay / self.scale_s + self.update_costs(before, after)

    def update_costs(self, before: Tensor, after: Tensor) -> Tensor:
        """Weighted cache update of each block in units of `scale_s`, (samples, blocks)."""
        sets = self.batch.update_s_bit.shape[0]
        update = self.batch.update_s_bit.view(-1)[before * sets + after] * self.batch.bits
        return update * (self.batch.scenario.config.update_weight / self.scale_s)


def make_world_set(scenario: Scenario, seeds: Sequence[int]) -> WorldSet:
    """Draw worlds, one per seed, and precompute everything."""
    worlds = [scenario.world(seed) for seed in seeds]
    batch = batch_worlds(worlds)
    cells = np.stack([world.trace.cells() for world in worlds])
    view = precompute(scenario, batch.requests.numpy(), cells)
    return WorldSet(
        batch=batch,
        view=torch.from_numpy(view),
        distance=torch.from_numpy(node_distance(worlds[0].trace.node_xy, scenario.config.area_m)),
        sizes=torch.tensor(scenario.catalog.sizes_bytes),
        capacity=torch.tensor(scenario.capacity_bytes),
        scale_s=float(batch.tables_s[..., 0].sum(dim=2).mean()),
    )
