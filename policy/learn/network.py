"""The demand network in torch, for training; see `policy.learn.demand` for its use."""

import torch
from torch import Tensor, nn

from policy.learn.request_statistics import NUM_ASK_FEATURES, NUM_FEATURES


class DemandNet(nn.Module):
    """Log-odds of each model for each user, and of asking at all: in the next slot, and in later ones."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.pair = nn.Sequential(
            nn.Linear(NUM_FEATURES, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2),
        )
        self.ask = nn.Sequential(nn.Linear(NUM_ASK_FEATURES, 16), nn.ReLU(), nn.Linear(16, 2))
        with torch.no_grad():
            for name, value in self.named_parameters():
                if name.startswith(("pair.4", "ask.2")):
                    value.zero_()  # at first the mixture stands uncorrected

    def forward(self, base: Tensor, pair: Tensor, ask: Tensor) -> tuple[Tensor, Tensor]:
        """Correct the mixture.

        Args:
            base: Log of the mixture, (2, ..., models).
            pair: (..., models, NUM_FEATURES).
            ask: (..., NUM_ASK_FEATURES).

        Returns:
            Log chance of each model if the user asks, (2, ..., models), and log-odds of asking, (2, ...).
        """
        logits = base + self.pair(pair).movedim(-1, 0)
        return torch.log_softmax(logits, dim=-1), ask[..., 0] + self.ask(ask).movedim(-1, 0)
