"""MAPPO (Yu et al., arXiv 2103.01955): PPO, a shared actor for all nodes, a central value of the state.

Deviations: a node's action is the order in which it fills its cache; sorting scores plus Gumbel noise draws
such an order, and its likelihood is Plackett's and Luce's over the blocks that were taken. Nodes decide in
turn. Advantages are generalised (Schulman et al., 2016).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from policy.learn.marl.actors import Actor, FlatActor, gumbel, keep_entropy
from policy.learn.marl.base import Learner, MarlConfig, descend, relative_error
from policy.learn.marl.critics import TeamCritic
from policy.learn.marl.training_worlds import WorldSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One slot of an episode, all worlds."""

    features: Tensor
    state: Tensor
    """Features before anybody has decided: what the central value sees."""
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


def advantages(cost: Tensor, value: Tensor, discount: float, decay: float) -> Tensor:
    """Generalised advantage of each slot, in cost: above 0 is worse than expected, (slots, worlds).

    Args:
        cost: Of each slot, (slots, worlds).
        value: Expected discounted cost from each slot on, (slots, worlds).
        discount: Weight of the next slot.
        decay: Weight of the next slot's advantage beside it (lambda).
    """
    after = torch.cat([value[1:], torch.zeros_like(value[:1])])
    surprise = cost + discount * after - value
    edges, edge = [], torch.zeros_like(cost[0])
    for step in surprise.flip(0):
        edge = step + discount * decay * edge
        edges.append(edge)
    return torch.stack(edges).flip(0)


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
        decay: float = 0.9,
    ) -> None:
        super().__init__(world_set, config)
        self.actor: Actor = FlatActor()
        self._critic = TeamCritic(actions=False)
        self._clip, self._passes, self._entropy, self._decay = clip, passes, entropy, decay
        parameters = [*self.actor.parameters(), *self._critic.parameters()]
        self._steps = torch.optim.Adam(parameters, lr=config.learning_rate)

    def noise(self, scores: Tensor) -> Tensor:
        """What makes sorting draw orders by their likelihood."""
        return gumbel(scores, self.generator)

    def update(self) -> None:
        """Nothing within an episode."""

    @torch.no_grad()
    def _play(self) -> list[Step]:
        world_set, worlds = self.world_set, self.some_worlds()
        before, steps = world_set.empty[worlds], []
        for slot in range(world_set.num_slots):
            here = torch.full_like(worlds, slot)
            decided = world_set.decide(self.actor, here, worlds, before, self.noise)
            after = world_set.holders_of(decided.holds)
            features = world_set.features(here, worlds, before, after)
            steps.append(
                Step(
                    features=features,
                    state=world_set.features(here, worlds, before, before),
                    noisy=decided.scores,
                    taken=decided.holds,
                    log_chance=order_log_chance(self.scores(features), decided.scores, decided.holds),
                    cost=world_set.block_costs(here, worlds, before, after).sum(dim=1),
                )
            )
            before = after
        return steps

    def episode(self) -> None:
        """Play some worlds once, then learn from them."""
        steps = self._play()
        with torch.no_grad():
            value = torch.stack([self._critic(step.state) for step in steps])
            edges = advantages(
                torch.stack([step.cost for step in steps]), value, self.config.discount, self._decay
            )
            goals = value + edges
            self.note(value_error=relative_error(value, goals))
        edges = (edges - edges.mean()) / (edges.std() + 1e-8)
        for _ in range(self._passes):
            for place in torch.randperm(len(steps), generator=self.generator).tolist():
                self._step(steps[place], goals[place], -edges[place])

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
        miss = (self._critic(step.state) - goal).square().mean()
        norm = descend(self._steps, -better.mean() - self._entropy * spread + miss)
        with torch.no_grad():
            entropy = float(keep_entropy(scores, step.taken))
            self.note(loss=miss, entropy=entropy, actor_norm=norm, critic_norm=norm)
