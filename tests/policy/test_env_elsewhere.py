"""The environment is usable where it will be used: one node, flat rows, one agent, vectors, other libraries.

TorchRL and SuperSuit are no dependencies; their tests run where they are installed:

pip install --no-deps torchrl==0.14.1 tensordict pyvers orjson cloudpickle supersuit tinyscaler
"""

import gc
import warnings
import weakref
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test, parallel_seed_test

from policy.config import PRESETS
from policy.play.env import make_env
from policy.play.observe import flatten
from policy.play.single_agent import SingleAgentEnv
from policy.scenario import Scenario
from tests.fakes import fixed_catalog


def small(**changes: object) -> Scenario:
    config = replace(PRESETS["findings"], num_slots=6, num_users=4, capacity_bytes=(120.0,), **changes)  # type: ignore[arg-type]
    return Scenario(config, fixed_catalog())


@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize("observations", ["dict", "flat"])
@pytest.mark.parametrize("migration", ["best", "actions"])
def test_pettingzoo_accepts_one_node_and_flat_rows(nodes: int, observations: str, migration: str) -> None:
    def make():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return make_env(small(num_nodes=nodes), migration, observations)  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Single-agent environment detected")
        parallel_api_test(make(), num_cycles=14)
        parallel_seed_test(make, num_cycles=7)


def test_flat_rows_say_what_the_parts_say() -> None:
    parts, rows = make_env(small()), make_env(small(), observations="flat")
    (seen, _), (flat, _) = parts.reset(seed=3), rows.reset(seed=3)
    space = parts.observation_space("node_0")
    while parts.agents:
        for agent in parts.agents:
            np.testing.assert_array_equal(flatten(seen[agent]), flat[agent])
            np.testing.assert_array_equal(spaces.flatten(space, seen[agent]), flat[agent])
            assert rows.observation_space(agent).contains(flat[agent])
        actions = {agent: parts.action_space(agent).sample() for agent in parts.agents}
        seen, reward, *_ = parts.step(actions)
        flat, same, *_ = rows.step(actions)
        assert reward == same
    with pytest.raises(ValueError, match="observations must be 'dict' or 'flat'"):
        make_env(small(), observations="rows")  # type: ignore[arg-type]


@pytest.mark.parametrize("nodes", [1, 4])
def test_gymnasium_accepts_the_single_agent(nodes: int) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space (maximum|minimum) value")
        check_env(SingleAgentEnv(small(num_nodes=nodes)), skip_render_check=True)


def test_one_agent_earns_what_the_nodes_earn() -> None:
    many, one = make_env(small()), SingleAgentEnv(small())
    many.reset(seed=5)
    one.reset(seed=5)
    rng = np.random.default_rng(0)
    while many.agents:
        scores = rng.uniform(-1, 1, (4, one.action_space.shape[0] // 4)).astype(np.float32)
        _, rewards, _, cut, _ = many.step(dict(zip(many.agents, scores, strict=True)))
        _, reward, ended, over, _ = one.step(scores.ravel())
        assert (reward, over, ended) == (rewards["node_0"], cut["node_0"], False)


def test_a_vector_of_environments_runs_and_repeats() -> None:
    def run() -> list[float]:
        vector = gymnasium.vector.SyncVectorEnv([lambda: SingleAgentEnv(small())] * 3)
        vector.reset(seed=1)
        vector.action_space.seed(1)
        made = [vector.step(vector.action_space.sample())[1].tolist() for _ in range(9)]
        vector.close()
        return made

    first = run()
    assert first == run()
    assert len({tuple(row) for row in first}) > 1


def test_environments_are_freed() -> None:
    env = make_env(small())
    for agent in env.possible_agents:
        env.observation_space(agent)
        env.action_space(agent)
    env.reset(seed=0)
    gone = weakref.ref(env)
    del env
    gc.collect()

    assert gone() is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("observations", ["dict", "flat"])
@pytest.mark.parametrize("migration", ["best", "actions"])
@pytest.mark.parametrize("nodes", [1, 4])
def test_torchrl_accepts_its_specs(nodes: int, migration: str, observations: str) -> None:
    envs = pytest.importorskip("torchrl.envs")
    inner = make_env(small(num_nodes=nodes), migration, observations)  # type: ignore[arg-type]
    env = envs.PettingZooWrapper(inner, use_mask=False, categorical_actions=False)

    envs.check_env_specs(env)
    assert env.rollout(10).batch_size[0] == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_supersuit_wraps_flat_rows() -> None:
    supersuit = pytest.importorskip("supersuit")
    vector = supersuit.pettingzoo_env_to_vec_env_v1(make_env(small(), observations="flat"))
    vector = supersuit.concat_vec_envs_v1(vector, 2, num_cpus=0, base_class="gymnasium")
    vector.reset(seed=0)
    for _ in range(14):
        seen, *_ = vector.step(np.stack([vector.action_space.sample()] * 8))
    assert seen.shape[0] == 8
    stacked = supersuit.frame_stack_v1(make_env(small(), observations="flat"), 3)
    assert stacked.reset(seed=0)[0]["node_0"].shape[0] == 3 * vector.observation_space.shape[0]
