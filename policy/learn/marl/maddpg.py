"""MADDPG (Lowe et al., 2017) with Gumbel-Softmax: a central critic of the joint placement, one team cost.

Deviations: nodes share one actor (they differ in what they see alone); the choice is a capacity fill of noisy
scores with a straight-through gradient, since a node picks a set of blocks, not one of a few actions.
"""

from copy import deepcopy

import torch

from policy.learn.marl.actors import FlatActor, gumbel_like, soft_choice
from policy.learn.marl.base import Learner, MarlConfig, descend, soft_update
from policy.learn.marl.critics import TeamCritic
from policy.learn.marl.training_worlds import WorldSet


class Maddpg(Learner):
    """Actor and central critic, both from replay."""

    name = "maddpg"

    def __init__(self, world_set: WorldSet, config: MarlConfig, temperature: float = 1.0) -> None:
        super().__init__(world_set, config)
        self.actor, self._critic = FlatActor(), TeamCritic()
        self._target = deepcopy(self._critic)
        self._temperature = temperature
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)
        self._critic_steps = torch.optim.Adam(self._critic.parameters(), lr=config.learning_rate)

    def update(self) -> None:
        """Critic by temporal difference, then actor through the critic."""
        world_set, config = self.world_set, self.config
        slots = self.memory.sample(config.batch, self.generator)
        features = world_set.features(slots.slot, slots.world, slots.before)
        goal = world_set.block_costs(slots.slot, slots.world, slots.before, slots.after).sum(dim=1)
        if config.discount:
            with torch.no_grad():
                later, live = self.next_features(slots)
                then = world_set.bits_of(world_set.fill(self.scores(later)))
                goal = goal + config.discount * live * self._target(later, then)
        value = self._critic(features, world_set.bits_of(slots.after))
        descend(self._critic_steps, (value - goal).square().mean())
        soft_update(self._target, self._critic)
        scores = self.scores(features)
        noisy = scores + config.noise * gumbel_like(scores, self.generator)
        choice = soft_choice(noisy, world_set.bits_of(world_set.fill(noisy.detach())), self._temperature)
        descend(self._actor_steps, self._critic(features, choice).mean() + 1e-3 * scores.square().mean())
