"""Echo state network (Jaeger, 2001) that predicts what each block will cost under each set of nodes.

MAASN-DA's data augmentation, as we read it: the network predicts the environment from what was seen;
samples with other actions, judged by the prediction, join the real ones, and the better it predicts
held-out slots the larger their share.
"""

import numpy as np
import torch
from torch import Tensor

from policy.learn.marl.training_worlds import WorldSet
from policy.learn.marl.view import NUM_VIEW

RIDGE = 1e-1


class EchoStateNetwork:
    """One reservoir a block, all with the same random weights; a readout in closed form."""

    def __init__(
        self, world_set: WorldSet, units: int, seed: int, radius: float = 0.8, leak: float = 0.7
    ) -> None:
        """Fit on the first three quarters of the worlds, measure the error on the rest.

        Args:
            world_set: Training worlds.
            units: Size of the reservoir.
            seed: Source of the random weights.
            radius: Spectral radius.
            leak: Share of the state that is renewed each slot.
        """
        draw = np.random.default_rng(seed)
        weights = draw.normal(size=(units, units)) * (draw.random((units, units)) < min(1.0, 8 / units))
        size = float(np.abs(np.linalg.eigvals(weights)).max())
        if size < 1e-6:  # a tiny sparse reservoir can be all zeros
            weights, size = np.eye(units), 1.0
        nodes = world_set.num_nodes
        self._inner = torch.tensor(weights * radius / size, dtype=torch.float32)
        inputs = draw.normal(size=(nodes * NUM_VIEW, units)) / np.sqrt(nodes * NUM_VIEW)
        self._inputs, self._leak = torch.tensor(inputs, dtype=torch.float32), leak
        states = self._states(world_set)
        goals = (world_set.batch.tables_s / world_set.scale_s / self._sizes(world_set)).transpose(0, 1)
        cut = max(1, states.shape[1] * 3 // 4)
        x, y = states[:, :cut].flatten(0, 2), goals[:, :cut].flatten(0, 2)
        inner = x.T @ x + RIDGE * len(x) / 1e3 * torch.eye(x.shape[1])
        self._readout = torch.linalg.solve(inner, x.T @ y)
        held = range(cut, states.shape[1]) if cut < states.shape[1] else range(states.shape[1])
        predicted, true = states[:, held] @ self._readout, goals[:, held]
        gap = (predicted - true).square().mean()
        self.explained = float(1 - gap / (true - true.mean(dim=(0, 1, 2))).square().mean())
        """Share of the variance of held-out tables that is predicted; 0 or less: useless."""
        self.tables = (states @ self._readout).clamp(min=0).transpose(0, 1) * self._sizes(world_set)
        """Predicted tables in units of the scale of the world set, (worlds, slots, blocks, 2^nodes)."""

    @staticmethod
    def _sizes(world_set: WorldSet) -> Tensor:
        return (world_set.sizes.double() / world_set.sizes.double().mean()).float()[:, None]

    def _states(self, world_set: WorldSet) -> Tensor:
        """Reservoir states beside the inputs, (slots, worlds, blocks, units + inputs + 1)."""
        slots, worlds, _, blocks, _ = world_set.view.shape
        seen = world_set.view.permute(0, 1, 3, 2, 4).reshape(slots, worlds, blocks, -1)
        state, states = torch.zeros((worlds, blocks, self._inner.shape[0])), []
        for now in seen:
            fresh = torch.tanh(now @ self._inputs + state @ self._inner)
            state = (1 - self._leak) * state + self._leak * fresh
            states.append(torch.cat([state, now, torch.ones_like(now[..., :1])], dim=-1))
        return torch.stack(states)
