"""Actors: from what a node sees to a score of every block. Shared by all nodes and blocks."""

import torch
from torch import Tensor, nn

from policy.learn.marl.view import MINE, NUM_FEATURES, NUM_HELD, NUM_TOLD, NUM_VIEW, VIEW

HIDDEN = 32


def mlp(inputs: int, outputs: int = 1, hidden: int = HIDDEN) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class Actor(nn.Module):
    """Scores by which nodes fill their caches: each node's own, and what others ask it to take."""

    told = False
    """Whether it reads what other nodes expect, see `policy.learn.marl.view.told`."""

    def own(self, features: Tensor) -> Tensor:
        """A node's own scores, (..., blocks), of its features (..., blocks, NUM_FEATURES)."""
        raise NotImplementedError

    def asked(self, features: Tensor, distance: Tensor) -> Tensor:
        """What other nodes ask each node to take, (samples, nodes, blocks); none here.

        Reads only what does not change while nodes decide, so it is sent once a slot.
        """
        return torch.zeros(features.shape[:-1])

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """Scores, (samples, nodes, blocks), of features (samples, nodes, blocks, NUM_FEATURES)."""
        return self.own(features) + self.asked(features, distance)


class FlatActor(Actor):
    """One network for all that a node sees; no action on other nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.score = mlp(NUM_FEATURES)

    def own(self, features: Tensor) -> Tensor:
        """See `Actor.own`."""
        scores: Tensor = self.score(features).squeeze(-1)
        return scores


class Utilities(Actor):
    """Seconds that each node believes to save by each block, and what it costs without any: VDN, QMIX."""

    def __init__(self) -> None:
        super().__init__()
        self.saves = FlatActor()
        self.idle = mlp(NUM_FEATURES)

    def own(self, features: Tensor) -> Tensor:
        """Savings a byte: the greedy action of a node whose value adds over its blocks."""
        return self.saves.own(features) / features[..., VIEW["size"]].squeeze(-1)

    def values(self, features: Tensor, actions: Tensor) -> Tensor:
        """Cost that each node expects of its own action, (samples, nodes)."""
        idle = self.idle(features.mean(dim=2)).squeeze(-1)
        cost: Tensor = idle - (self.saves.own(features) * actions).sum(dim=-1) / features.shape[2]
        return cost


class SemanticActor(Actor):
    """Action semantics (Wang et al., ICLR 2020): storing at home and migrating to node m have own networks.

    Node n scores a block for its own cache from its own view. A node that holds a block may also push it to
    node m: that score comes from what n itself sees and how far m is. A block's score at m is its own plus
    what its holders push; m takes what fits, best first.
    """

    def __init__(self, told: bool = False) -> None:
        super().__init__()
        self.told = told
        view = NUM_VIEW + (NUM_TOLD if told else 0)
        self.home = mlp(view + NUM_HELD)
        self.sender = nn.Linear(view, HIDDEN)
        self.far = nn.Linear(1, HIDDEN, bias=False)
        self.push = nn.Linear(HIDDEN, 1)

    def own(self, features: Tensor) -> Tensor:
        """See `Actor.own`."""
        scores: Tensor = self.home(features).squeeze(-1)
        return scores

    def asked(self, features: Tensor, distance: Tensor) -> Tensor:
        """Sum of what the holders of each block push, (samples, nodes, blocks)."""
        nodes = features.shape[1]
        pair = self.sender(features[..., :-NUM_HELD])[:, :, None]
        pushed = self.push(torch.relu(pair + self.far(distance[..., None])[:, :, None])).squeeze(-1)
        holds = features[..., MINE][:, :, None] * (1 - torch.eye(nodes))[:, :, None]
        total: Tensor = (pushed * holds).sum(dim=1) / max(nodes - 1, 1)
        return total


def gumbel(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise in the shape of the scores."""
    uniform = torch.rand(scores.shape, generator=generator).clamp(1e-9, 1 - 1e-9)
    return -torch.log(-torch.log(uniform))


def keep_noise(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of a choice between keeping a block and not: the difference of two Gumbel draws."""
    return gumbel(scores, generator) - gumbel(scores, generator)


def room_price(scores: Tensor, bytes_taken: Tensor, sizes: Tensor, temperature: float) -> Tensor:
    """Price at which soft choices take as many bytes as were taken, (..., 1), by bisection.

    Args:
        scores: (..., blocks).
        bytes_taken: (..., 1).
        sizes: (blocks,).
        temperature: Softness.
    """
    low = scores.amin(dim=-1, keepdim=True) - 20 * temperature
    high = scores.amax(dim=-1, keepdim=True) + 20 * temperature
    for _ in range(24):
        middle = (low + high) / 2
        more = (torch.sigmoid((scores - middle) / temperature) * sizes).sum(-1, keepdim=True) > bytes_taken
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return (low + high) / 2


def soft_choice(noisy: Tensor, hard: Tensor, sizes: Tensor, temperature: float) -> Tensor:
    """Straight-through Gumbel-Softmax between keeping and not (Jang et al., 2017), within a node's room.

    Forward the hard choice, backward the soft one at the price at which as many bytes are taken. The price
    follows the scores (implicit function theorem), so the slope is along choices that fit: a block's score
    rises only if it saves more a byte than what it would displace.

    Args:
        noisy: Scores with `keep_noise`, (..., blocks).
        hard: 1 where the block was taken, same shape.
        sizes: (blocks,).
        temperature: Softness.
    """
    still, size = noisy.detach(), sizes / sizes.mean()
    price = room_price(still, (hard * size).sum(dim=-1, keepdim=True), size, temperature)
    share = torch.sigmoid((still - price) / temperature)
    steep = share * (1 - share) * size
    moves = (steep * (noisy - still)).sum(dim=-1, keepdim=True) / steep.sum(dim=-1, keepdim=True).clamp(1e-9)
    soft = torch.sigmoid((noisy - price - moves) / temperature)
    return hard + soft - soft.detach()


def keep_entropy(scores: Tensor, hard: Tensor) -> Tensor:
    """Mean entropy of the choices between keeping and not, bits; 1 if all are tossed up."""
    price = torch.where(hard > 0, scores, torch.inf).amin(dim=-1, keepdim=True)
    price = torch.where(torch.isfinite(price), price, scores.amax(dim=-1, keepdim=True))
    share = torch.sigmoid(scores - price).clamp(1e-6, 1 - 1e-6)
    return -(share * share.log2() + (1 - share) * (1 - share).log2()).mean()
