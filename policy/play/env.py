"""PettingZoo `ParallelEnv` over the placement problem: a thin shell around worlds, tables and slots.

Agents are edge nodes. An action is a score for each block; the node keeps its best blocks that fit. With
migration actions a second part says which blocks the node fetches from a neighbour when they are asked for
and it lacks them; otherwise the best migration is taken. The reward, shared by all, is minus the cost of the
slot. The horizon truncates.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from policy.batched.worlds import batch_worlds
from policy.interfaces import Bool, Float
from policy.place.greedy import fill_by_score
from policy.play.migration import first_holders
from policy.play.observe import (
    NodeObservation,
    SlotView,
    credit,
    flat_space,
    flatten,
    global_state,
    observation_space,
    observe,
)
from policy.play.rollout import Course, empty_placement, slot_cost_s
from policy.play.scheme import Placement
from policy.scenario import Scenario, World
from policy.slot.tables import to_masks
from policy.world.cheap_radio import ProxyDelay

Action: TypeAlias = Any
"""Scores, (blocks,); with migration actions a dict of `scores` and `fetch`, both (blocks,)."""


class PlacementEnv(ParallelEnv[str, NodeObservation, Action]):  # type: ignore[misc]  # pettingzoo is untyped
    """Edge nodes decide together what each caches, slot by slot."""

    metadata = {"name": "pbcast_placement_v0", "render_modes": []}  # noqa: RUF012 - the name PettingZoo asks for

    def __init__(
        self,
        scenario: Scenario,
        migration: Literal["best", "actions"] = "best",
        observations: Literal["dict", "flat"] = "dict",
    ) -> None:
        """Wrap a scenario.

        Args:
            scenario: At most `policy.slot.tables.MAX_TABLE_NODES` nodes.
            migration: `best`: exact best migration; `actions`: nodes choose what to fetch.
            observations: `dict`: parts by name; `flat`: one row of numbers, as most libraries want it.
        """
        if observations not in ("dict", "flat"):
            raise ValueError(f"observations must be 'dict' or 'flat', got {observations!r}")
        if migration not in ("best", "actions"):
            raise ValueError(f"migration must be 'best' or 'actions', got {migration!r}")
        self.scenario, self._migration = scenario, migration
        self.possible_agents = [f"node_{n}" for n in range(scenario.config.num_nodes)]
        self.agents: list[str] = []
        self.render_mode = None
        self._rng = np.random.default_rng()
        self._is_flat = observations == "flat"
        seen = flat_space if self._is_flat else observation_space
        # one object for each agent, for they are seeded apart
        self.observation_spaces = {agent: seen(scenario) for agent in self.possible_agents}
        self.action_spaces = {agent: self._actions() for agent in self.possible_agents}

    def __repr__(self) -> str:
        seen = "flat" if self._is_flat else "dict"
        return f"PlacementEnv({self.scenario!r}, migration={self._migration!r}, observations={seen!r})"

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """See `policy.play.observe.observation_space` and `flat_space`."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Scores in [-1, 1] for all blocks; with migration actions a dict of `scores` and `fetch`."""
        return self.action_spaces[agent]

    def _actions(self) -> spaces.Space[Any]:
        blocks = self.scenario.catalog.num_blocks
        scores = spaces.Box(-1.0, 1.0, (blocks,), np.float32)
        if self._migration == "best":
            return scores
        return spaces.Dict({"scores": scores, "fetch": spaces.MultiBinary(blocks)})

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Draw the next world; `seed` restarts the row of worlds, `options={"world": w}` gives one."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        world = (options or {}).get("world")
        self._world: World = world or self.scenario.world(int(self._rng.integers(2**31)))
        self._tables = self._make_tables()
        self._slot, self._course = 0, Course(self._world)
        self.agents = list(self.possible_agents)
        config, catalog = self.scenario.config, self.scenario.catalog
        self._view = SlotView(
            placement=empty_placement(self._world),
            requests=np.full(config.num_users, -1, dtype=np.int64),
            cells=np.zeros(config.num_users, dtype=np.int64),
            user_xy=np.full((config.num_users, 2), config.area_m / 2),
            delay_s=np.zeros(catalog.num_blocks),
            credit_s=np.zeros((config.num_nodes, catalog.num_blocks)),
            share=0.0,
        )
        self._cells = self._world.trace.cells()
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Action]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Place, serve one slot, move on."""
        if not self.agents:
            raise ValueError("the episode is over: call reset() first")
        scores, fetch = self._parts(actions)
        sizes, config = self.scenario.catalog.sizes_bytes, self.scenario.config
        budget = config.update_budget_bytes
        at_hand = self._course.at_hand
        wanted = fill_by_score(scores, sizes, self.scenario.capacity_bytes, at_hand, budget)
        placement, cost, delay_s = self._serve(wanted, scores, fetch)
        slot, trace = self._slot, self._world.trace
        masks = to_masks(placement)
        self._slot += 1
        self._view = SlotView(
            placement=placement,
            requests=trace.requests[slot],
            cells=self._cells[slot],
            user_xy=trace.user_xy[slot],
            delay_s=delay_s,
            credit_s=credit(self._tables[slot], masks, config.num_nodes),
            share=self._slot / trace.num_slots,
        )
        over = self._slot >= trace.num_slots
        seen, live = self._observations(), self.agents
        info = {"block_delay_s": delay_s, "cost_s": cost, "masks": masks, "slot": slot}
        self.agents = [] if over else live
        return (
            seen,
            dict.fromkeys(live, -cost),
            dict.fromkeys(live, False),
            dict.fromkeys(live, over),
            {agent: dict(info) for agent in live},
        )

    def state(self) -> NDArray[np.float32]:
        """Global view of the last slot for a central critic, flat."""
        return global_state(self._view, self.scenario.config.area_m, self.scenario.catalog.num_models)

    def _make_tables(self) -> Float:
        """Tables of all slots, (slots, blocks, 2^nodes): one torch batch for the cheap radio."""
        if isinstance(self._world.delay, ProxyDelay):
            return batch_worlds([self._world]).tables_s[0].double().numpy()
        return np.stack([self._world.table(slot).cost_s for slot in range(self._world.trace.num_slots)])

    def _parts(self, actions: dict[str, Action]) -> tuple[Float, Bool | None]:
        """Scores and fetches, both (nodes, blocks)."""
        rows = [actions[agent] for agent in self.possible_agents]
        if self._migration == "best":
            return np.stack(rows).astype(np.float64), None
        scores = np.stack([row["scores"] for row in rows]).astype(np.float64)
        return scores, np.stack([row["fetch"] for row in rows]).astype(bool)

    def _serve(self, wanted: Bool, scores: Float, fetch: Bool | None) -> tuple[Bool, float, Float]:
        """Caches, cost and delay of each block: a gather where costs add up, else a played slot."""
        config, blocks = self.scenario.config, np.arange(wanted.shape[1])
        update = self._course.update(Placement(holds=wanted, value=scores))
        placement = self._course.placement
        if fetch is None and config.timing == "additive" and config.objective == "total":
            delay_s = self._tables[self._slot, blocks, to_masks(placement)]
            return placement, float(delay_s.sum() + config.update_weight * update.seconds), delay_s
        holders = None if fetch is None else self._holders(placement, fetch)
        outcome = self._course.serve(holders)
        return placement, slot_cost_s(outcome, config), outcome.block_delay_s

    def _holders(self, placement: Bool, fetch: Bool) -> Bool:
        """Caching nodes plus those that fetch; a block that nobody has or fetches goes to the best node."""
        needed = self._world.needs(self._slot).any(axis=0)
        wanted = placement | (fetch & needed)
        lost = needed & ~wanted.any(axis=0)
        return np.asarray(wanted | (first_holders(self._world, self._slot) & lost))

    def _observations(self) -> dict[str, Any]:
        config, models = self.scenario.config, self.scenario.catalog.num_models
        seen = observe(self._view, self._world.trace.node_xy, config.area_m, models)
        rows = map(flatten, seen) if self._is_flat else seen
        return dict(zip(self.possible_agents, rows, strict=True))


def make_env(
    scenario: Scenario,
    migration: Literal["best", "actions"] = "best",
    observations: Literal["dict", "flat"] = "dict",
) -> PlacementEnv:
    """The environment of a scenario, see `PlacementEnv`."""
    return PlacementEnv(scenario, migration, observations)
