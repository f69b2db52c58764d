"""How users move: one pure step per slot (Camp, Boleng and Davies, 2002)."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from policy.config import MobilityConfig
from policy.interfaces import Float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MobilityState:
    """Where all users are and where they are heading."""

    xy: Float
    """Places, (users, 2), m."""
    speed: Float
    """Speeds, (users,), m/s."""
    heading: Float
    """Headings, (users,), rad."""
    mean_speed: Float
    """Gauss-Markov: speed each user falls back to, (users,), m/s."""
    mean_heading: Float
    """Gauss-Markov: heading each user falls back to, (users,), rad."""
    target: Float
    """Random waypoint: where each user goes, (users, 2), m."""


@cache
def grid_nodes(num_nodes: int, area_m: float) -> Float:
    """Nodes at the middles of the most square grid that holds them, row by row, (nodes, 2), m, read-only."""
    columns = math.ceil(math.sqrt(num_nodes))
    rows = math.ceil(num_nodes / columns)
    places = np.array(
        [((i % columns + 0.5) / columns, (i // columns + 0.5) / rows) for i in range(num_nodes)]
    )
    places *= area_m
    places.setflags(write=False)
    return places


def start_mobility(
    rng: np.random.Generator, users: int, area_m: float, config: MobilityConfig
) -> MobilityState:
    """Users spread evenly over the square."""
    speed = rng.uniform(*config.speed_m_s, size=users)
    heading = rng.uniform(-np.pi, np.pi, size=users)
    return MobilityState(
        xy=rng.uniform(0, area_m, size=(users, 2)),
        speed=speed,
        heading=heading,
        mean_speed=speed,
        mean_heading=heading,
        target=rng.uniform(0, area_m, size=(users, 2)),
    )


def step_mobility(
    rng: np.random.Generator, state: MobilityState, slot_s: float, area_m: float, config: MobilityConfig
) -> MobilityState:
    """Everybody's place one slot later."""
    if config.kind == "gauss-markov":
        return _gauss_markov(rng, state, slot_s, area_m, config)
    if config.kind == "random-waypoint":
        return _random_waypoint(rng, state, slot_s, area_m, config)
    return state


def _gauss_markov(
    rng: np.random.Generator, state: MobilityState, slot_s: float, area_m: float, config: MobilityConfig
) -> MobilityState:
    """Speed and heading drift around their means; walls reflect."""
    users = state.speed.size
    memory, kick = config.memory, math.sqrt(1 - config.memory**2)
    noise = rng.standard_normal((2, users))
    speed = memory * state.speed + (1 - memory) * state.mean_speed + kick * config.speed_sigma_m_s * noise[0]
    speed = np.clip(speed, *config.speed_m_s)
    heading = memory * state.heading + (1 - memory) * state.mean_heading
    heading = heading + kick * config.heading_sigma_rad * noise[1]
    step = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (speed * slot_s)[:, None]
    raw = (state.xy + step) % (2 * area_m)
    over = raw > area_m
    mean_heading = _reflect(state.mean_heading, over)
    return MobilityState(
        xy=np.where(over, 2 * area_m - raw, raw),
        speed=speed,
        heading=_reflect(heading, over),
        mean_speed=state.mean_speed,
        mean_heading=mean_heading,
        target=state.target,
    )


def _reflect(heading: Float, over: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Float:
    """Turn the heading where a wall was hit: x mirrors to pi - h, y to -h."""
    turned = np.where(over[:, 0], np.pi - heading, heading)
    return np.where(over[:, 1], -turned, turned)


def _random_waypoint(
    rng: np.random.Generator, state: MobilityState, slot_s: float, area_m: float, config: MobilityConfig
) -> MobilityState:
    """Straight to a random point at a random speed; who arrives waits there for the next slot."""
    users = state.speed.size
    gap = state.target - state.xy
    apart = np.linalg.norm(gap, axis=1)
    reach = state.speed * slot_s
    there = reach >= apart
    share = np.where(there, 1.0, reach / np.maximum(apart, 1e-12))
    speed = rng.uniform(*config.speed_m_s, size=users)
    target = rng.uniform(0, area_m, size=(users, 2))
    return MobilityState(
        xy=state.xy + gap * share[:, None],
        speed=np.where(there, speed, state.speed),
        heading=np.arctan2(gap[:, 1], gap[:, 0]),
        mean_speed=state.mean_speed,
        mean_heading=state.mean_heading,
        target=np.where(there[:, None], target, state.target),
    )
