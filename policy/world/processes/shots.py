"""Shot noise: interest in a model is born at random moments, with a heavy-tailed volume, and fades."""

from dataclasses import dataclass, replace

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import Float, Int
from policy.world.processes.drawing import draw_requests, pareto


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShotState:
    """All that the next requests depend on: exponential fading forgets single shots."""

    heat: Float
    """Intensity of all shots of each model, (models,)."""


def start_shots(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> ShotState:
    """A world that has been going on for ten lives of a shot."""
    state = ShotState(heat=np.zeros(models))
    for _ in range(int(10 * config.shots.life_slots)):
        state = _fade(rng, state, config)
    return state


def _fade(rng: np.random.Generator, state: ShotState, config: RequestConfig) -> ShotState:
    """One slot on: interest fades, new shots begin; a shot's volume is its intensity over its life."""
    shots, count = config.shots, int(rng.poisson(config.shots.rate))
    heat = state.heat * np.exp(-1.0 / shots.life_slots)
    volumes = pareto(rng, count, shots.tail, shots.most)
    np.add.at(heat, rng.integers(heat.size, size=count), volumes / shots.life_slots)
    return replace(state, heat=heat)


def mean_volume(tail: float, most: float) -> float:
    """Mean of a Pareto draw from 1 on that is cut at `most`: 1 + integral of t^-tail from 1 to `most`."""
    return 1.0 + (1.0 - float(most ** (1.0 - tail))) / (tail - 1.0)


def step_shots(
    rng: np.random.Generator, state: ShotState, cells: Int, config: RequestConfig
) -> tuple[ShotState, Int]:
    """Draw one slot: the next state, and the model each user asks for, -1 for none, (users,).

    A user's requests are a Poisson process whose rate goes with all interest there is; a slot takes one.
    """
    state, shots = _fade(rng, state, config), config.shots
    lasts = 1.0 / (shots.life_slots * (1.0 - np.exp(-1.0 / shots.life_slots)))
    usual = max(shots.rate * mean_volume(shots.tail, shots.most) * lasts, 1e-9)
    total = float(state.heat.sum())
    level = shots.background + (1.0 - shots.background) * total / usual
    chance = 1.0 - (1.0 - min(config.request_prob, 1.0 - 1e-9)) ** level
    even = shots.background / state.heat.size
    weights = even + (1.0 - shots.background) * state.heat / usual
    return state, draw_requests(rng, np.tile(weights, (cells.size, 1)), np.full(cells.size, chance))
