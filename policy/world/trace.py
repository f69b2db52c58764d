"""A world fixed before anything is decided: where users are and what they ask for, slot by slot.

Requests and motion do not react to caching, so every scheme is judged on the same immutable trace.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policy.config import ScenarioConfig
from policy.errors import TraceError
from policy.interfaces import Float, Int
from policy.npz import read_npz
from policy.world.mobility import MobilityState, grid_nodes, start_mobility, step_mobility
from policy.world.processes import Demand, start_requests, step_requests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Motion and requests of one world. Arrays are copied and read-only; `digest` names the content."""

    node_xy: Float
    """Places of the nodes, (nodes, 2), m."""
    user_xy: Float
    """Places of the users in each slot, (slots, users, 2), m."""
    requests: Int
    """Model each user asks for, -1 for none, (slots, users)."""

    def __post_init__(self) -> None:
        node_xy = np.array(self.node_xy, dtype=np.float64)
        user_xy = np.array(self.user_xy, dtype=np.float64)
        requests = np.array(self.requests, dtype=np.int64)
        shapes = (node_xy.shape, user_xy.shape, requests.shape)
        if (
            node_xy.ndim != 2
            or requests.ndim != 2
            or user_xy.shape != (*requests.shape, 2)
            or requests.size == 0
        ):
            raise ValueError(f"need (nodes, 2), (slots, users, 2), (slots, users), got {shapes}")
        if not (np.isfinite(node_xy).all() and np.isfinite(user_xy).all()):
            raise ValueError("places must be finite numbers")
        if requests.min() < -1:
            raise ValueError(f"requests must be -1 or a model, got {requests.min()}")
        for name, array in (("node_xy", node_xy), ("user_xy", user_xy), ("requests", requests)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        sizes = f"{self.num_slots} slots, {self.num_users} users, {self.num_nodes} nodes"
        return f"Trace({sizes}, {int((self.requests >= 0).sum())} requests, {self.digest[:12]})"

    @property
    def num_slots(self) -> int:
        """Slots."""
        return int(self.requests.shape[0])

    @property
    def num_users(self) -> int:
        """Users."""
        return int(self.requests.shape[1])

    @property
    def num_nodes(self) -> int:
        """Nodes."""
        return int(self.node_xy.shape[0])

    @property
    def digest(self) -> str:
        """SHA-256 over shapes and contents: equal traces, and only they, have equal digests."""
        hasher = hashlib.sha256()
        for array in (self.node_xy, self.user_xy, self.requests):
            hasher.update(f"{array.dtype.str}{array.shape}".encode())
            hasher.update(np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()

    def cells(self) -> Int:
        """Nearest node of each user in each slot, (slots, users)."""
        return nearest(self.node_xy, self.user_xy)

    def save(self, path: Path) -> None:
        """Write an `.npz` file with its digest."""
        np.savez_compressed(
            path,
            node_xy=self.node_xy,
            user_xy=self.user_xy,
            requests=self.requests,
            digest=np.array(self.digest),
        )

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read what `save` wrote.

        Raises:
            TraceError: If it is not a trace, or its content does not hash to its digest.
        """
        try:
            data = read_npz(path, {"node_xy": "fiu", "user_xy": "fiu", "requests": "iu", "digest": "U"})
            trace = cls(node_xy=data["node_xy"], user_xy=data["user_xy"], requests=data["requests"])
        except FileNotFoundError:
            raise TraceError(f"no such trace file: {path}") from None
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise TraceError(f"{path} is not a trace: {error}") from error
        wanted = str(data["digest"])
        if trace.digest != wanted:
            raise TraceError(f"{path} was changed: it hashes to {trace.digest[:12]}, not {wanted[:12]}")
        return trace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorldState:
    """Hidden state before a slot: what only an oracle knows. From it the true future can be sampled."""

    mobility: MobilityState
    """Motion after the previous slot."""
    demand: Demand
    """Request process after the previous slot."""


def nearest(node_xy: Float, user_xy: Float) -> Int:
    """Nearest node of each user, (..., users)."""
    apart = np.linalg.norm(user_xy[..., :, None, :] - node_xy, axis=-1)
    return np.asarray(np.argmin(apart, axis=-1), dtype=np.int64)


def start_world(rng: np.random.Generator, config: ScenarioConfig, models: int) -> WorldState:
    """State before slot 0."""
    mobility = start_mobility(rng, config.num_users, config.area_m, config.mobility)
    demand = start_requests(rng, config.num_users, config.num_nodes, models, config.requests)
    return WorldState(mobility=mobility, demand=demand)


def step_world(
    rng: np.random.Generator, state: WorldState, config: ScenarioConfig, families: Int
) -> tuple[WorldState, Float, Int]:
    """One slot: users move, then ask. Returns the next state, places (users, 2) and requests (users,)."""
    mobility = step_mobility(rng, state.mobility, config.slot_s, config.area_m, config.mobility)
    cells = nearest(grid_nodes(config.num_nodes, config.area_m), mobility.xy)
    demand, requests = step_requests(rng, state.demand, cells, families, config.requests)
    return WorldState(mobility=mobility, demand=demand), mobility.xy, requests


def generate(
    rng: np.random.Generator, config: ScenarioConfig, families: Int
) -> tuple[Trace, tuple[WorldState, ...]]:
    """Draw one world.

    Args:
        rng: Source of every draw.
        config: The scenario.
        families: Family of each model, (models,).

    Returns:
        The trace, and the hidden state before each slot, for oracles only.
    """
    state = start_world(rng, config, families.size)
    states, places, requests = [], [], []
    for _ in range(config.num_slots):
        states.append(state)
        state, xy, asked = step_world(rng, state, config, families)
        places.append(xy)
        requests.append(asked)
    nodes = grid_nodes(config.num_nodes, config.area_m)
    trace = Trace(node_xy=nodes, user_xy=np.stack(places), requests=np.stack(requests))
    return trace, tuple(states)
