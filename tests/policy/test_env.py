"""PettingZoo's own tests, and what they leave out: whole episodes and observations in their space."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from policy.config import PRESETS
from policy.play.env import PlacementEnv, make_env
from policy.play.rollout import rollout
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import from_masks
from tests.fakes import fixed_catalog


def _small(**changes: object) -> Scenario:
    config = replace(PRESETS["findings"], num_slots=6, num_users=4, capacity_bytes=(120.0,), **changes)  # type: ignore[arg-type]
    return Scenario(config, fixed_catalog())


ENVS = [
    pytest.param(lambda: make_env(_small()), id="additive"),
    pytest.param(lambda: make_env(_small(timing="pipelined", objective="mean-user")), id="pipelined"),
    pytest.param(lambda: make_env(_small(), "actions"), id="migration-actions"),
    pytest.param(lambda: make_env(_small(update_budget_bytes=60.0)), id="budget"),
]


def _episode(env: PlacementEnv, seed: int) -> list[Any]:
    """All that comes out of two seeded episodes in a row."""
    made: list[Any] = []
    for agent in env.possible_agents:
        env.action_space(agent).seed(seed)
    for start in (seed, None):
        made.append(env.reset(seed=start))
        while env.agents:
            made.append(env.step({agent: env.action_space(agent).sample() for agent in env.agents}))
            made.append(env.state())
    return made


def _same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


@pytest.mark.parametrize("make", ENVS)
def test_pettingzoo_accepts_it(make: Callable[[], PlacementEnv]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=30)
        parallel_seed_test(make, num_cycles=20)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("make", ENVS)
def test_whole_episodes_repeat_from_their_seed(make: Callable[[], PlacementEnv]) -> None:
    first, again, other = _episode(make(), 7), _episode(make(), 7), _episode(make(), 8)

    assert len(first) == 2 * (1 + 2 * 6)
    assert _same(first, again)
    assert not _same(first, other)


@pytest.mark.parametrize("make", ENVS)
def test_every_observation_is_in_its_space(make: Callable[[], PlacementEnv]) -> None:
    env = make()
    seen, _ = env.reset(seed=1)
    size = env.state().shape
    while True:
        for agent in env.possible_agents:
            space = env.observation_space(agent)
            assert space.contains(seen[agent])
            assert {k: v.shape for k, v in seen[agent].items()} == {k: s.shape for k, s in space.items()}
        if not env.agents:
            break
        seen, reward, ended, cut, info = env.step({a: env.action_space(a).sample() for a in env.agents})
        assert env.state().shape == size
        assert len(set(reward.values())) == 1
        assert not any(ended.values())
        assert all(cut.values()) == (not env.agents)
        assert all(np.isfinite(row["block_delay_s"]).all() for row in info.values())


def test_the_env_costs_what_the_played_scheme_costs() -> None:
    scenario = load_scenario("findings")
    world = scenario.world(5)
    episode = rollout(world, find_scheme("popularity"), np.random.default_rng(0))
    env = make_env(scenario)
    env.reset(options={"world": world})
    for slot, placement in enumerate(episode.placements):
        scores = np.where(placement, 1.0, -1.0).astype(np.float32)
        _, reward, _, _, info = env.step(dict(zip(env.agents, scores, strict=True)))
        got = from_masks(info["node_0"]["masks"], 4)
        assert (got & placement == placement).all()
        if (got == placement).all():
            assert -reward["node_0"] == pytest.approx(episode.cost_s[slot], rel=1e-4)


def test_optimal_migration_is_never_worse_than_chosen_ones() -> None:
    scenario = _small(update_weight=0.0)
    world = scenario.world(3)
    best, chosen = make_env(scenario), make_env(scenario, "actions")
    best.reset(options={"world": world})
    chosen.reset(options={"world": world})
    for agent in chosen.possible_agents:
        chosen.action_space(agent).seed(4)
    while best.agents:
        actions = {agent: chosen.action_space(agent).sample() for agent in chosen.agents}
        _, some, _, _, _ = chosen.step(actions)
        _, most, _, _, _ = best.step({agent: action["scores"] for agent, action in actions.items()})
        assert most["node_0"] >= some["node_0"] * (1 + 1e-4) - 1e-9


def test_a_finished_episode_and_a_wrong_mode_are_refused() -> None:
    env = make_env(_small())
    with pytest.raises(ValueError, match="reset"):
        env.step({})
    with pytest.raises(ValueError, match="migration must be"):
        make_env(_small(), "never")  # type: ignore[arg-type]
