"""One slot of requests from weights; shared by all processes of this room."""

import numpy as np

from policy.interfaces import Float, Int


def draw_requests(rng: np.random.Generator, weights: Float, chance: Float) -> Int:
    """Model of each user, -1 for none, (users,).

    Args:
        rng: Source of every draw.
        weights: Unnormalised chance of each model, (users, models); a row of zeros asks for nothing.
        chance: Chance that each user asks, (users,) or a number.
    """
    edges = np.cumsum(weights, axis=1)
    drawn = (rng.random((len(weights), 1)) * edges[:, -1:] >= edges).sum(axis=1)
    asks = (rng.random(len(weights)) < chance) & (edges[:, -1] > 0)
    return np.where(asks, np.minimum(drawn, weights.shape[1] - 1), -1).astype(np.int64)


def pareto(rng: np.random.Generator, count: int, tail: float, most: float) -> Float:
    """Pareto draws from 1 on, those beyond `most` cut down to it, (count,)."""
    return np.asarray(np.minimum(1.0 + rng.pareto(tail, count), max(most, 1.0)))
