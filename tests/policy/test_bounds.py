"""On small random cases the bounds stand in the order that theory demands."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.batched import WorldBatch, batch_worlds, drop_to_fit
from policy.bounds import (
    clairvoyant_costs,
    hindsight_bracket,
    lp_bound,
    milp_optimum,
    planner_costs,
    unforeseen_bound,
    unlimited_costs,
)
from policy.config import PRESETS
from policy.errors import PolicyError
from policy.place.greedy import greedy_placement
from policy.play.rollout import empty_placement, play_slot, rollout, slot_cost_s
from policy.scenario import Scenario, World, load_scenario
from policy.schemes import find_scheme
from policy.slot.tables import from_masks, to_masks
from policy.world.synthetic import findings_catalog, synthetic_catalog


def _small(seed: int, update_weight: float = 0.1, slots: int = 3) -> World:
    """Two nodes, three models of three blocks: small enough to try every placement."""
    rng = np.random.default_rng(seed)
    catalog = synthetic_catalog(rng, models=3, blocks_per_model=2, families=2, shared=0.5)
    config = replace(
        PRESETS["findings"],
        num_nodes=2,
        num_users=3,
        num_slots=slots,
        capacity_bytes=(float(catalog.sizes_bytes.max() * 1.5),),
        update_weight=update_weight,
    )
    return Scenario(config, catalog).world(seed)


def _feasible(world: World) -> list[np.ndarray]:
    """Every placement that fits, as holders of each block."""
    sizes, room = world.scenario.catalog.sizes_bytes, world.scenario.capacity_bytes
    return [
        masks
        for masks in map(np.array, itertools.product(range(4), repeat=sizes.size))
        if (from_masks(masks, 2) @ sizes <= room).all()
    ]


def _true_optimum(world: World, batch: WorldBatch) -> float:
    """Dynamic programme over all placements that fit, mean cost of a slot."""
    all_masks = torch.tensor(np.stack(_feasible(world)))
    count = all_masks.shape[0]
    spread = replace(
        batch,
        tables_s=batch.tables_s.expand(count, *batch.tables_s.shape[1:]),
    )
    value = torch.zeros(count)
    for slot in range(batch.num_slots - 1, -1, -1):
        before = all_masks if slot else torch.zeros_like(all_masks[:1])
        made = []
        for held in before:
            cost = spread.costs(slot, held.expand(count, -1), all_masks)
            made.append((cost + value).min())
        value = torch.stack(made)
    return float(value[0]) / batch.num_slots


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_one_slot_lp_below_milp_below_greedy(seed: int) -> None:
    world = _small(seed)
    sizes, room = world.scenario.catalog.sizes_bytes, world.scenario.capacity_bytes
    table = world.table(0).cost_s
    lp, milp = lp_bound(table, sizes, room), milp_optimum(table, sizes, room, rel_gap=1e-9)
    greedy = to_masks(greedy_placement(table, sizes, room))
    blocks = np.arange(sizes.size)
    every = min(float(table[blocks, masks].sum()) for masks in _feasible(world))

    assert milp.masks is not None
    assert lp.lower_s <= milp.lower_s + 1e-6
    assert milp.cost_s == pytest.approx(every)
    assert (from_masks(milp.masks, 2) @ sizes <= room).all()
    assert milp.cost_s <= float(table[blocks, greedy].sum()) + 1e-9


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), update_weight=st.sampled_from([0.0, 0.1, 2.0]))
def test_the_bracket_holds_the_true_optimum(seed: int, update_weight: float) -> None:
    world = _small(seed, update_weight)
    batch = batch_worlds([world])
    bracket = hindsight_bracket(batch)
    optimum = _true_optimum(world, batch)

    assert bracket.lower_s[0] <= optimum * (1 + 1e-5) + 1e-9
    assert bracket.upper_s[0] >= optimum * (1 - 1e-5) - 1e-9
    assert optimum <= clairvoyant_costs(batch).mean() * (1 + 1e-5)
    for masks in bracket.masks[0]:
        holds = from_masks(masks.numpy(), 2)
        assert (holds @ world.scenario.catalog.sizes_bytes <= world.scenario.capacity_bytes + 1e-3).all()


@pytest.mark.slow
def test_at_full_size_nobody_beats_the_lower_bound_and_knowing_more_helps() -> None:
    scenario = load_scenario("findings")
    worlds = [scenario.world(seed) for seed in range(3)]
    batch = batch_worlds(worlds)
    bracket = hindsight_bracket(batch, steps=60)
    clairvoyant = clairvoyant_costs(batch).mean()
    planner = planner_costs(worlds, batch, np.random.default_rng(0), futures=8).mean()
    ewma = np.mean(
        [rollout(w, find_scheme("ewma-greedy"), np.random.default_rng(0)).mean_cost_s for w in worlds]
    )

    unforeseen = unforeseen_bound(worlds, batch, np.random.default_rng(1), futures=16, steps=60)

    assert (bracket.lower_s <= bracket.upper_s).all()
    assert bracket.lower_s.mean() < unforeseen.mean() < planner
    assert bracket.upper_s.mean() / bracket.lower_s.mean() < 1.06
    assert bracket.upper_s.mean() <= clairvoyant <= planner <= ewma


@given(seed=st.integers(0, 999))
def test_dropping_ends_within_capacity_and_adds_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, room = rng.integers(1, 30, size=6), rng.integers(0, 60, size=3).astype(float)
    masks = torch.tensor(rng.integers(0, 8, size=(2, 6)))
    tables = torch.tensor(rng.exponential(size=(2, 6, 8)))
    made = drop_to_fit(tables, masks, torch.tensor(sizes), torch.tensor(room))

    assert (made & ~masks == 0).all()
    for row in range(2):
        assert (from_masks(made[row].numpy(), 3) @ sizes <= room).all()


def test_a_planner_needs_what_only_drawn_worlds_have() -> None:
    scenario = load_scenario("findings")
    replayed = scenario.world_of(scenario.world(0).trace)
    with pytest.raises(PolicyError, match="drawn worlds"):
        planner_costs([replayed], batch_worlds([replayed]), np.random.default_rng(0))


def test_bounds_of_additive_cost_count_transfers_in_full_in_any_timing() -> None:
    base = load_scenario("default", findings_catalog())
    costs = []
    for timing in ("additive", "pipelined"):
        scenario = Scenario(replace(base.config, timing=timing, num_slots=3), base.catalog)  # type: ignore[arg-type]
        world = scenario.world(5)
        batch = batch_worlds([world])
        planner = planner_costs([world], batch, np.random.default_rng(0), futures=4).mean()
        bound = unforeseen_bound([world], batch, np.random.default_rng(0), futures=4, steps=10)[0]
        costs.append((planner, bound))

    assert costs[0] == pytest.approx(costs[1])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("timing", ["additive", "sequential", "pipelined"])
@pytest.mark.parametrize("objective", ["total", "mean-user"])
def test_no_scheme_beats_unlimited_caches(timing: str, objective: str) -> None:
    base = load_scenario("findings")
    config = replace(base.config, timing=timing, objective=objective, num_slots=6)  # type: ignore[arg-type]
    world = Scenario(config, base.catalog).world(11)
    lower = unlimited_costs(world)
    episode = rollout(world, find_scheme("popularity"), np.random.default_rng(0))

    assert (lower <= episode.cost_s + 1e-9).all()
    everything = replace(config, capacity_bytes=(float(base.catalog.dedup_bytes),), update_weight=0.0)
    rich = Scenario(everything, base.catalog).world(11)
    all_over = np.ones_like(empty_placement(rich))
    played = [play_slot(rich, slot, all_over, all_over) for slot in range(6)]
    alone = np.array([slot_cost_s(outcome, everything) for outcome in played])
    least = unlimited_costs(rich, backlog=False)
    assert (least <= alone * (1 + 1e-9)).all()
    if objective == "total":
        assert alone == pytest.approx(least, rel=1e-9)
    else:  # what is lost to users of one block at different distances
        assert alone.mean() <= 1.2 * least.mean()
