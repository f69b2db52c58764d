"""MAASN-DA (Fu, Qin et al., arXiv 2509.19341): our reading; the paper's equations were not available.

Action-semantics actors (a network for storing at home, one for sending to another node), Gumbel-Softmax
choices, a value-decomposition critic, and an echo state network whose predictions judge synthetic actions;
its error on held-out slots sets their share. The critic's decomposition is over blocks and, within each,
over nodes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policy.learn.marl.actors import FlatActor, SemanticActor, gumbel_like, soft_choice
from policy.learn.marl.base import Learner, MarlConfig, Slots, descend
from policy.learn.marl.critics import BlockCritic, Mixing, TeamCritic
from policy.learn.marl.echo_state import EchoStateNetwork
from policy.learn.marl.training_worlds import WorldSet


@dataclass(frozen=True, slots=True, kw_only=True)
class MaasnConfig:
    """Settings of MAASN-DA alone; the first three are its ablations."""

    semantics: bool = True
    """Off: one flat actor."""
    augmentation: bool = True
    """Off: no echo state network."""
    decomposition: bool = True
    """Off: one value of the whole placement, as in MADDPG."""
    mixing: Mixing = "qplex"
    """How the nodes' values of a block are mixed."""
    temperature: float = 1.0
    """Softness of the actor's choices."""
    units: int = 32
    """Size of the reservoir."""
    most_synthetic: float = 0.5
    """Share of synthetic samples if the echo state network were perfect."""


class MaasnDa(Learner):
    """Actor through a decomposed critic, on real and synthetic samples."""

    name = "maasn-da"

    def __init__(self, world_set: WorldSet, config: MarlConfig, own: MaasnConfig | None = None) -> None:
        super().__init__(world_set, config)
        self.own = own or MaasnConfig()
        self.actor: nn.Module = SemanticActor() if self.own.semantics else FlatActor()
        decomposed = self.own.decomposition
        self._critic = BlockCritic(self.own.mixing, world_set.num_nodes) if decomposed else TeamCritic()
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)
        self._critic_steps = torch.optim.Adam(self._critic.parameters(), lr=config.learning_rate)
        self._echo_network = (
            EchoStateNetwork(world_set, self.own.units, config.seed) if self.own.augmentation else None
        )
        self.synthetic_share = (
            self.own.most_synthetic * max(0.0, self._echo_network.explained) if self._echo_network else 0.0
        )
        """Share of synthetic samples in a minibatch."""
        self._relative = (world_set.sizes.double() / world_set.sizes.double().mean()).float()

    def update(self) -> None:
        """Critic on what slots did cost or would have, then actor through the critic."""
        world_set, config = self.world_set, self.config
        slots = self.memory.sample(config.batch, self.generator)
        features = world_set.features(slots.slot, slots.world, slots.before)
        goal, chosen = self._goals(slots)
        value = self._critic(features, world_set.bits_of(chosen))
        if self.own.decomposition:
            blocks = world_set.sizes.numel()
            goal = goal * blocks / self._relative
        else:
            goal = goal.sum(dim=1)
        descend(self._critic_steps, (value - goal).square().mean())
        scores = self.actor(features, world_set.distance)
        noisy = scores + config.noise * gumbel_like(scores, self.generator)
        choice = soft_choice(noisy, world_set.bits_of(world_set.fill(noisy.detach())), self.own.temperature)
        cost = self._critic(features, choice)
        cost = (cost * self._relative).mean() if self.own.decomposition else cost.mean()
        descend(self._actor_steps, cost + 1e-3 * scores.square().mean())

    def _goals(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """Cost of each block and the holders it belongs to, both (samples, blocks); some synthetic."""
        world_set = self.world_set
        goal = world_set.block_costs(slots.slot, slots.world, slots.before, slots.after)
        count = round(self.synthetic_share * slots.slot.numel())
        if self._echo_network is None or count == 0:
            return goal, slots.after
        with torch.no_grad():
            features = world_set.features(slots.slot[:count], slots.world[:count], slots.before[:count])
            other = self.explore(features)
        predicted = self._echo_network.tables[slots.world[:count], slots.slot[:count]]
        update = world_set.update_costs(slots.before[:count], other)
        synthetic = predicted.gather(2, other[..., None])[..., 0] + update
        return torch.cat([synthetic, goal[count:]]), torch.cat([other, slots.after[count:]])
