"""VDN (Sunehag et al., arXiv 1706.05296): the team's cost is the sum of one value a node.

Deviation: a node's action is a set of blocks, so its value is a sum over the blocks that it caches, and
its best action is a capacity fill by value a byte. Nodes decide in turn. Mixing is a module of its own, which
QMIX replaces.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from policy.learn.marl.actors import Utilities, keep_entropy, keep_noise
from policy.learn.marl.base import Learner, MarlConfig, descend, relative_error, soft_update
from policy.learn.marl.training_worlds import WorldSet


class SumMixer(nn.Module):
    """Adds."""

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Values (samples, nodes) to (samples,)."""
        return values.sum(dim=-1)


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

    def make_mixer(self) -> nn.Module:
        """How the nodes' values make the team's."""
        return SumMixer()

    def noise(self, scores: Tensor) -> Tensor:
        """Values have a scale of their own: noise in standard deviations of the scores."""
        spread = scores.std(dim=-1, keepdim=True) + 1e-6
        return self.config.noise * (1 - 0.9 * self.share) * spread * keep_noise(scores, self.generator)

    def update(self) -> None:
        """One step on the squared temporal difference."""
        world_set = self.world_set
        slots = self.memory.sample(self.config.batch, self.generator)
        features, goal = self.features_of(slots), self.costs_of(slots).sum(dim=1)
        later, live = self.next_slots(slots)
        with torch.no_grad():
            seen = self.features_of(later)
            values = self._target_actor.values(seen, world_set.bits_of(later.after))
            goal = goal + self.config.discount * live * self._target_mixer(values, seen.mean(dim=(1, 2)))
        taken = world_set.bits_of(slots.after)
        value = self._mixer(self.actor.values(features, taken), features.mean(dim=(1, 2)))
        loss = (value - goal).square().mean()
        norm = descend(self._steps, loss)
        soft_update(self._target_actor, self.actor)
        soft_update(self._target_mixer, self._mixer)
        with torch.no_grad():
            entropy = float(keep_entropy(self.scores(features), taken))
        self.note(
            loss=loss,
            value_error=relative_error(value, goal),
            entropy=entropy,
            actor_norm=norm,
            critic_norm=norm,
        )
