"""MAPPO (Yu et al., arXiv 2103.01955): PPO, a shared actor for all nodes, a central value of the state.

Deviation: a node's action is the order in which it fills its cache; sorting scores plus Gumbel noise draws
such an order, and its likelihood is Plackett's and Luce's over the blocks that were taken.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from policy.learn.marl.actors import FlatActor, gumbel_like
from policy.learn.marl.base import Learner, MarlConfig, descend
from policy.learn.marl.critics import TeamCritic
from policy.learn.marl.training_worlds import WorldSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One slot of an episode, all worlds."""

    features: Tensor
    noisy: Tensor
    taken: Tensor
    log_chance: Tensor
    cost: Tensor


def order_log_chance(scores: Tensor, noisy: Tensor, taken: Tensor) -> Tensor:
    """Log likelihood of each node's fill, a block taken, (samples, nodes).

    Args:
        scores: Log weights of the blocks, (samples, nodes, blocks).
        noisy: What was sorted, same shape.
        taken: 1 where the block was taken, same shape.
    """
    order = noisy.argsort(dim=-1, descending=True)
    ranked, picked = scores.gather(-1, order), taken.gather(-1, order)
    left = ranked.flip(-1).logcumsumexp(dim=-1).flip(-1)
    return ((ranked - left) * picked).sum(dim=-1) / picked.sum(dim=-1).clamp(min=1)


class Mappo(Learner):
    """On-policy: an episode, then some passes over it."""

    name = "mappo"

    def __init__(
        self,
        world_set: WorldSet,
        config: MarlConfig,
        clip: float = 0.2,
        passes: int = 3,
        entropy: float = 0.0,
    ) -> None:
        super().__init__(world_set, config)
        self.actor, self._critic = FlatActor(), TeamCritic(actions=False)
        self._clip, self._passes, self._entropy = clip, passes, entropy
        parameters = [*self.actor.parameters(), *self._critic.parameters()]
        self._steps = torch.optim.Adam(parameters, lr=config.learning_rate)

    def update(self) -> None:
        """Nothing within an episode."""

    def episode(self) -> None:
        """Play some worlds once, then learn from them."""
        world_set, count = self.world_set, min(self.config.worlds, self.world_set.batch.num_worlds)
        worlds = torch.randperm(world_set.batch.num_worlds, generator=self.generator)[:count]
        before, steps = world_set.empty[worlds], []
        for slot in range(world_set.batch.num_slots):
            here = torch.full_like(worlds, slot)
            features = world_set.features(here, worlds, before)
            with torch.no_grad():
                scores = self.scores(features)
                noisy = scores + gumbel_like(scores, self.generator)
                after = world_set.fill(noisy)
                taken = world_set.bits_of(after)
                chance = order_log_chance(scores, noisy, taken)
            cost = world_set.block_costs(here, worlds, before, after).sum(dim=1)
            steps.append(Step(features=features, noisy=noisy, taken=taken, log_chance=chance, cost=cost))
            before = after
            self.env_steps += count
        self._learn(steps)

    def _learn(self, steps: list[Step]) -> None:
        goals, goal = [], torch.zeros_like(steps[0].cost)
        for step in reversed(steps):
            goal = step.cost + self.config.discount * goal
            goals.append(goal)
        goals.reverse()
        with torch.no_grad():
            edges = [goal - self._critic(step.features) for goal, step in zip(goals, steps, strict=True)]
        spread = torch.stack(edges).std() + 1e-8
        for _ in range(self._passes):
            for place in torch.randperm(len(steps), generator=self.generator).tolist():
                self._step(steps[place], goals[place], -edges[place] / spread)

    def _step(self, step: Step, goal: Tensor, edge: Tensor) -> None:
        scores = self.scores(step.features)
        chance = order_log_chance(scores, step.noisy, step.taken)
        count = step.taken.sum(dim=-1).clamp(min=1)
        ratio = torch.exp(((chance - step.log_chance) * count).clamp(-2, 2))
        better = torch.minimum(
            ratio * edge[:, None], ratio.clamp(1 - self._clip, 1 + self._clip) * edge[:, None]
        )
        log_share = torch.log_softmax(scores, dim=-1)
        spread = -(log_share.exp() * log_share).sum(dim=-1).mean()
        miss = (self._critic(step.features) - goal).square().mean()
        descend(self._steps, -better.mean() - self._entropy * spread + miss)
