"""What an edge node sees of the past slot: pure functions, used by the environment."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from policy.interfaces import Bool, Float, Int
from policy.scenario import Scenario

NodeObservation: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotView:
    """All that was public in the last slot; zeros before the first."""

    placement: Bool
    """(nodes, blocks)."""
    requests: Int
    """Model each user asked for, -1 for none, (users,)."""
    cells: Int
    """Nearest node of each user, (users,)."""
    user_xy: Float
    """Places, (users, 2), m."""
    delay_s: Float
    """Delay of each block as served, (blocks,), s."""
    credit_s: Float
    """Seconds each node's copy saved, or would have saved had it been there, (nodes, blocks), s."""
    share: float
    """Share of the episode that is over."""


def observation_space(scenario: Scenario) -> spaces.Dict:
    """Space of one node's observation; own parts apart from those of the others (a single node has none)."""
    config, catalog = scenario.config, scenario.catalog
    blocks, models = catalog.num_blocks, catalog.num_models

    def box(low: float, high: float, *shape: int) -> spaces.Box:
        return spaces.Box(low, high, shape, np.float32)

    shape = (config.num_nodes - 1, blocks)
    others = {"other_caches": spaces.Box(0, 1, shape, np.int8)} if config.num_nodes > 1 else {}
    return spaces.Dict(
        {
            "own_cache": spaces.MultiBinary(blocks),
            **others,
            "cell_requests": box(0.0, float(config.num_users), models),
            "all_requests": box(0.0, float(config.num_users), models),
            "block_delay": box(0.0, np.inf, blocks),
            "own_credit": box(0.0, np.inf, blocks),
            "user_xy": box(-1.0, 1.0, config.num_users, 2),
            "user_model": box(-1.0, float(models - 1), config.num_users),
            "time": box(0.0, 1.0, 1),
        }
    )


def observe(view: SlotView, node_xy: Float, area_m: float, models: int) -> list[NodeObservation]:
    """Each node's observation of the last slot; delays in s, places from the node over the area."""
    asked = view.requests >= 0
    placement = view.placement.astype(np.int8)
    mine = np.zeros((node_xy.shape[0], models), dtype=np.float32)
    np.add.at(mine, (view.cells[asked], view.requests[asked]), 1.0)
    every = mine.sum(axis=0)
    delay, saved = view.delay_s.astype(np.float32), view.credit_s.astype(np.float32)
    places = ((view.user_xy - node_xy[:, None]) / area_m).clip(-1, 1).astype(np.float32)
    asking, share = view.requests.astype(np.float32), np.array([view.share], dtype=np.float32)
    return [
        {
            "own_cache": placement[node],
            **({"other_caches": np.delete(placement, node, axis=0)} if len(placement) > 1 else {}),
            "cell_requests": mine[node],
            "all_requests": every.copy(),
            "block_delay": delay.copy(),
            "own_credit": saved[node],
            "user_xy": places[node],
            "user_model": asking.copy(),
            "time": share.copy(),
        }
        for node in range(node_xy.shape[0])
    ]


def flat_space(scenario: Scenario) -> spaces.Box:
    """The space of `flatten`'s result."""
    parts = observation_space(scenario).spaces.values()
    lows, highs = zip(*(_bounds(part) for part in parts), strict=True)
    return spaces.Box(np.concatenate(lows), np.concatenate(highs), dtype=np.float32)


def _bounds(space: spaces.Space[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if isinstance(space, spaces.Box):
        return space.low.ravel().astype(np.float32), space.high.ravel().astype(np.float32)
    size = int(np.prod(space.shape or ()))
    return np.zeros(size, np.float32), np.ones(size, np.float32)


def flatten(observation: NodeObservation) -> NDArray[np.float32]:
    """An observation as one row of numbers, its parts in the order of their names, as Gymnasium has them."""
    return np.concatenate([np.ravel(observation[name]).astype(np.float32) for name in sorted(observation)])


def global_state(view: SlotView, area_m: float, models: int) -> NDArray[np.float32]:
    """Everything at once for a central critic: caches, one-hot requests, places, delays, time."""
    one_hot = np.zeros((view.requests.size, models), dtype=np.float32)
    asked = np.flatnonzero(view.requests >= 0)
    one_hot[asked, view.requests[asked]] = 1.0
    parts = (view.placement, one_hot, view.user_xy / area_m, view.delay_s, view.credit_s, view.share)
    return np.concatenate([np.ravel(np.asarray(part, dtype=np.float32)) for part in parts])


def credit(table_s: Float, masks: Int, nodes: int) -> Float:
    """Seconds saved by each node's copy of each block, held or not, others as they are, (nodes, blocks)."""
    ones = 1 << np.arange(nodes)[:, None]
    blocks = np.arange(masks.size)
    saved = table_s[blocks, masks & ~ones] - table_s[blocks, masks | ones]
    return np.asarray(np.maximum(saved, 0.0))  # rounding alone makes it negative
