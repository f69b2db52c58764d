"""The placement problem for one agent that decides for all nodes: a plain Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from policy.play.env import PlacementEnv
from policy.scenario import Scenario

Row = NDArray[np.float32]


class SingleAgentEnv(gymnasium.Env[Row, Row]):  # type: ignore[misc]  # gymnasium is untyped here
    """One agent sees all nodes' flat observations and scores all blocks for each of them.

    Observation: the rows of `PlacementEnv(observations="flat")`, node after node. Action: scores in [-1, 1],
    (nodes x blocks,), node after node. Reward: minus the cost of the slot, s. The horizon truncates.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - the name Gymnasium asks for

    def __init__(self, scenario: Scenario) -> None:
        """Wrap a scenario of at most `policy.slot.tables.MAX_TABLE_NODES` nodes."""
        self._env = PlacementEnv(scenario, observations="flat")
        self._nodes = self._env.possible_agents
        space = self._env.observation_space(self._nodes[0])
        low, high = (np.tile(bound, len(self._nodes)) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        size = len(self._nodes) * scenario.catalog.num_blocks
        self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Row, dict[str, Any]]:
        """Draw the next world, see `PlacementEnv.reset`."""
        super().reset(seed=seed)
        seen, _ = self._env.reset(seed, options)
        return self._row(seen), {}

    def step(self, action: Row) -> tuple[Row, float, bool, bool, dict[str, Any]]:
        """Place, serve one slot, move on."""
        rows = np.reshape(action, (len(self._nodes), -1))
        seen, reward, _, over, info = self._env.step(dict(zip(self._nodes, rows, strict=True)))
        first = self._nodes[0]
        return self._row(seen), reward[first], False, over[first], info[first]

    def _row(self, seen: dict[str, Row]) -> Row:
        return np.concatenate([seen[node] for node in self._nodes])
