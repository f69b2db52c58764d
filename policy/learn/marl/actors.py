"""Actors: from what nodes see to a score of every block at every node. Shared by all nodes and blocks."""

import torch
from torch import Tensor, nn

from policy.learn.marl.view import NUM_FEATURES

HIDDEN = 32


def mlp(inputs: int, outputs: int = 1, hidden: int = HIDDEN) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class FlatActor(nn.Module):
    """One network for all that a node sees; no difference between actions on itself and on others."""

    def __init__(self) -> None:
        super().__init__()
        self.score = mlp(2 * NUM_FEATURES)

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """Scores, (samples, nodes, blocks), of features (samples, nodes, blocks, NUM_FEATURES)."""
        nodes = features.shape[1]
        others = (features.sum(dim=1, keepdim=True) - features) / max(nodes - 1, 1)
        scores: Tensor = self.score(torch.cat([features, others], dim=-1)).squeeze(-1)
        return scores


class SemanticActor(nn.Module):
    """Action semantics (Wang et al., ICLR 2020): storing at home and sending to node m have own networks.

    Node n scores a block for its own cache from its own view. A node that holds a block may also ask node m
    to take it; that score comes from the pair (what n sees, what m reports, how far m is). A block's score at
    m is its own plus what its holders ask for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own = mlp(NUM_FEATURES)
        self.sender = nn.Linear(NUM_FEATURES, HIDDEN)
        self.taker = nn.Linear(NUM_FEATURES, HIDDEN, bias=False)
        self.far = nn.Linear(1, HIDDEN, bias=False)
        self.ask = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor, distance: Tensor) -> Tensor:
        """Scores, (samples, nodes, blocks), of features (samples, nodes, blocks, NUM_FEATURES)."""
        own: Tensor = self.own(features).squeeze(-1)
        nodes = features.shape[1]
        pair = self.sender(features)[:, :, None] + self.taker(features)[:, None]
        pair = torch.relu(pair + self.far(distance[..., None])[:, :, None])
        asked = self.ask(pair).squeeze(-1)  # (samples, from, to, blocks)
        holds = features[..., -2][:, :, None] * (1 - torch.eye(nodes))[:, :, None]
        scores: Tensor = own + (asked * holds).sum(dim=1) / max(nodes - 1, 1)
        return scores


def gumbel_like(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise."""
    uniform = torch.rand(scores.shape, generator=generator).clamp(1e-9, 1 - 1e-9)
    return -torch.log(-torch.log(uniform))


def soft_choice(scores: Tensor, hard: Tensor, temperature: float) -> Tensor:
    """Straight-through choice: forward the hard 0/1 choice, backward a soft one.

    Args:
        scores: Noisy scores, (samples, nodes, blocks).
        hard: The same after filling the capacities, 0 or 1.
        temperature: Softness.

    Returns:
        (samples, nodes, blocks). The soft choice is a sigmoid around each node's least chosen score.
    """
    chosen = torch.where(hard > 0, scores.detach(), torch.inf).amin(dim=-1, keepdim=True)
    chosen = torch.where(torch.isfinite(chosen), chosen, scores.detach().amax(dim=-1, keepdim=True))
    soft = torch.sigmoid((scores - chosen) / temperature)
    return hard + soft - soft.detach()
