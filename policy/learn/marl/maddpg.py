"""MADDPG (Lowe et al., 2017) with Gumbel-Softmax: a central critic of the joint placement, one team cost.

Deviations: nodes share one actor (they differ in what they see alone); the choice is a capacity fill of noisy
scores with a straight-through gradient, since a node picks a set of blocks, not one of a few actions; nodes
decide in turn.
"""

from copy import deepcopy

import torch

from policy.learn.marl.actors import Actor, FlatActor, keep_entropy, soft_choice
from policy.learn.marl.base import Learner, MarlConfig, descend, relative_error, soft_update
from policy.learn.marl.critics import TeamCritic
from policy.learn.marl.training_worlds import WorldSet


class Maddpg(Learner):
    """Actor and central critic, both from replay."""

    name = "maddpg"

    def __init__(self, world_set: WorldSet, config: MarlConfig, temperature: float = 1.0) -> None:
        super().__init__(world_set, config)
        self.actor: Actor = FlatActor()
        self._critic = TeamCritic()
        self._target = deepcopy(self._critic)
        self._temperature = temperature
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)
        self._critic_steps = torch.optim.Adam(self._critic.parameters(), lr=config.learning_rate)

    def update(self) -> None:
        """Critic by temporal difference, then actor through the critic."""
        world_set, config = self.world_set, self.config
        slots = self.memory.sample(config.batch, self.generator)
        later, live = self.next_slots(slots)
        with torch.no_grad():
            then = self._target(self.features_of(later), world_set.bits_of(later.after))
        goal = self.costs_of(slots).sum(dim=1) + config.discount * live * then
        value = self._critic(self.features_of(slots), world_set.bits_of(slots.after))
        loss = (value - goal).square().mean()
        critic_norm = descend(self._critic_steps, loss)
        soft_update(self._target, self._critic)
        decided = world_set.decide(self.actor, slots.slot, slots.world, slots.before, self.noise)
        choice = soft_choice(decided.scores, decided.holds, world_set.relative, self._temperature)
        after = world_set.holders_of(decided.holds)
        seen = world_set.features(slots.slot, slots.world, slots.before, after)
        cost = self._critic(seen, choice).mean()
        norm = descend(self._actor_steps, cost + 1e-3 * decided.scores.square().mean())
        with torch.no_grad():
            self.note(
                loss=loss,
                value_error=relative_error(value, goal),
                critic_norm=critic_norm,
                entropy=keep_entropy(decided.scores, decided.holds),
                actor_norm=norm,
            )
