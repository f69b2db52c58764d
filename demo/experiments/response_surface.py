"""How delay answers to changed trade-offs in given circumstances: a Gaussian process, zero at no change.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5: squared exponential
kernels with a length for each input, hyperparameters by marginal likelihood, noise of each setting apart. The
kernel is a product of one on changes, conditioned on "no change costs nothing", and one on circumstances.
What all candidates of a world share (the noise of the play that they are compared with) has a variance too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policy.interfaces import Float, Int

STEPS = 150
"""Adam's, on hyperparameters."""
RATE = 0.05
JITTER = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trials:
    """What was played."""

    changes: Float
    """Of the trade-offs, in units of how far they are tried, (trials, outputs)."""
    features: Float
    """Circumstances, standardised, (trials, features)."""
    log_ratios: Float
    """Logarithm of the delay over that without change, (trials,)."""
    worlds: Int
    """Which trials share a world, (trials,)."""
    settings: Int
    """Which share a setting, and so their noise, from 0, (trials,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raw:
    """Logarithms of the hyperparameters."""

    change: Tensor
    """Length along each output."""
    feature: Tensor
    """Length along each feature."""
    scale: Tensor
    """Variances: alike everywhere, by circumstances, of a world."""
    noise: Tensor
    """Variance of the noise, of each setting."""

    def all(self) -> list[Tensor]:
        return [self.change, self.feature, self.scale, self.noise]


class ResponseSurface:
    """The process, fitted to what was played."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._x, self._f, self._y = (
            torch.as_tensor(part, dtype=torch.float64)
            for part in (trials.changes, trials.features, trials.log_ratios)
        )
        self._same = torch.as_tensor(trials.worlds[:, None] == trials.worlds[None]).to(torch.float64)
        self._setting = torch.as_tensor(trials.settings)
        self._raw = self._fitted()
        with torch.no_grad():
            self._root = torch.linalg.cholesky(self._covariance(self._raw))
            self._weights = torch.cholesky_solve(self._y[:, None], self._root)

    def expected(self, changes: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the log ratio, (rows,) each; zero where nothing is changed."""
        across = self._kernel(self._raw, changes, features, self._x, self._f)
        mean = (across @ self._weights)[:, 0]
        solved = torch.linalg.solve_triangular(self._root, across.T, upper=False)
        own = _on_changes(changes, changes, self._raw.change).diagonal() * self._raw.scale[:2].exp().sum()
        left = (own - (solved**2).sum(dim=0)).clamp_min(0.0)
        return mean, (left + 1e-12).sqrt()

    @property
    def lengths(self) -> dict[str, list[float]]:
        """Lengths and standard deviations, as fitted."""
        half = {name: getattr(self._raw, name) / 2 for name in ("scale", "noise")}
        parts = {"change": self._raw.change, "feature": self._raw.feature} | half
        return {name: [round(value, 3) for value in part.exp().tolist()] for name, part in parts.items()}

    def _fitted(self) -> _Raw:
        spread = float(self._y.var()) + 1e-6
        raw = _Raw(
            change=torch.full((self._x.shape[1],), np.log(2.0), dtype=torch.float64),
            feature=torch.full((self._f.shape[1],), np.log(2.0), dtype=torch.float64),
            scale=torch.full((3,), np.log(spread / 4), dtype=torch.float64),
            noise=torch.full((int(self._setting.max()) + 1,), np.log(spread / 2), dtype=torch.float64),
        )
        for part in raw.all():
            part.requires_grad_()
        adam = torch.optim.Adam(raw.all(), RATE)
        for _ in range(STEPS):
            adam.zero_grad()
            self._loss(raw).backward()  # type: ignore[no-untyped-call]
            adam.step()
        for part in raw.all():
            part.requires_grad_(False)
        return raw

    def _loss(self, raw: _Raw) -> Tensor:
        """Negative log marginal likelihood a trial, and a mild prior on lengths (log-normal about 2)."""
        root = torch.linalg.cholesky(self._covariance(raw))
        solved = torch.cholesky_solve(self._y[:, None], root)
        fit = 0.5 * (self._y[None] @ solved)[0, 0] + root.diagonal().log().sum()
        prior = ((torch.cat([raw.change, raw.feature]) - np.log(2.0)) ** 2).sum() / 2
        return torch.div(fit + prior, len(self._y))

    def _covariance(self, raw: _Raw) -> Tensor:
        signal = self._kernel(raw, self._x, self._f, self._x, self._f)
        noise = raw.noise.exp()[self._setting] + JITTER
        return signal + raw.scale[2].exp() * self._same + torch.diag(noise)

    @staticmethod
    def _kernel(raw: _Raw, x: Tensor, f: Tensor, other_x: Tensor, other_f: Tensor) -> Tensor:
        alike, by_feature, _ = raw.scale.exp().unbind()
        circumstances: Tensor = alike + by_feature * _squared_exponential(f, other_f, raw.feature)
        return torch.mul(_on_changes(x, other_x, raw.change), circumstances)


def _on_changes(x: Tensor, other: Tensor, log_length: Tensor) -> Tensor:
    """Squared exponential, conditioned on zero at no change."""
    none = torch.zeros_like(x[:1])
    at_none = _squared_exponential(x, none, log_length) @ _squared_exponential(none, other, log_length)
    return torch.sub(_squared_exponential(x, other, log_length), at_none)


def _squared_exponential(x: Tensor, other: Tensor, log_length: Tensor) -> Tensor:
    apart = (x[:, None] - other[None]) / log_length.exp()
    return torch.exp(-0.5 * (apart**2).sum(dim=2))
