"""MAASN-DA (Fu, Qin et al., arXiv 2509.19341): our reading; the paper's equations were not available.

Action-semantics actors (a network for storing at home, one for migrating to another node), Gumbel-Softmax
choices, a value-decomposition critic of discounted cost, and an echo state network whose predictions judge
synthetic actions; its error on held-out worlds sets their share while training goes on. The critic's
decomposition is over blocks and, within each, over nodes. The control replaces the network's prediction by
what the other action would really have cost.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from policy.learn.marl.actors import Actor, FlatActor, SemanticActor, keep_entropy, soft_choice
from policy.learn.marl.base import Learner, MarlConfig, Slots, descend, relative_error, soft_update
from policy.learn.marl.critics import BlockCritic, Mixing, TeamCritic
from policy.learn.marl.echo_state import EchoStateNetwork
from policy.learn.marl.training_worlds import WorldSet
from policy.learn.marl.view import NUM_HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class MaasnConfig:
    """Settings of MAASN-DA alone; the first five and `told` are its ablations."""

    semantics: bool = True
    """Off: one flat actor."""
    augmentation: Literal["echo", "exact", "none"] = "echo"
    """exact: other actions judged by what they would have cost; none: no synthetic samples."""
    decomposition: bool = True
    """Off: one value of the whole placement, as in MADDPG."""
    mixing: Mixing = "qplex"
    """How the nodes' values of a block are mixed."""
    gumbel: bool = True
    """Off: no noise in the actor's choices while it learns."""
    temperature: float = 1.0
    """Softness of the actor's choices."""
    units: int = 32
    """Size of the reservoir."""
    most_synthetic: float = 0.5
    """Share of synthetic samples if the prediction were perfect."""
    told: bool = False
    """On: nodes also tell one another what they expect of their users, see `policy.learn.marl.view.told`."""

    def __post_init__(self) -> None:
        if self.told and not (self.semantics and self.decomposition):
            raise ValueError("told needs semantics and decomposition")

    def make_actor(self) -> Actor:
        """An actor of the kind that these settings train, untrained."""
        return SemanticActor(self.told) if self.semantics else FlatActor()


class MaasnDa(Learner):
    """Actor through a decomposed critic, on real and synthetic samples."""

    name = "maasn-da"

    def __init__(self, world_set: WorldSet, config: MarlConfig, own: MaasnConfig | None = None) -> None:
        super().__init__(world_set, config)
        self.own = own or MaasnConfig()
        self.actor: Actor = self.own.make_actor()
        self._critic = self._make_critic()
        self._target = deepcopy(self._critic)
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)
        self._critic_steps = torch.optim.Adam(self._critic.parameters(), lr=config.learning_rate)
        self._echo_network = (
            EchoStateNetwork(world_set, self.own.units, config.seed)
            if self.own.augmentation == "echo"
            else None
        )
        self._relative = world_set.relative

    def _make_critic(self) -> BlockCritic | TeamCritic:
        if not self.own.decomposition:
            return TeamCritic()
        features = self.world_set.view.shape[-1] + NUM_HELD
        return BlockCritic(self.own.mixing, self.world_set.num_nodes, features)

    @property
    def synthetic_share(self) -> float:
        """Share of synthetic samples in a minibatch."""
        if self._echo_network is not None:
            return self.own.most_synthetic * max(0.0, self._echo_network.explained)
        return self.own.most_synthetic if self.own.augmentation == "exact" else 0.0

    def played(self, slots: Tensor, worlds: Tensor, before: Tensor, after: Tensor) -> None:
        """Let the echo state network learn from what was paid."""
        if self._echo_network is not None:
            paid = self.world_set.block_costs(slots, worlds, before, after)
            update = self.world_set.update_costs(before, after)
            self._echo_network.played(slots, worlds, after, paid - update)

    def episode(self) -> None:
        """Play, then solve for the echo state network's readouts anew."""
        super().episode()
        if self._echo_network is not None:
            self._echo_network.fit()
            self.note(echo_explained=self._echo_network.explained)
        self.note(synthetic_share=self.synthetic_share)

    def update(self) -> None:
        """Critic towards discounted cost, then actor through the critic."""
        world_set, config = self.world_set, self.config
        slots, cost = self._with_synthetic(self.memory.sample(config.batch, self.generator))
        features = self.features_of(slots)
        goal = self._per_sample(cost)
        later, live = self.next_slots(slots)
        with torch.no_grad():
            then = self._target(self.features_of(later), world_set.bits_of(later.after))
        goal = goal + config.discount * (live[:, None] if then.dim() == 2 else live) * then
        value = self._critic(features, world_set.bits_of(slots.after))
        loss = (value - goal).square().mean()
        critic_norm = descend(self._critic_steps, loss)
        soft_update(self._target, self._critic)
        self.note(loss=loss, value_error=relative_error(value, goal), critic_norm=critic_norm)
        self._improve(slots)

    def _improve(self, slots: Slots) -> None:
        """One step of the actor: nodes decide anew, in turn, and follow the critic's slope."""
        world_set = self.world_set
        noise = self.noise if self.own.gumbel else None
        decided = world_set.decide(self.actor, slots.slot, slots.world, slots.before, noise)
        choice = soft_choice(decided.scores, decided.holds, self._relative, self.own.temperature)
        after = world_set.holders_of(decided.holds)
        seen = world_set.features(slots.slot, slots.world, slots.before, after)
        cost = self._critic(seen, choice)
        cost = (cost * self._relative).mean() if self.own.decomposition else cost.mean()
        norm = descend(self._actor_steps, cost + 1e-3 * decided.scores.square().mean())
        with torch.no_grad():
            self.note(entropy=keep_entropy(decided.scores, decided.holds), actor_norm=norm)

    def _per_sample(self, cost: Tensor) -> Tensor:
        """Block costs as the critic counts them: each over its size, or their sum."""
        if self.own.decomposition:
            return cost * self.world_set.num_blocks / self._relative
        return cost.sum(dim=1)

    def _with_synthetic(self, slots: Slots) -> tuple[Slots, Tensor]:
        """Slots, some with another action, and what their blocks cost, (samples, blocks)."""
        cost, count = self.costs_of(slots), round(self.synthetic_share * slots.slot.numel())
        if count == 0:
            return slots, cost
        slot, world, before = slots.slot[:count], slots.world[:count], slots.before[:count]
        with torch.no_grad():
            decided = self.world_set.decide(self.actor, slot, world, before, self.noise)
        other = self.world_set.holders_of(decided.holds)
        if self._echo_network is None:
            judged = self.world_set.block_costs(slot, world, before, other)
        else:
            predicted = self._echo_network.predict(slot, world, other)
            judged = predicted + self.world_set.update_costs(before, other)
        after = torch.cat([other, slots.after[count:]])
        mixed = Slots(slot=slots.slot, world=slots.world, before=slots.before, after=after)
        return mixed, torch.cat([judged, cost[count:]])
