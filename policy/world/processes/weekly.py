"""Hours and weekdays: models have their hours, weekends differ, every user has a clock of its own."""

import math
from dataclasses import dataclass, replace

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import Float, Int
from policy.world.processes.drawing import draw_requests

WORKDAYS, WEEK = 5, 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeeklyState:
    """All that the next requests depend on."""

    slot: int
    """Slots since a Monday's midnight."""
    popular: Float
    """Popularity of each model over the week, (models,)."""
    hour: Float
    """When each model is wanted most, as a share of a day, (models,)."""
    leisure: Float
    """Share of each model's demand that is for weekends, (models,)."""
    clock: Float
    """How far each user is ahead of the common time, in days, (users,)."""


def start_weekly(
    rng: np.random.Generator, users: int, nodes: int, models: int, config: RequestConfig
) -> WeeklyState:
    """Any moment of the week."""
    weekly = config.weekly
    return WeeklyState(
        slot=int(rng.integers(WEEK * weekly.day_slots)),
        popular=rng.lognormal(0.0, weekly.spread, models),
        hour=rng.random(models),
        leisure=rng.random(models),
        clock=rng.normal(0.0, weekly.clock_spread, users),
    )


def step_weekly(
    rng: np.random.Generator, state: WeeklyState, cells: Int, config: RequestConfig
) -> tuple[WeeklyState, Int]:
    """Draw one slot: the next state, and the model each user asks for, -1 for none, (users,)."""
    weekly = config.weekly
    day = state.slot / weekly.day_slots + state.clock
    weekend = np.mod(np.floor(day), WEEK) >= WORKDAYS
    hour = np.mod(day, 1.0)
    apart = 2 * math.pi * (hour[:, None] - state.hour)
    mine = np.where(weekend[:, None], state.leisure, 1.0 - state.leisure)
    weights = state.popular * np.exp(weekly.focus * (np.cos(apart) - 1.0)) * mine
    wave = 1.0 - weekly.swing * np.cos(2 * math.pi * hour)  # fewest requests at midnight
    mean = (WORKDAYS + weekly.weekend * (WEEK - WORKDAYS)) / WEEK
    chance = config.request_prob * wave * np.where(weekend, weekly.weekend, 1.0) / mean
    return replace(state, slot=state.slot + 1), draw_requests(rng, weights, np.minimum(chance, 1.0))
