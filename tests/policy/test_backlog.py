"""Slots that leave work to the next: what waits, what stays, and bounds that still hold."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.bounds import unlimited_costs
from policy.bounds.unlimited import least_backlog_s
from policy.config import FINDINGS, LinkConfig, RequestConfig, ScenarioConfig
from policy.evaluation.oracles import HINDSIGHT_LOWER, HINDSIGHT_UPPER, bound_cost_s
from policy.interfaces import BlockCatalog, Bool
from policy.play.rollout import Course, Episode, rollout, slot_cost_s
from policy.play.scheme import Placement
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.slot.backlog import Carried, carry, load_of
from policy.slot.tables import from_masks
from policy.slot.timeline import Broadcast, Transfer
from policy.slot.updates import CacheUpdate
from policy.world.synthetic import synthetic_catalog
from policy.world.trace import Trace

SMALL = replace(
    FINDINGS,
    num_nodes=2,
    num_users=4,
    num_slots=3,
    slot_s=2.0,
    timing="pipelined",
    objective="mean-user",
    links=LinkConfig(backhaul_bit_s=40e6, cloud_bit_s=10e6),
)


def _world(seed: int, config: ScenarioConfig = SMALL, models: int = 3, blocks: int = 2) -> World:
    """Two families of so many models of so many blocks each; a node has room for 1.3 of the largest block."""
    rng = np.random.default_rng(seed)
    catalog = synthetic_catalog(
        rng, models=models, blocks_per_model=blocks, families=2, shared=0.5, mean_block_bytes=2e6
    )
    config = replace(config, capacity_bytes=(1.3 * float(catalog.sizes_bytes.max()),))
    return Scenario(config, catalog).world(seed)


def _feasible(world: World) -> list[Bool]:
    sizes, room = world.scenario.catalog.sizes_bytes, world.scenario.capacity_bytes
    every = (from_masks(np.array(m), 2) for m in itertools.product(range(4), repeat=sizes.size))
    return [holds for holds in every if (holds @ sizes <= room).all()]


def _move(target: int, start: float, end: float, source: int = 0) -> Transfer:
    return Transfer(block=target, source=source, target=target, start_s=start, end_s=end)


def test_what_is_not_done_and_what_was_idle_by_hand() -> None:
    now = Carried(
        link_free_s=np.array([1.0, 0.0, 12.0]),
        band_free_s=2.0,
        idle_s=np.zeros(3),
        fetched=np.zeros((3, 3), dtype=bool),
    )
    moves = (_move(0, 1.0, 3.0), _move(1, 8.0, 13.0, source=-1))
    casts = (Broadcast(block=0, holders=(0,), users=(0,), start_s=9.0, end_s=16.0),)
    after = carry(now, moves, casts, 10.0, backlog=True)
    load = load_of(moves, casts, CacheUpdate(backhaul_bytes=0, cloud_bytes=0, seconds=0.0), after)

    assert after.link_free_s.tolist() == [0.0, 3.0, 2.0]
    assert after.band_free_s == 6.0
    assert after.idle_s.tolist() == [7.0, 8.0, 0.0]
    assert np.argwhere(after.fetched).tolist() == [[0, 0], [1, 1]]
    assert (load.band_s, load.backhaul_s.tolist(), load.cloud_s.tolist()) == (7.0, [2.0, 0, 0], [0, 5.0, 0])
    forgotten = carry(now, moves, casts, 10.0, backlog=False)
    assert (forgotten.link_free_s.any(), forgotten.band_free_s) == (False, 0.0)


def _steady(timing: str, slot_s: float, backlog: bool = True) -> Episode:
    """One user asks for one model of one block again and again; nothing is cached."""
    config = replace(SMALL, num_nodes=1, num_users=1, slot_s=slot_s, capacity_bytes=(2e6,))
    config = replace(config, timing=timing, backlog=backlog)  # type: ignore[arg-type]
    one = BlockCatalog(sizes_bytes=np.array([1_000_000]), members=np.ones((1, 1), dtype=bool))
    scenario = Scenario(config, one)
    still, asks = np.full((3, 1, 2), 300.0), np.zeros((3, 1), dtype=np.int64)
    trace = Trace(node_xy=scenario.world(0).trace.node_xy, user_xy=still, requests=asks)
    return rollout(scenario.world_of(trace), find_scheme("no-cache"), np.random.default_rng(0))


@pytest.mark.parametrize("timing", ["pipelined", "sequential"])
def test_a_request_waits_for_the_work_of_the_slots_before(timing: str) -> None:
    rare, dense = _steady(timing, 100.0), _steady(timing, 0.5)
    alone = rare.cost_s[0]  # 0.8 s from the cloud, then the air
    busy = [outcome.load.link_backlog_s[0] for outcome in dense.outcomes]

    assert rare.cost_s == pytest.approx(alone)
    assert busy == pytest.approx([0.3, 0.6, 0.9])
    assert dense.cost_s == pytest.approx([alone, alone + 0.3, alone + 0.6])
    assert _steady(timing, 0.5, backlog=False).cost_s == pytest.approx(alone)


def test_additive_slots_carry_nothing() -> None:
    assert _steady("additive", 0.5).cost_s == pytest.approx(_steady("additive", 100.0).cost_s)
    assert not any(outcome.load.band_backlog_s for outcome in _steady("additive", 100.0).outcomes)


@given(seed=st.integers(0, 10**4))
@settings(max_examples=10)
def test_what_was_fetched_to_serve_may_stay_for_nothing(seed: int) -> None:
    world = _world(seed)
    course = Course(world)
    nothing = np.zeros_like(course.placement)
    course.step(Placement(holds=nothing))
    fetched = course.carried.fetched
    node, block = next(iter(np.argwhere(fetched)), (None, None))
    if node is None:
        return
    wanted = nothing.copy()
    wanted[node, block] = world.scenario.catalog.sizes_bytes[block] <= world.scenario.capacity_bytes[node]
    update = course.update(Placement(holds=wanted))

    assert (course.placement == wanted).all()
    assert (update.seconds, update.cut_bytes) == (0.0, 0)
    course.serve()
    assert course.placement[node, block] == wanted[node, block]


@pytest.mark.slow
@pytest.mark.parametrize("slot_s", [2.0, 30.0])
@given(seed=st.integers(0, 10**4))
@settings(max_examples=2, deadline=None)
def test_bounds_hold_for_every_row_of_placements(slot_s: float, seed: int) -> None:
    """All rows of placements of a small world: none costs less than the bounds, in any of its slots."""
    world = _world(seed, replace(SMALL, num_slots=2, slot_s=slot_s), models=2, blocks=1)
    lower, left = unlimited_costs(world), least_backlog_s(world)
    costs = []
    for row in itertools.product(_feasible(world), repeat=2):
        course = Course(world)
        slots = []
        for slot, holds in enumerate(row):
            assert course.carried.band_free_s >= left[slot] - 1e-9
            slots.append(slot_cost_s(course.step(Placement(holds=holds)), world.scenario.config))
        assert (np.array(slots) >= lower - 1e-9).all()
        costs.append(np.mean(slots))

    rng = np.random.default_rng(0)
    assert bound_cost_s(world, HINDSIGHT_LOWER, rng) <= min(costs) + 1e-9
    assert bound_cost_s(world, HINDSIGHT_UPPER, rng) >= min(costs) - 1e-9


@pytest.mark.parametrize(
    "name", ["lru", "rendezvous", "ewma-greedy+no-store-sharing", "whole-model", "learned"]
)
def test_links_are_never_given_more_updates_than_they_had_idle_time(name: str) -> None:
    requests = RequestConfig(keep_downloads=True, device_bytes=3e6)
    world = _world(3, replace(SMALL, num_slots=6, requests=requests))
    idle = np.full(2, SMALL.slot_s)
    for outcome in rollout(world, find_scheme(name), np.random.default_rng(0)).outcomes:
        spent = outcome.update.backhaul_s + outcome.update.cloud_s
        assert (spent <= idle + 1e-9).all()
        busy = outcome.load.backhaul_s + outcome.load.cloud_s - spent
        idle = np.maximum(SMALL.slot_s - busy, 0.0)
        assert (idle >= 0).all()
