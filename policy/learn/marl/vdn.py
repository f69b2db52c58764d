"""VDN (Sunehag et al., arXiv 1706.05296): the team's cost is the sum of one value a node.

Deviation: a node's action is a set of blocks, so its value is a sum over the blocks that it caches, and
its best action is a capacity fill by value a byte. Mixing is a module of its own, which QMIX replaces.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from policy.learn.marl.actors import FlatActor, gumbel_like, mlp
from policy.learn.marl.base import Learner, MarlConfig, descend, soft_update
from policy.learn.marl.training_worlds import WorldSet
from policy.learn.marl.view import NUM_FEATURES


class SumMixer(nn.Module):
    """Adds."""

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values (samples, nodes) to (samples,)."""
        return values.sum(dim=-1)


class Utilities(nn.Module):
    """Seconds that each node believes to save by each block, and what it costs without any."""

    def __init__(self) -> None:
        super().__init__()
        self.saves = FlatActor()
        self.idle = mlp(NUM_FEATURES)

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """Saved seconds in units of the scale of the world set, (samples, nodes, blocks)."""
        saved: Tensor = self.saves(features, distance)
        return saved

    def values(self, features: Tensor, distance: Tensor, actions: Tensor) -> Tensor:
        """Cost that each node expects of its own action, (samples, nodes)."""
        idle = self.idle(features.mean(dim=2)).squeeze(-1)
        blocks = features.shape[2]
        cost: Tensor = idle - (self(features, distance) * actions).sum(dim=-1) / blocks
        return cost


class Vdn(Learner):
    """Temporal differences on the mixed value."""

    name = "vdn"

    def __init__(self, world_set: WorldSet, config: MarlConfig) -> None:
        super().__init__(world_set, config)
        self.actor: Utilities = Utilities()
        self._mixer = self.make_mixer()
        self._target_actor, self._target_mixer = deepcopy(self.actor), deepcopy(self._mixer)
        parameters = [*self.actor.parameters(), *self._mixer.parameters()]
        self._steps = torch.optim.Adam(parameters, lr=config.learning_rate)
        self._relative = (world_set.sizes.double().mean() / world_set.sizes).float()

    def make_mixer(self) -> nn.Module:
        """How the nodes' values make the team's."""
        return SumMixer()

    def scores(self, features: Tensor) -> Tensor:
        """Savings per byte."""
        scores: Tensor = self.actor(features, self.world_set.distance) * self._relative
        return scores

    def explore(self, features: Tensor) -> Tensor:
        """Values have a scale of their own: noise in standard deviations of the scores."""
        scores = self.scores(features)
        spread = scores.std(dim=(1, 2), keepdim=True) + 1e-6
        return self.world_set.fill(scores + self.config.noise * spread * gumbel_like(scores, self.generator))

    def update(self) -> None:
        """One step on the squared temporal difference."""
        world_set, config = self.world_set, self.config
        slots = self.memory.sample(config.batch, self.generator)
        features = world_set.features(slots.slot, slots.world, slots.before)
        goal = world_set.block_costs(slots.slot, slots.world, slots.before, slots.after).sum(dim=1)
        if config.discount:
            with torch.no_grad():
                later, live = self.next_features(slots)
                then = world_set.bits_of(world_set.fill(self.scores(later)))
                values = self._target_actor.values(later, world_set.distance, then)
                goal = goal + config.discount * live * self._target_mixer(values, later.mean(dim=(1, 2)))
        own = self.actor.values(features, world_set.distance, world_set.bits_of(slots.after))
        value = self._mixer(own, features.mean(dim=(1, 2)))
        descend(self._steps, (value - goal).square().mean())
        soft_update(self._target_actor, self.actor)
        soft_update(self._target_mixer, self._mixer)
