"""The form without tables, measured against the tables where both exist, and run where only it does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.config import PRESETS
from policy.place.holders import Search, greedy_holders, link_rates
from policy.play.migration import separable_holders, serve_with
from policy.play.rollout import empty_placement, play_slot, rollout
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import ServiceRules
from policy.world.synthetic import synthetic_catalog


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), comp=st.booleans(), migration=st.booleans())
def test_grown_sets_are_allowed_and_not_better_than_the_best(seed: int, comp: bool, migration: bool) -> None:
    rng = np.random.default_rng(seed)
    world = load_scenario("findings").world(seed)
    placement = rng.random((4, 60)) < 0.2
    rules = ServiceRules(comp=comp, migration=migration)
    grown = greedy_holders(world.problem(0, placement, rules))
    exact = play_slot_cost(world, placement, None, rules)

    assert (grown & placement == placement).all()
    assert play_slot_cost(world, placement, grown, rules) >= exact - 1e-9


def play_slot_cost(world, placement, holders, rules):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    chosen = separable_holders(world, world.problem(0, placement, rules)) if holders is None else holders
    return serve_with(world, 0, placement, chosen, rules).total_delay_s


def test_grown_sets_lose_little_against_tables() -> None:
    exact = grown = 0.0
    scenario = load_scenario("findings")
    for seed in range(6):
        world = scenario.world(seed)
        placement = np.random.default_rng(seed).random((4, 60)) < 0.2
        holders = greedy_holders(world.problem(0, placement))
        exact += play_slot_cost(world, placement, None, ServiceRules())
        grown += play_slot_cost(world, placement, holders, ServiceRules())

    assert grown <= 1.02 * exact


def test_link_rates_are_the_rates_of_single_nodes_and_users() -> None:
    world = load_scenario("findings").world(0)
    links = link_rates(world.delay, 2, 12, 4)
    snr = world.delay.snr[2]  # type: ignore[attr-defined]

    assert links == pytest.approx(1e8 * np.log2(1 + snr))


def test_sixteen_nodes_are_served_without_tables() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=30, blocks_per_model=8, families=5, shared=0.6
    )
    config = replace(PRESETS["default"], num_nodes=16, num_users=40, num_slots=1)
    world = Scenario(config, catalog).world(0)
    placement = empty_placement(world)
    placement[:, :10] = True
    room = world.scenario.capacity_bytes[0]
    while placement[0] @ catalog.sizes_bytes > room:
        placement[:, np.flatnonzero(placement[0])[-1]] = False
    out = play_slot(world, 0, empty_placement(world), placement)
    without = play_slot(world, 0, empty_placement(world), placement, ServiceRules(migration=False))

    assert len(out.broadcasts) == world.needs(0).any(axis=0).sum()
    assert out.mean_delay_s <= without.mean_delay_s + 1e-9
    wider = greedy_holders(world.problem(0, placement), search=Search(most_added=0))
    assert (wider[:, world.needs(0).any(axis=0)].any(axis=0)).all()


def test_users_out_of_reach_of_one_node_get_more_nodes() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(1), models=4, blocks_per_model=3, families=1, shared=0.9
    )
    base = PRESETS["default"]
    radio = replace(base.radio, range_m=260.0)
    config = replace(base, num_nodes=16, num_users=30, num_slots=3, area_m=1000.0, radio=radio)
    world = Scenario(config, catalog).world(0)
    episode = rollout(world, find_scheme("ewma-local"), np.random.default_rng(0))

    assert all(np.isfinite(outcome.user_delay_s).all() for outcome in episode.outcomes)
    assert max(len(cast.holders) for outcome in episode.outcomes for cast in outcome.broadcasts) > 6


@pytest.mark.slow
def test_the_largest_planned_size_is_placed_and_served() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=1000, blocks_per_model=19, families=50, shared=0.5
    )
    config = replace(
        PRESETS["default"],
        num_nodes=64,
        num_users=1000,
        num_slots=2,
        slot_s=1000.0,
        area_m=2000.0,
        capacity_share=0.05,
    )  # one band for 500 requests a slot: 10 s of it would leave minutes of work behind
    scenario = Scenario(config, catalog)
    world = scenario.world(0)
    episode = rollout(world, find_scheme("ewma-local"), np.random.default_rng(0))
    nothing = rollout(world, find_scheme("no-cache"), np.random.default_rng(0))

    assert catalog.num_blocks > 9_000
    for slot, outcome in enumerate(episode.outcomes):
        missed = world.needs(slot).any(axis=0)
        assert {cast.block for cast in outcome.broadcasts} == set(np.flatnonzero(missed).tolist())
        assert outcome.mean_delay_s <= nothing.outcomes[slot].mean_delay_s
        assert not outcome.load.band_backlog_s
    assert episode.outcomes[-1].cloud_bytes < nothing.outcomes[-1].cloud_bytes
