"""Particle swarms: several swarms search side by side and swap their best; the best particle wins."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from policy.interfaces import Float

Cost: TypeAlias = Callable[[Float], Float]
"""Of particles (swarms, particles, ...) their costs (swarms, particles)."""
SWAP = 10
"""Rounds after which the overall best particle joins the next swarm."""


def swarm_search(start: Float, cost: Cost, rng: np.random.Generator, rounds: int, inertia: float) -> Float:
    """Inertia, own best, swarm's best (Kennedy and Eberhart, 1995).

    Args:
        start: Where particles are at first, in [-1, 1], (swarms, particles, ...).
        cost: What is made small.
        rng: Of speeds and pulls.
        rounds: Moves; each costs as many evaluations as there are particles, and so does the start.
        inertia: Share of its speed that a particle keeps.

    Returns:
        The best place of all, (...).
    """
    at, shape = start.copy(), start.shape
    ones = (1,) * (at.ndim - 2)
    speed = 0.1 * rng.standard_normal(shape)
    best_at, best = at.copy(), cost(at)
    for turn in range(rounds):
        if turn % SWAP == SWAP - 1:
            _swap(best_at, best)
        lead = best_at[np.arange(shape[0]), best.argmin(axis=1)].reshape(shape[0], 1, *shape[2:])
        pull = rng.random((2, *shape)) * 1.5
        speed = inertia * speed + pull[0] * (best_at - at) + pull[1] * (lead - at)
        speed = np.clip(speed, -0.5, 0.5)
        at = np.clip(at + speed, -1.0, 1.0)
        now = cost(at)
        better = (now < best).reshape(*shape[:2], *ones)
        best_at, best = np.where(better, at, best_at), np.minimum(now, best)
    return np.asarray(best_at.reshape(-1, *shape[2:])[int(best.argmin())])


def _swap(best_at: Float, best: Float) -> None:
    """The overall winner leads the next swarm, too, in place of its worst particle."""
    overall = np.unravel_index(int(best.argmin()), best.shape)
    target = (int(overall[0]) + 1) % best.shape[0]
    worst = int(best[target].argmax())
    best_at[target, worst], best[target, worst] = best_at[overall], best[overall]
