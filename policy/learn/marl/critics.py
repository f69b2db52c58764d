"""Critics: what a joint placement costs from now on, by block and node, and how these values are mixed."""

from typing import Literal

import torch
from torch import Tensor, nn

from policy.learn.marl.actors import HIDDEN, mlp
from policy.learn.marl.view import NUM_FEATURES

Mixing = Literal["vdn", "qmix", "qplex"]


def with_actions(features: Tensor, actions: Tensor) -> Tensor:
    """Features with the node's own action and the mean action of the others beside them."""
    others = (actions.sum(dim=1, keepdim=True) - actions) / max(actions.shape[1] - 1, 1)
    return torch.cat([features, actions[..., None], others[..., None]], dim=-1)


class MonotoneMixer(nn.Module):
    """QMIX (Rashid et al., 2018): a mixture that never falls when one agent's value rises."""

    def __init__(self, state: int, agents: int) -> None:
        super().__init__()
        self.first = nn.Linear(state, agents * HIDDEN)
        self.bias = nn.Linear(state, HIDDEN)
        self.second = nn.Linear(state, HIDDEN)
        self.rest = mlp(state)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Mix values (..., agents) given a state (..., state features)."""
        weight = torch.abs(self.first(state)).view(*values.shape, HIDDEN)
        hidden = nn.functional.elu((values[..., None, :] @ weight)[..., 0, :] + self.bias(state))
        value: Tensor = (hidden * torch.abs(self.second(state))).sum(dim=-1) + self.rest(state).squeeze(-1)
        return value


class BlockCritic(nn.Module):
    """Value decomposition: every block's cost is mixed from one value a node.

    vdn adds (Sunehag et al., 2018); qmix mixes monotonely; qplex adds advantages with positive weights
    that may depend on the joint action (in the style of Wang et al., 2021).
    """

    def __init__(self, mixing: Mixing, agents: int, features: int = NUM_FEATURES) -> None:
        super().__init__()
        if mixing not in ("vdn", "qmix", "qplex"):
            raise ValueError(f"mixing must be vdn, qmix or qplex, got {mixing!r}")
        self.mixing = mixing
        self.value = mlp(features, 2)
        self.mixer = MonotoneMixer(features, agents) if mixing == "qmix" else None
        self.weight = mlp(features + 1, hidden=16) if mixing == "qplex" else None

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Cost of each block, (samples, blocks).

        A node's value is linear in its own choice: the slope that the actor follows is the true difference.

        Args:
            features: (samples, nodes, blocks, `features` of `__init__`).
            actions: Share of each block that each node caches, (samples, nodes, blocks).
        """
        idle, effect = self.value(features).unbind(dim=-1)
        mixed: Tensor
        if self.mixer is not None:
            mixed = self.mixer((idle + actions * effect).transpose(1, 2), features.mean(dim=1))
            return mixed
        if self.weight is not None:
            others = (actions.sum(dim=1, keepdim=True) - actions) / max(actions.shape[1] - 1, 1)
            weight = self.weight(torch.cat([features, others[..., None]], dim=-1)).squeeze(-1)
            effect = effect * nn.functional.softplus(weight)
        mixed = (idle + actions * effect).sum(dim=1)
        return mixed


class TeamCritic(nn.Module):
    """One value of the joint placement, no decomposition: pairs are pooled, then judged."""

    def __init__(self, actions: bool = True) -> None:
        super().__init__()
        self.actions = actions
        self.pair = mlp(NUM_FEATURES + (2 if actions else 0), HIDDEN)
        self.judge = mlp(HIDDEN)

    def forward(self, features: Tensor, actions: Tensor | None = None) -> Tensor:
        """Cost of the slot, (samples,); a function of the state alone when made without actions."""
        inputs = features if actions is None else with_actions(features, actions)
        pooled = torch.relu(self.pair(inputs)).mean(dim=(1, 2))
        value: Tensor = self.judge(pooled).squeeze(-1)
        return value
