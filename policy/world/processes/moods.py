"""Markov-modulated requests: users come and go in sessions, and what is wanted hangs on moods that change."""

from dataclasses import dataclass, replace

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import Bool, Float, Int
from policy.world.processes.drawing import draw_requests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MoodState:
    """All that the next requests depend on."""

    wants: Float
    """What each mood asks for, rows sum to 1, (moods, models)."""
    common: int
    """The mood that all share."""
    own: Int
    """Mood of each user, (users,)."""
    active: Bool
    """Users in a session, (users,)."""


def start_moods(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> MoodState:
    """Moods are drawn; who is in a session is drawn by how long sessions and pauses last."""
    moods = config.moods
    return MoodState(
        wants=rng.dirichlet(np.full(models, moods.sparsity), moods.moods),
        common=int(rng.integers(moods.moods)),
        own=rng.integers(moods.moods, size=users),
        active=rng.random(users) < config.request_prob,
    )


def step_moods(
    rng: np.random.Generator, state: MoodState, cells: Int, config: RequestConfig
) -> tuple[MoodState, Int]:
    """Draw one slot: the next state, and the model each user asks for, -1 for none, (users,).

    In a session a user asks every slot. Pauses are so long that `request_prob` of all users ask.
    """
    moods, users = config.moods, cells.size
    turns = rng.random(1 + users) < 1.0 / moods.mood_slots
    fresh = rng.integers(moods.moods, size=1 + users)
    ends = rng.random(users) < 1.0 / moods.session_slots
    p = config.request_prob
    begins = rng.random(users) < (1.0 if p >= 1 else min(1.0, p / (1.0 - p) / moods.session_slots))
    state = replace(
        state,
        common=int(fresh[0]) if turns[0] else state.common,
        own=np.where(turns[1:], fresh[1:], state.own),
        active=np.where(state.active, ~ends | (p >= 1), begins),
    )
    weights = moods.common * state.wants[state.common] + (1 - moods.common) * state.wants[state.own]
    return state, draw_requests(rng, weights, state.active.astype(np.float64))
