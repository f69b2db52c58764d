"""Request processes of other makers than the learner's: one file each, chosen by `requests.process`.

    ranks    the process that the learner was made beside (`policy.world.demand`)
    bursts   flash crowds of heavy-tailed size on lasting popularity, often in one cell
    weekly   hours of the day, days of the week, users' own clocks
    moods    Markov-modulated: sessions, and moods that change what is wanted
    shots    shot noise: interest is born at random moments and fades

All but `ranks` use only `request_prob`, `keep_downloads`, `device_bytes` and their own part of a config.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from policy.config import RequestConfig
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.world.demand import DemandState, expected_requests, start_demand, step_demand
from policy.world.processes.bursts import BurstState, expected_bursts, start_bursts, step_bursts
from policy.world.processes.moods import MoodState, start_moods, step_moods
from policy.world.processes.shots import ShotState, start_shots, step_shots
from policy.world.processes.weekly import WeeklyState, start_weekly, step_weekly

Demand: TypeAlias = DemandState | BurstState | WeeklyState | MoodState | ShotState
"""State of any process."""

Start: TypeAlias = Callable[[np.random.Generator, int, int, int, RequestConfig], Demand]

_STARTS: dict[str, Start] = {
    "ranks": start_demand,
    "bursts": start_bursts,
    "weekly": start_weekly,
    "moods": start_moods,
    "shots": start_shots,
}


def start_requests(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> Demand:
    """State before the first slot of the process that the config names."""
    return _STARTS[config.process](rng, users, nodes, models, config)


def step_requests(
    rng: np.random.Generator, state: Demand, cells: Int, families: Int, config: RequestConfig
) -> tuple[Demand, Int]:
    """Draw one slot of requests.

    Args:
        rng: Source of every draw.
        state: Where the process stands.
        cells: Nearest node of each user, (users,).
        families: Family of each model, (models,).
        config: The process.

    Returns:
        The next state, and the model each user asks for, -1 for none, (users,).
    """
    if isinstance(state, BurstState):
        return step_bursts(rng, state, cells, config)
    if isinstance(state, WeeklyState):
        return step_weekly(rng, state, cells, config)
    if isinstance(state, MoodState):
        return step_moods(rng, state, cells, config)
    if isinstance(state, ShotState):
        return step_shots(rng, state, cells, config)
    return step_demand(rng, state, cells, families, config)


def request_chances(
    rng: np.random.Generator, state: Demand, cells: Int, families: Int, config: RequestConfig
) -> Float:
    """Chance that each user asks for each model in the coming slot, for oracles, (users, models).

    Given one draw of what moves between slots (ranks, bursts); the rest is exact. Arguments as for
    `step_requests`.

    Raises:
        PolicyError: If the process is none of `ranks` and `bursts`.
    """
    if isinstance(state, BurstState):
        return expected_bursts(rng, state, cells, config)
    if isinstance(state, DemandState):
        return expected_requests(rng, state, cells, families, config)
    raise PolicyError(
        f"the chances of requests are written down for ranks and bursts, not {config.process!r}"
    )


__all__ = ["Demand", "request_chances", "start_requests", "step_requests"]
