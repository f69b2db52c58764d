"""What every scheme must obey, whatever it does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import FINDINGS, LinkConfig, RequestConfig, ScenarioConfig
from policy.play.rollout import Episode, rollout
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import ABLATIONS, NO_STORE_SHARING, WHOLE_MODELS, find_scheme, scheme_names
from policy.schemes.estimates import know_nothing_table
from policy.world.synthetic import findings_catalog, synthetic_catalog
from policy.world.trace import Trace

QUICK = {"planner": ":samples=4", "m-pso": ":rounds=3", "m-pso-clock": ":rounds=3"}
NAMES = [name + QUICK.get(name, "") for name in scheme_names()]
NAMES += [f"ewma-greedy+{switch}" for switch in (*ABLATIONS, NO_STORE_SHARING, WHOLE_MODELS)]


def small_scenario(seed: int, share: float, budget_share: float, nodes: int = 3) -> Scenario:
    catalog = synthetic_catalog(
        np.random.default_rng(seed),
        models=5,
        blocks_per_model=5,
        families=2,
        shared=0.5,
        mean_block_bytes=1e6,
    )
    config: ScenarioConfig = replace(
        FINDINGS,
        num_nodes=nodes,
        num_users=5,
        num_slots=5,
        capacity_bytes=(max(share * catalog.dedup_bytes, float(catalog.sizes_bytes.min())),),
        update_budget_bytes=budget_share * catalog.dedup_bytes,
    )
    return Scenario(config, catalog)


def play(world: World, name: str, seed: int = 0) -> Episode:
    return rollout(world, find_scheme(name), np.random.default_rng(seed))


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 1.0), budget=st.sampled_from([0.05, 0.3, np.inf]))
@settings(deadline=None, max_examples=5)
def test_capacity_and_budget_are_kept(name: str, seed: int, share: float, budget: float) -> None:
    world = small_scenario(seed, share, budget).world(seed)
    episode = play(world, name)
    seen = world.under(find_scheme(name).rules).scenario
    before = np.zeros_like(episode.placements[0])

    for placement in episode.placements:
        sizes = seen.catalog.sizes_bytes
        assert (placement @ sizes <= seen.capacity_bytes).all()
        assert ((placement & ~before) @ sizes <= seen.config.update_budget_bytes).all()
        before = placement


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_episode(name: str) -> None:
    scenario = small_scenario(3, 0.4, np.inf)
    first, second = play(scenario.world(1), name, 7), play(scenario.world(1), name, 7)

    np.testing.assert_array_equal(first.placements, second.placements)
    np.testing.assert_array_equal(first.cost_s, second.cost_s)


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", NAMES)
def test_only_schemes_that_say_so_draw(name: str) -> None:
    world = small_scenario(3, 0.4, np.inf).world(1)
    episodes = [play(world, name, seed).placements for seed in range(6)]
    same = all(np.array_equal(episodes[0], other) for other in episodes[1:])

    assert same or find_scheme(name).random
    if name == "random":
        assert not same


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", NAMES)
def test_the_future_does_not_change_a_decision(name: str) -> None:
    scenario, cut = small_scenario(5, 0.4, np.inf), 3
    world = scenario.world(2)
    other = scenario.world(9).trace
    trace = Trace(
        node_xy=world.trace.node_xy,
        user_xy=np.concatenate([world.trace.user_xy[:cut], other.user_xy[cut:]]),
        requests=np.concatenate([world.trace.requests[:cut], other.requests[cut:]]),
    )
    known, changed = play(world, name).placements, play(scenario.world_of(trace), name).placements

    np.testing.assert_array_equal(known[: cut + 1], changed[: cut + 1])


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("no-cache", "random") and "whole" not in n])
def test_a_lasting_wish_is_granted(name: str) -> None:
    """One user asks for one model for ever: with room for it, every scheme caches all of it somewhere."""
    scenario = small_scenario(4, 1.0, np.inf)
    requests = np.full((5, 5), -1)
    requests[:, 0] = 2
    still = np.tile(np.array([[150.0, 150.0]]), (5, 5, 1))
    world = scenario.world_of(
        Trace(node_xy=scenario.world(0).trace.node_xy, user_xy=still, requests=requests)
    )
    episode = play(world, name)

    assert episode.placements[-1][:, scenario.catalog.members[2]].any(axis=0).all()
    assert episode.outcomes[-1].hit_ratio == 1.0
    assert episode.cost_s[-1] < episode.cost_s[0]


@pytest.mark.slow
def test_a_planner_does_not_trade_broadcasts_for_transfers_that_delay_nobody() -> None:
    """Pipelined, without migration: what hides behind the band is not worth a weaker broadcast.

    This is of planners by tables; `learned` plans by a clock where slots overlap.
    """
    scenario = load_scenario("default", findings_catalog())
    fast = LinkConfig(backhaul_bit_s=10e9, cloud_bit_s=1e9)
    room = replace(scenario.config, capacity_share=0.8, num_slots=8, links=fast, requests=RequestConfig())
    worlds = [Scenario(room, scenario.catalog).world(seed) for seed in range(3)]
    costs = [play(world, "ewma-greedy+no-migration").mean_cost_s for world in worlds]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policy.config.EXPOSED_SHARE", 1.0)
        know_nothing_table.cache_clear()
        full = [play(world, "ewma-greedy+no-migration").mean_cost_s for world in worlds]
    know_nothing_table.cache_clear()

    assert np.mean(costs) < np.mean(full)
