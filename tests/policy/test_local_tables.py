"""Tables over few nodes agree with tables over all where both exist, and place where only they do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import PRESETS, RadioProxyConfig
from policy.place.greedy import greedy_placement
from policy.place.holders import link_rates
from policy.place.local_tables import (
    SlotDemand,
    candidate_nodes,
    fit_exponent,
    greedy_local,
    local_masks,
    local_table,
    near_scores,
    slot_demand,
)
from policy.play.rollout import rollout
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import mask_bits
from policy.world.synthetic import synthetic_catalog
from tests.fakes import CountDelay

ALL = np.tile(np.arange(4), (60, 1))


def _demand(world: World, slot: int = 0) -> SlotDemand:
    links = link_rates(world.delay, slot, world.trace.num_users, world.trace.num_nodes)
    return slot_demand(world.needs(slot), links, fit_exponent(world.delay, slot, links))


def test_rates_that_add_have_exponent_one() -> None:
    links = np.full((3, 4), 8.0)

    assert fit_exponent(CountDelay(8.0), 0, links) == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize(
    ("combining", "snr_db"), [("power-sum", 6.0), ("coherent", 12.0), ("coherent", -20.0)]
)
def test_the_p_norm_predicts_rates_of_sets(combining: str, snr_db: float) -> None:
    base = load_scenario("findings")
    radio = RadioProxyConfig(combining=combining, snr_db=snr_db)  # type: ignore[arg-type]
    world = Scenario(replace(base.config, radio=radio), base.catalog).world(0)
    demand = _demand(world)
    sets = np.tile(mask_bits(4)[1:], (12, 1))
    users = np.repeat(np.eye(12, dtype=bool), 15, axis=0)
    real = world.delay.rate_bit_s(0, sets, users)
    links = np.where(sets, np.repeat(demand.links, 15, axis=0), 0.0)
    guess = (links**demand.exponent).sum(axis=1) ** (1 / demand.exponent)

    assert np.abs(np.log(guess / real)).mean() < 0.15


def test_a_local_table_over_all_nodes_is_near_the_table() -> None:
    world = load_scenario("findings").world(3)
    exact, local = world.table(0).cost_s, local_table(world.scenario, _demand(world), ALL)

    assert ((exact > 0) == (local > 0)).all()
    assert np.abs(local - exact).sum() < 0.1 * exact.sum()


@given(seed=st.integers(0, 9999), budget=st.sampled_from([np.inf, 40.0]))
def test_the_local_greedy_is_the_greedy_when_all_nodes_are_candidates(seed: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    sizes, room = rng.integers(1, 30, size=9), rng.integers(20, 90, size=3).astype(float)
    table = np.sort(rng.exponential(size=(9, 8)), axis=1)[:, ::-1].copy()
    before = rng.random((3, 9)) < 0.2
    candidates = np.tile(np.arange(3), (9, 1))

    made = greedy_local(table, candidates, sizes, room, before, budget)
    assert (made == greedy_placement(table, sizes, room, before, budget)).all()


@given(seed=st.integers(0, 9999))
def test_local_masks_say_who_holds_here_and_elsewhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    placement = rng.random((6, 5)) < 0.4
    candidates = np.stack([rng.permutation(6)[:3] for _ in range(5)])
    masks = local_masks(placement, candidates)
    for block in range(5):
        here = [bool(placement[n, block]) for n in candidates[block]]
        others = placement[:, block].sum() - sum(here)
        assert [bool(masks[block] >> i & 1) for i in range(4)] == [*here, others > 0]


def test_candidates_are_near_those_who_ask() -> None:
    links = np.array([[9.0, 5.0, 1.0, 0.5], [0.5, 1.0, 5.0, 9.0]])
    needs = np.array([[True, False], [False, True]])
    near = near_scores(slot_demand(needs, links, 1.0), 2)

    assert candidate_nodes(near, 2).tolist() == [[0, 1], [3, 2]]


def test_local_tables_place_sixteen_nodes_better_than_popularity() -> None:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=20, blocks_per_model=6, families=4, shared=0.5
    )
    config = replace(PRESETS["findings"], num_nodes=16, num_users=40, num_slots=10, area_m=1200.0)
    config = replace(config, capacity_bytes=(0.1 * catalog.dedup_bytes,))
    scenario = Scenario(config, catalog)
    cost = {
        name: np.mean(
            [
                rollout(scenario.world(s), find_scheme(name), np.random.default_rng(0)).mean_cost_s
                for s in (0, 1)
            ]
        )
        for name in ("ewma-local", "popularity", "no-cache")
    }

    assert cost["ewma-local"] < cost["popularity"] < cost["no-cache"]
