"""A demand model fitted to the past of one world: who asks how often, what is popular, who is loyal."""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import Float, Int
from policy.play.scheme import History
from policy.schemes.estimates import cell_counts

BACK = 3
"""How many past models of a user the fit looks at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandFit:
    """Chances of the next request of each user."""

    ask: Float
    """Chance that a user asks at all, (users,)."""
    popular: Float
    """Chance of each model for a user of each cell without a past, (nodes, models)."""
    stick: float
    """Chance that a request is bound to the family of the user's last model."""
    repeat: Float
    """How much rarer (< 1) or more frequent a model is that the user had 1, 2, ... requests ago, (back,)."""
    families: Int
    """Family of each model, (models,)."""
    last: Int
    """Last models of each user, newest first, -1 for none, (users, back)."""

    def chances(self, cells: Int, last: Int) -> Float:
        """Chance of each model given that the user asks, (..., users, models).

        Args:
            cells: Cell of each user, (..., users).
            last: Last models of each user, (..., users, back).
        """
        base = self.popular[cells]
        newest = last[..., 0]
        inside = self.families[np.maximum(newest, 0)][..., None] == self.families
        inside = inside & (newest >= 0)[..., None]
        home = _normal(base * inside)
        has_home = inside.any(axis=-1, keepdims=True)
        mixed = np.where(has_home, (1 - self.stick) * base + self.stick * home, base)
        models = np.arange(self.families.size)
        for back, factor in enumerate(self.repeat):
            mixed = np.where(last[..., back, None] == models, factor * mixed, mixed)
        return _normal(mixed)


def _normal(weights: Float) -> Float:
    return np.asarray(weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300))


def last_models(requests: Int, back: int) -> Int:
    """Last models of each user after the given slots, newest first, -1 for none, (users, back)."""
    last = np.full((requests.shape[1], back), -1, dtype=np.int64)
    for row in requests:
        last = push(last, row)
    return last


def push(last: Int, asked: Int) -> Int:
    """Put a slot's requests in front; users who did not ask stay. Shapes (..., users, back), (..., users)."""
    shifted = np.concatenate([asked[..., None], last[..., :-1]], axis=-1)
    return np.where((asked >= 0)[..., None], shifted, last)


def fit_demand(history: History, families: Int, memory: float = 0.95, local: float = 0.3) -> DemandFit:
    """Fit all chances to the past by counting, with weak priors.

    Args:
        history: The past of this world.
        families: Family of each model, (models,).
        memory: How popularity fades with age, a slot.
        local: Share of the cell's own counts in its popularity.
    """
    requests, models = history.requests, families.size
    counts = cell_counts(history, models, memory)
    everywhere = _normal(counts.sum(axis=0) + 1.0)
    popular = (1 - local) * everywhere + local * _normal(counts + everywhere)
    asked = (requests >= 0).sum(axis=0)
    mean_ask = (asked.sum() + 1.0) / (requests.size + 2.0)
    ask = (asked + 8.0 * mean_ask) / (requests.shape[0] + 8.0)
    stick, repeat = _fit_repetition(requests, families, _normal(everywhere))
    return DemandFit(
        ask=ask,
        popular=popular,
        stick=stick,
        repeat=repeat,
        families=families,
        last=last_models(requests, BACK),
    )


def _fit_repetition(requests: Int, families: Int, popular: Float) -> tuple[float, Float]:
    """Loyalty to a family and to single models, from what each user asked for after what; (stick, repeat)."""
    last = np.full((requests.shape[1], BACK), -1, dtype=np.int64)
    same = trials = 0.0
    chance = 0.0
    seen, expected = np.zeros(BACK), np.zeros(BACK)
    for row in requests:
        known = (row >= 0) & (last[:, 0] >= 0)
        inside = families[None, :] == families[np.maximum(last[:, 0], 0)][:, None]
        share = inside @ popular
        trials += known.sum()
        same += (families[np.maximum(row, 0)] == families[np.maximum(last[:, 0], 0)])[known].sum()
        chance += share[known].sum()
        for back in range(BACK):
            had = (row >= 0) & (last[:, back] >= 0)
            seen[back] += (row == last[:, back])[had].sum()
            within = popular[last[:, back]] / np.maximum(share, 1e-9)
            expected[back] += np.minimum(within, 1.0)[had].sum()
        last = push(last, row)
    rate, base = (same + 1.0) / (trials + 2.0), (chance + 1.0) / (trials + 2.0)
    stick = float(np.clip((rate - base) / max(1.0 - base, 1e-9), 0.0, 0.99))
    return stick, (seen + 1.0) / (expected + 1.0)
