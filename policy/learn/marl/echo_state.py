"""Echo state network (Jaeger, 2001) that predicts what a block costs under each set of nodes.

MAASN-DA's data augmentation, as we read it: from what was seen and what was paid in played slots the network
predicts the environment; samples with other actions, judged by the prediction, join the real ones. It learns
while training goes on, from the cost of the placement that was played alone (no counterfactual tables), and
a quarter of the worlds is never learnt from: the share of variance that it predicts there, fading, sets the
share of synthetic samples.
"""

import numpy as np
import torch
from torch import Tensor, nn

from policy.learn.marl.training_worlds import WorldSet

RIDGE = 3.0
"""Weight of the prior that all sets of nodes cost alike, in samples."""
FADING = 0.8
"""What the held-out error keeps from episode to episode."""


class EchoStateNetwork(nn.Module):
    """One reservoir a block, all with the same random weights; a readout for each set, in closed form."""

    xx: Tensor
    xy: Tensor
    readout: Tensor
    error: Tensor

    def __init__(
        self, world_set: WorldSet, units: int, seed: int, radius: float = 0.8, leak: float = 0.7
    ) -> None:
        """Let the reservoir run through all slots; the readout knows nothing yet.

        Args:
            world_set: Training worlds; the last quarter is held out.
            units: Size of the reservoir.
            seed: Source of the random weights.
            radius: Spectral radius.
            leak: Share of the state that is renewed each slot.
        """
        super().__init__()
        draw = np.random.default_rng(seed)
        weights = draw.normal(size=(units, units)) * (draw.random((units, units)) < min(1.0, 8 / units))
        size = float(np.abs(np.linalg.eigvals(weights)).max())
        if size < 1e-6:  # a tiny sparse reservoir can be all zeros
            weights, size = np.eye(units), 1.0
        sets, seen = 2**world_set.num_nodes, world_set.num_nodes * world_set.view.shape[-1]
        inputs = draw.normal(size=(seen, units)) / np.sqrt(seen)
        inner = torch.tensor(weights * radius / size, dtype=torch.float32)
        self._states = _run(world_set, torch.tensor(inputs, dtype=torch.float32), inner, leak)
        self._learnt = max(1, world_set.num_worlds * 3 // 4)
        self._relative = world_set.relative
        width = self._states.shape[-1]
        self.register_buffer("xx", torch.zeros((sets, width, width), dtype=torch.float64))
        self.register_buffer("xy", torch.zeros((sets, width), dtype=torch.float64))
        self.register_buffer("readout", torch.zeros((sets, width)))
        self.register_buffer("error", torch.zeros(3, dtype=torch.float64))

    @property
    def explained(self) -> float:
        """Share of the variance of costs in held-out worlds that was predicted; 0 or less: useless."""
        count, left, all_of_it = self.error.tolist()
        return 1.0 - left / all_of_it if count and all_of_it > 0 else 0.0

    def predict(self, slots: Tensor, worlds: Tensor, holders: Tensor) -> Tensor:
        """Cost of each block under other holders, at least 0, without updates, (samples, blocks)."""
        cost = (self._states[slots, worlds] * self.readout[holders]).sum(dim=-1)
        return cost.clamp(min=0) * self._relative

    def played(self, slots: Tensor, worlds: Tensor, holders: Tensor, cost: Tensor) -> None:
        """Take in what blocks did cost, (samples, blocks); held-out worlds only tell the error."""
        goal = cost / self._relative
        apart = worlds >= self._learnt
        if bool(apart.any()):
            guess = self.predict(slots[apart], worlds[apart], holders[apart]) / self._relative
            gap = (guess - goal[apart]).square().sum().double()
            spread = (goal[apart] - goal[apart].mean()).square().sum().double()
            self.error += torch.stack([torch.ones((), dtype=torch.float64), gap, spread])
        x = self._states[slots, worlds][~apart].flatten(0, 1).double()
        y, sets = goal[~apart].flatten().double(), holders[~apart].flatten()
        for which in sorted(set(sets.tolist())):
            rows = sets == which
            self.xx[which] += x[rows].T @ x[rows]
            self.xy[which] += y[rows] @ x[rows]

    def fit(self) -> None:
        """Solve for the readouts: one for all sets, and each set's difference to it; let old errors fade."""
        eye = RIDGE * torch.eye(self.xx.shape[1], dtype=torch.float64)
        common = torch.linalg.solve(self.xx.sum(dim=0) + eye, self.xy.sum(dim=0))
        left = self.xy - self.xx @ common
        own = torch.linalg.solve(self.xx + eye, left[..., None])[..., 0]
        self.readout.copy_((common + own).float())
        self.error *= FADING


def _run(world_set: WorldSet, inputs: Tensor, inner: Tensor, leak: float) -> Tensor:
    """Reservoir states beside the mean view and 1, (slots, worlds, blocks, width)."""
    slots, worlds, _, blocks, _ = world_set.view.shape
    seen = world_set.view.permute(0, 1, 3, 2, 4).reshape(slots, worlds, blocks, -1)
    state, states = torch.zeros((worlds, blocks, inner.shape[0])), []
    for now, view in zip(seen, world_set.view, strict=True):
        fresh = torch.tanh(now @ inputs + state @ inner)
        state = (1 - leak) * state + leak * fresh
        states.append(torch.cat([state, view.mean(dim=1), torch.ones_like(now[..., :1])], dim=-1))
    return torch.stack(states)
