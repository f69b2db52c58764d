"""Orders and migrations when copies overlap with broadcasts, against all choices on small cases."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.config import PRESETS, LinkConfig, Timing
from policy.errors import PlacementError
from policy.play.migration import separable_holders, serve_best, serve_with
from policy.scenario import Scenario, World, load_scenario
from policy.slot.overlap import Lines, dispatch, end_times, mean_delay_s, parcels, ready_times
from policy.slot.tables import ServiceRules, from_masks, to_masks
from policy.world.synthetic import synthetic_catalog

IDLE = Lines(links_free=(0.0, 0.0))
OVERLAPS = st.sampled_from(["sequential", "pipelined"])


def _world(seed: int, timing: Timing) -> World:
    """Two nodes, three models, few blocks, a slow backhaul."""
    rng = np.random.default_rng(seed)
    catalog = synthetic_catalog(rng, models=3, blocks_per_model=2, families=2, shared=0.5)
    config = replace(
        PRESETS["findings"],
        num_nodes=2,
        num_users=4,
        num_slots=1,
        timing=timing,
        objective="mean-user",
        links=LinkConfig(backhaul_bit_s=5e8, cloud_bit_s=25e7),
        capacity_bytes=(1e12,),
    )
    return Scenario(config, catalog).world(seed)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), timing=OVERLAPS)
def test_the_clock_agrees_with_the_timeline(seed: int, timing: Timing) -> None:
    world, rng = _world(seed, timing), np.random.default_rng(seed)
    sizes, needs = world.scenario.catalog.sizes_bytes, world.needs(0)
    placement = rng.random((2, sizes.size)) < 0.4
    holders = separable_holders(world, world.problem(0, placement, ServiceRules()))
    order = rng.permutation(np.flatnonzero(needs.any(axis=0)))
    out = serve_with(world, 0, placement, holders, ServiceRules(), order)
    air = world.table(0).air_s[np.arange(sizes.size), to_masks(holders)]
    work = parcels(world.problem(0, placement), holders, air)
    ends = end_times(order.tolist(), work, IDLE, timing)

    assert [cast.end_s for cast in out.broadcasts] == pytest.approx(ends)
    asking = int(needs.any(axis=1).sum())
    total = mean_delay_s(order.tolist(), ends, needs) * asking
    assert total == pytest.approx(out.user_delay_s.sum())


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), timing=OVERLAPS)
@example(seed=114, timing="sequential")  # only the plain order is best
def test_searching_never_loses_to_the_separable_optimum(seed: int, timing: Timing) -> None:
    world = _world(seed, timing)
    placement = np.random.default_rng(seed).random((2, world.scenario.catalog.num_blocks)) < 0.4
    for rules in (ServiceRules(), ServiceRules(migration=False)):
        holders = separable_holders(world, world.problem(0, placement, rules))
        plain = serve_with(world, 0, placement, holders, rules).mean_delay_s
        assert serve_best(world, 0, placement, rules).mean_delay_s <= plain + 1e-9


def _optimum(world: World, placement: np.ndarray) -> float:
    """Least mean delay over all holders and all orders."""
    sizes, config, needs = world.scenario.catalog.sizes_bytes, world.scenario.config, world.needs(0)
    wanted, masks, air = np.flatnonzero(needs.any(axis=0)), to_masks(placement), world.table(0).air_s
    choices = [[m for m in (1, 2, 3) if m & masks[block] == masks[block]] for block in wanted]
    best = np.inf
    for chosen in itertools.product(*choices):
        held = masks.copy()
        held[wanted] = chosen
        known = air[np.arange(sizes.size), held]
        work = parcels(world.problem(0, placement), from_masks(held, 2), known)
        for order in itertools.permutations(wanted.tolist()):
            ends = end_times(order, work, IDLE, config.timing)
            best = min(best, mean_delay_s(order, ends, needs))
    return best


@pytest.mark.parametrize("timing", ["sequential", "pipelined"])
def test_on_small_cases_the_search_is_near_the_optimum(timing: Timing) -> None:
    gaps = []
    for seed in range(12):
        world = _world(seed, timing)
        needs = world.needs(0)
        if not 0 < needs.any(axis=0).sum() <= 4:
            continue
        placement = np.random.default_rng(seed).random((2, world.scenario.catalog.num_blocks)) < 0.35
        asking = needs.any(axis=1).sum() / world.asked(0).sum()
        found = serve_best(world, 0, placement, ServiceRules()).mean_delay_s / asking
        gaps.append(found / _optimum(world, placement) - 1)

    assert min(gaps) >= -1e-9
    assert np.mean(gaps) <= 0.08


@given(seed=st.integers(0, 10_000))
def test_dispatch_only_waits_when_nothing_is_ready(seed: int) -> None:
    world = _world(seed, "pipelined")
    placement = np.random.default_rng(seed).random((2, world.scenario.catalog.num_blocks)) < 0.4
    sizes = world.scenario.catalog.sizes_bytes
    order = np.flatnonzero(world.needs(0).any(axis=0))
    holders = separable_holders(world, world.problem(0, placement, ServiceRules()))
    work = parcels(world.problem(0, placement), holders, np.ones(sizes.size))
    made = dispatch(order.tolist(), work, IDLE)
    ready = dict(zip(order.tolist(), ready_times(order.tolist(), work, IDLE), strict=True))

    assert sorted(made) == order.tolist()
    now = 0.0
    for place, block in enumerate(made):
        assert ready[block] <= now or all(ready[later] >= ready[block] for later in made[place:])
        now = max(now, ready[block]) + 1.0


def test_seeing_the_queues_pays_where_the_backhaul_is_slow() -> None:
    base = load_scenario("findings")
    config = replace(base.config, timing="pipelined", objective="mean-user")
    ratio = []
    for seed in range(4):
        world = Scenario(config, base.catalog).world(seed)
        placement = np.random.default_rng(seed).random((4, 60)) < 0.2
        holders = separable_holders(world, world.problem(0, placement, ServiceRules()))
        plain = serve_with(world, 0, placement, holders, ServiceRules()).mean_delay_s
        ratio.append(serve_best(world, 0, placement, ServiceRules()).mean_delay_s / plain)

    assert np.mean(ratio) < 0.95


@pytest.mark.parametrize("name", ["findings", "default"])
def test_holders_that_some_user_cannot_hear_are_refused(name: str) -> None:
    base = load_scenario(name)
    config = replace(base.config, radio=replace(base.config.radio, range_m=260.0))
    world = Scenario(config, base.catalog).world(1)
    deaf = np.zeros((4, base.catalog.num_blocks), dtype=bool)
    deaf[0] = True

    assert np.isfinite(serve_best(world, 0, deaf, ServiceRules()).user_delay_s).all()
    with pytest.raises(PlacementError, match="nobody can send block"):
        serve_best(world, 0, deaf, ServiceRules(migration=False))
