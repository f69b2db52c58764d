"""Baselines that see nothing, the pool, and the fair planner: laws of each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.learn.augur import Augur, AugurConfig
from policy.learn.demand import DemandModel
from policy.play.rollout import rollout
from policy.play.scheme import History, Observation
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import find_scheme
from policy.schemes.pooled import completing
from policy.schemes.settings import settings_of
from policy.schemes.static_distinct import first_copies, further_copies
from policy.world.synthetic import synthetic_catalog
from policy.world.trace import Trace

BLIND = ("static-distinct", "static-distinct:whole=0", "know-nothing")


def _scenario(seed: int, share: float, nodes: int = 3) -> Scenario:
    catalog = synthetic_catalog(
        np.random.default_rng(seed),
        models=5,
        blocks_per_model=4,
        families=2,
        shared=0.5,
        mean_block_bytes=1e6,
    )
    room = max(share * catalog.dedup_bytes, float(catalog.sizes_bytes.min()))
    base = load_scenario("findings").config
    return Scenario(replace(base, num_nodes=nodes, num_users=4, num_slots=3, capacity_bytes=(room,)), catalog)


def _placement(world: World, name: str, seed: int = 0) -> np.ndarray:
    return rollout(world, find_scheme(name), np.random.default_rng(seed)).placements[-1]


@pytest.mark.parametrize("name", BLIND)
def test_requests_and_motion_change_nothing_for_who_sees_nothing(name: str) -> None:
    scenario = _scenario(1, 0.3)
    worlds = [scenario.world(seed) for seed in range(4)]
    silent = Trace(
        node_xy=worlds[0].trace.node_xy,
        user_xy=worlds[0].trace.user_xy,
        requests=np.full_like(worlds[0].trace.requests, -1),
    )
    placements = [_placement(world, name) for world in [*worlds, scenario.world_of(silent)]]

    for placement in placements[1:]:
        np.testing.assert_array_equal(placement, placements[0])


@pytest.mark.parametrize("name", BLIND)
def test_who_sees_nothing_never_looks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, scheme = _scenario(2, 0.3), None

    def looked(*_: object) -> None:
        raise AssertionError("a baseline that sees nothing has looked at the past")

    for attribute in ("requests", "user_xy"):
        monkeypatch.setattr(History, attribute, property(looked))
    for method in ("needs", "table", "planning_table", "devices", "rate_bit_s"):
        monkeypatch.setattr(History, method, looked)
    scheme = find_scheme(name).start(scenario, np.random.default_rng(0))
    world, before = scenario.world(0), np.zeros((3, scenario.catalog.num_blocks), dtype=bool)
    for slot in range(3):
        entry = find_scheme(name)
        seen = Observation(
            slot=slot,
            placement=before,
            history=History(world, slot, entry.rules),
            at_hand=before,
            idle_s=np.full(3, np.inf),
        )
        before = scheme.decide(seen).holds

    assert before.any()


@pytest.mark.parametrize("name", BLIND)
def test_what_was_fetched_to_serve_does_not_stay_with_who_sees_nothing(name: str) -> None:
    """Else the caches would tell of requests after all."""
    scenario = _scenario(4, 0.3)
    world, entry, rng = scenario.world(0), find_scheme(name), np.random.default_rng(0)
    decided = []
    for fetched in (0.0, 0.3, 1.0):
        at_hand = rng.random((3, scenario.catalog.num_blocks)) < fetched
        seen = Observation(
            slot=1,
            placement=np.zeros_like(at_hand),
            history=History(world, 1, entry.rules),
            at_hand=at_hand,
            idle_s=np.full(3, np.inf),
        )
        decided.append(entry.start(scenario, np.random.default_rng(0)).decide(seen).holds)

    np.testing.assert_array_equal(decided[0], decided[1])
    np.testing.assert_array_equal(decided[0], decided[2])


@pytest.mark.parametrize("name", BLIND[:2])
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 1.2), nodes=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_the_partition_leaves_out_nothing_that_would_fit(
    name: str, seed: int, share: float, nodes: int
) -> None:
    scenario = _scenario(seed, share, nodes)
    sizes = scenario.catalog.sizes_bytes
    holds = _placement(scenario.world(seed), name, seed)
    room = scenario.capacity_bytes - holds @ sizes

    assert (holds | (sizes > room[:, None])).all()


def test_partitions_are_drawn_by_the_seed() -> None:
    world = _scenario(3, 0.2).world(0)
    first = [_placement(world, "static-distinct", seed) for seed in (1, 1, 2)]

    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()


def test_whole_models_make_hits_that_single_blocks_do_not() -> None:
    """Where a third of the catalog fits, complete models serve requests; the same bytes at random not."""
    scenario = load_scenario("findings")
    narrow = Scenario(replace(scenario.config, capacity_bytes=(225e6,), num_slots=6), scenario.catalog)
    hits = {}
    for name in BLIND[:2]:
        episodes = [rollout(narrow.world(s), find_scheme(name), np.random.default_rng(s)) for s in range(3)]
        hits[name] = np.mean([outcome.hit_ratio for e in episodes for outcome in e.outcomes])

    assert hits[BLIND[0]] > hits[BLIND[1]] + 0.1


@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 6), blocks=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_first_copies_come_once_each_before_any_second(seed: int, nodes: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, room = rng.integers(1, 50, blocks), rng.integers(20, 200, nodes).astype(np.float64)
    order, liking, before = rng.permutation(blocks), rng.random((nodes, blocks)), room.copy()
    first = first_copies(order, sizes, room, liking)

    assert (first.sum(axis=0) <= 1).all()
    np.testing.assert_array_equal(room, before - first @ sizes)
    assert (sizes[~first.any(axis=0)] > room.max()).all()  # what lies nowhere fits nowhere
    both, free = first.copy(), room.copy()
    further_copies(both, order, sizes, free)
    assert (both >= first).all()
    np.testing.assert_array_equal(free, before - both @ sizes)
    assert (both | (sizes > free[:, None])).all()


def test_the_pool_keeps_blocks_where_they_lie_while_demand_stays() -> None:
    scenario = _scenario(5, 0.15)
    requests = np.tile(np.array([0, 1, 2, -1]), (3, 1))
    still = np.tile(scenario.world(0).trace.user_xy[:1], (3, 1, 1))
    trace = Trace(node_xy=scenario.world(0).trace.node_xy, user_xy=still, requests=requests)
    episode = rollout(scenario.world_of(trace), find_scheme("pooled"), np.random.default_rng(0))

    np.testing.assert_array_equal(episode.placements[1], episode.placements[2])


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_completing_a_model_counts_like_the_mean_of_what_it_lacks(seed: int) -> None:
    scenario = _scenario(seed, 0.5)
    rng, members = np.random.default_rng(seed), scenario.catalog.members
    need, sizes = rng.random(members.shape[1]), scenario.catalog.sizes_bytes
    worth = completing(scenario, need)
    best = max((sizes * need)[row].sum() / sizes[row].sum() for row in members)

    assert any(worth[row] == pytest.approx(best) for row in members)  # all of the model that was taken first
    assert worth @ sizes == pytest.approx(
        need @ sizes
    )  # shared out anew, nothing lost: every block is needed


def test_the_fair_planner_is_the_learned_policy_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the fair planner has read weights")

    monkeypatch.setattr("policy.schemes.learned.load_checkpoint", read)
    monkeypatch.setattr("policy.learn.checkpoint.load_checkpoint", read)
    scenario = load_scenario("findings")
    planner = find_scheme("planner-fair").start(scenario, np.random.default_rng(0))
    learned = Augur(scenario, np.random.default_rng(0), DemandModel.untrained())

    assert isinstance(planner, Augur)
    assert planner._config == learned._config == AugurConfig()
    assert settings_of(find_scheme("planner-fair")) == ["samples", "patience", "rounds"]


def test_an_untrained_forecast_is_the_mixture_as_it_is() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 1, 3, 4)).astype(np.float32)
    pair = rng.normal(size=(1, 3, 4, DemandModel.untrained().weights[0][0].shape[0])).astype(np.float32)
    ask = rng.normal(size=(1, 3, DemandModel.untrained().ask_weights[0][0].shape[0])).astype(np.float32)
    chances = DemandModel.untrained().chances(base, pair, ask)
    mixture = np.exp(base) / np.exp(base).sum(axis=-1, keepdims=True)

    np.testing.assert_allclose(chances, mixture / (1 + np.exp(-ask[..., :1]))[None], rtol=1e-5)
