"""Flash crowds on lasting popularity: sudden, heavy-tailed, dying down by a power law, often local."""

from dataclasses import dataclass, replace

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import Float, Int
from policy.world.processes.drawing import draw_requests, pareto

FORGOTTEN = 60
"""Bursts older than this, in slots, are dropped; by default 0.3 % of their size is left."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BurstState:
    """All that the next requests depend on."""

    popular: Float
    """Lasting popularity, sums to 1, (models,)."""
    model: Int
    """Model of each live burst, (bursts,)."""
    cell: Int
    """Its cell, -1 for everywhere, (bursts,)."""
    size: Float
    """Its size at birth, as a multiple of lasting demand, (bursts,)."""
    age: Int
    """Slots since its birth, (bursts,)."""
    nodes: int
    """Cells."""


def start_bursts(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> BurstState:
    """A world that has been going on: popularity is drawn, and bursts of the past are still dying down."""
    raw = rng.lognormal(0.0, config.bursts.spread, models)
    none = np.zeros(0, dtype=np.int64)
    state = BurstState(
        popular=raw / raw.sum(), model=none, cell=none, size=np.zeros(0), age=none, nodes=nodes
    )
    for _ in range(FORGOTTEN):
        state = _age(rng, state, config)
    return state


def _age(rng: np.random.Generator, state: BurstState, config: RequestConfig) -> BurstState:
    """One slot on: bursts grow older, new ones begin."""
    bursts, count = config.bursts, int(rng.poisson(config.bursts.rate))
    live = state.age < FORGOTTEN
    local = rng.random(count) < bursts.local_share
    where = np.where(local, rng.integers(state.nodes, size=count), -1)
    size = bursts.least * pareto(rng, count, bursts.tail, bursts.most / max(bursts.least, 1e-9))
    return replace(
        state,
        model=np.concatenate([state.model[live], rng.choice(state.popular.size, count)]),
        cell=np.concatenate([state.cell[live], where]),
        size=np.concatenate([state.size[live], size]),
        age=np.concatenate([state.age[live] + 1, np.zeros(count, dtype=np.int64)]),
    )


def step_bursts(
    rng: np.random.Generator, state: BurstState, cells: Int, config: RequestConfig
) -> tuple[BurstState, Int]:
    """Draw one slot: the next state, and the model each user asks for, -1 for none, (users,)."""
    state = _age(rng, state, config)
    weights, chance = _urges(state, cells, config)
    return state, draw_requests(rng, weights, chance)


def expected_bursts(rng: np.random.Generator, state: BurstState, cells: Int, config: RequestConfig) -> Float:
    """Chance that each user asks for each model in the coming slot, given a draw of the bursts that begin."""
    weights, chance = _urges(_age(rng, state, config), cells, config)
    return np.asarray(chance[:, None] * weights / weights.sum(axis=1, keepdims=True))


def _urges(state: BurstState, cells: Int, config: RequestConfig) -> tuple[Float, Float]:
    """Weight of each model for each user, (users, models), and the chance that each asks, (users,)."""
    now = state.size * (1.0 + state.age) ** -config.bursts.relaxation
    reached = (state.cell == -1) | (state.cell == cells[:, None])
    weights = np.tile(state.popular, (cells.size, 1))
    for burst, model in enumerate(state.model.tolist()):
        weights[:, model] += now[burst] * reached[:, burst]
    crowd = 1.0 - 1.0 / weights.sum(axis=1)
    return weights, np.minimum(1.0, config.request_prob * (1.0 + config.bursts.urge * crowd))
