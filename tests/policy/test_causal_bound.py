"""Bounds for policies that do not see the future, against the best of them, computed over all histories."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.bounds.causal import causal_bound, room_dual, sampled_futures
from policy.config import PRESETS, LinkConfig, ScenarioConfig, Timing
from policy.errors import PolicyError
from policy.interfaces import Float, Int
from policy.play.migration import serve_best
from policy.play.rollout import rollout
from policy.scenario import Scenario, World
from policy.schemes import find_scheme
from policy.slot.lower_bounds import band_bound, slot_lower_bound
from policy.slot.tables import ServiceRules, from_masks
from policy.slot.updates import update_seconds
from policy.world.synthetic import synthetic_catalog
from policy.world.trace import Trace

TIMINGS: tuple[Timing, ...] = ("additive", "pipelined")


@dataclass(frozen=True)
class Small:
    """A world small enough to try every policy: a Markov chain over a few scenes of requests, users still."""

    scenario: Scenario
    places: Float
    scenes: Int
    chain: Float

    def world(self, path: tuple[int, ...]) -> World:
        """The world in which the scenes of a path come."""
        places = np.tile(self.places, (len(path), 1, 1))
        node_xy = self.scenario.world(0).trace.node_xy
        trace = Trace(node_xy=node_xy, user_xy=places, requests=self.scenes[list(path)])
        return self.scenario.world_of(trace)

    def futures(self, path: tuple[int, ...]) -> Callable[[int], tuple[Int, Float]]:
        """All scenes that may follow, with their exact chances; the first slot's are even."""
        even = np.full(len(self.scenes), 1 / len(self.scenes))
        return lambda slot: (self.scenes, self.chain[path[slot - 1]] if slot else even)

    def chance(self, path: tuple[int, ...]) -> float:
        """Chance of a path."""
        steps = [self.chain[a, b] for a, b in itertools.pairwise(path)]
        return float(np.prod(steps)) / len(self.scenes)


def _small(seed: int, timing: Timing, slots: int = 2) -> Small:
    rng = np.random.default_rng(seed)
    catalog = synthetic_catalog(rng, models=2, blocks_per_model=2, families=1, shared=0.5)
    config: ScenarioConfig = replace(
        PRESETS["findings"],
        num_nodes=2,
        num_users=3,
        num_slots=slots,
        capacity_bytes=(float(catalog.sizes_bytes.max() * 1.3),),
        timing=timing,
        objective="mean-user" if timing == "pipelined" else "total",
        links=LinkConfig(backhaul_bit_s=float(rng.choice([3e8, 3e9])), cloud_bit_s=1e8),
        update_weight=0.3,
    )
    return Small(
        scenario=Scenario(config, catalog),
        places=rng.uniform(0, config.area_m, (3, 2)),
        scenes=rng.integers(-1, 2, size=(3, 3)),
        chain=rng.dirichlet(np.full(3, 0.5), 3),
    )


def _placements(scenario: Scenario) -> Int:
    """Every placement that fits, as holders of each block, (placements, blocks)."""
    sizes, room = scenario.catalog.sizes_bytes, scenario.capacity_bytes
    every = itertools.product(range(4), repeat=sizes.size)
    return np.array([masks for masks in every if (from_masks(np.array(masks), 2) @ sizes <= room).all()])


def _serving(small: Small, placements: Int) -> Float:
    """What each placement pays in each scene, (scenes, placements), s."""
    costs = np.zeros((len(small.scenes), len(placements)))
    for scene in range(len(small.scenes)):
        world = small.world((scene,))
        for place, masks in enumerate(placements):
            outcome = serve_best(world, 0, from_masks(masks, 2), ServiceRules())
            total = small.scenario.config.objective == "total"
            costs[scene, place] = outcome.total_delay_s if total else outcome.mean_delay_s
    return costs


def _best_policy(small: Small, slots: int) -> float:
    """Mean cost of a slot of the best policy that sees only the past, over all histories, s."""
    scenario = small.scenario
    placements = _placements(scenario)
    serving = _serving(small, placements)
    sizes, links = scenario.catalog.sizes_bytes, scenario.config.links
    weight = scenario.config.update_weight if scenario.config.timing == "additive" else 0.0
    moves = np.array([update_seconds(before, placements, sizes, links).sum(axis=1) for before in placements])
    first = update_seconds(np.zeros(sizes.size, dtype=int), placements, sizes, links).sum(axis=1)

    def value(history: tuple[int, ...]) -> Float:
        """Least cost to go by the placement at hand, (placements,); at first caches are empty."""
        chances = small.chain[history[-1]] if history else np.full(len(small.scenes), 1 / len(small.scenes))
        cost = chances @ serving
        if len(history) < slots - 1:
            cost = cost + sum(chances[scene] * value((*history, scene)) for scene in range(len(chances)))
        charges = weight * (moves if history else first[None])
        return np.asarray((charges + cost).min(axis=1))

    return float(value(())[0]) / slots


def _bound(small: Small, slots: int) -> float:
    """The bound in the mean over all paths, exactly."""
    paths = itertools.product(range(len(small.scenes)), repeat=slots)
    return sum(
        small.chance(path) * causal_bound(small.world(path), small.futures(path)).lower_s for path in paths
    )


@pytest.mark.sampled(8)
@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("seed", range(3))
def test_no_policy_that_sees_only_the_past_beats_the_bound(timing: Timing, seed: int) -> None:
    small = _small(seed, timing)
    best, bound = _best_policy(small, 2), _bound(small, 2)

    assert 0 < bound <= best * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("timing", TIMINGS)
def test_the_gap_of_the_bound_is_as_stated(timing: Timing) -> None:
    """In the mean over small cases: under 8 % where costs add up, under 30 % where transfers overlap."""
    smalls = [_small(seed, timing) for seed in range(10, 16)]
    best = np.array([_best_policy(small, 2) for small in smalls])
    bound = np.array([_bound(small, 2) for small in smalls])

    assert (bound <= best * (1 + 1e-6)).all()
    assert (1 - bound / best).mean() < {"additive": 0.08, "pipelined": 0.3}[timing]


@pytest.mark.slow
def test_who_sees_the_future_can_beat_it() -> None:
    """It bounds those who do not see the future: where scenes are a surprise, knowing them pays."""
    below = 0
    for seed in range(6):
        small = _small(seed, "additive")
        even = replace(small, chain=np.full((3, 3), 1 / 3))
        serving = _serving(even, _placements(even.scenario))
        below += float(serving.min(axis=1).mean()) < _bound(even, 1)

    assert below >= 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), timing=st.sampled_from(["additive", "sequential", "pipelined"]))
def test_no_served_slot_beats_its_bound(seed: int, timing: Timing) -> None:
    rng = np.random.default_rng(seed)
    small = _small(seed, "pipelined")
    config = replace(
        small.scenario.config, timing=timing, objective="mean-user", num_nodes=int(rng.integers(1, 4))
    )
    world = Scenario(config, small.scenario.catalog).world(seed)
    holds = rng.random((config.num_nodes, small.scenario.catalog.num_blocks)) < rng.random()
    served = serve_best(world, 0, holds, ServiceRules()).mean_delay_s

    assert slot_lower_bound(world.problem(0, holds)) <= served * (1 + 1e-9)


def test_one_user_with_everything_cached_meets_its_bound() -> None:
    small = _small(1, "pipelined")
    world = small.world((0,))
    requests = np.array([[1, -1, -1]])
    alone = small.scenario.world_of(replace(world.trace, requests=requests))
    holds = np.ones((2, small.scenario.catalog.num_blocks), dtype=bool)
    served = serve_best(alone, 0, holds, ServiceRules()).mean_delay_s

    assert slot_lower_bound(alone.problem(0, holds)) == pytest.approx(served)


@given(seed=st.integers(0, 10_000), users=st.integers(1, 6), blocks=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_band_bound_is_the_least_over_all_orders(seed: int, users: int, blocks: int) -> None:
    from policy.slot.lower_bounds import SlotNeeds

    rng = np.random.default_rng(seed)
    needs, fastest = rng.random((users, blocks)) < 0.5, rng.random(users)
    bits = rng.random(blocks)
    demand = SlotNeeds(
        needs=needs,
        asked=users,
        per_bit=np.stack([np.full(users, np.inf), fastest], axis=1),
        air_bits=bits,
        wire_bits=bits,
    )
    least = np.inf
    for order in itertools.permutations(range(users)):
        slowest, total = np.zeros(blocks), 0.0
        for user in order:
            slowest = np.maximum(slowest, np.where(needs[user], fastest[user], 0.0))
            total += float(slowest @ bits) if needs[user].any() else 0.0
        least = min(least, total)

    assert band_bound(demand) == pytest.approx(least / users)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_priced_room_is_below_every_placement_that_fits(seed: int) -> None:
    small, rng = _small(seed % 5, "pipelined"), np.random.default_rng(seed)
    placements = _placements(small.scenario)
    table = rng.random((small.scenario.catalog.num_blocks, 4))
    best = table[np.arange(len(table)), placements].sum(axis=1).min()

    assert room_dual(table, small.scenario) <= best + 1e-9
    assert room_dual(table, small.scenario) >= table.min(axis=1).sum() - 1e-9


@pytest.mark.sampled(2)
@pytest.mark.parametrize("timing", TIMINGS)
def test_drawn_worlds_have_a_bound_below_what_schemes_reach(timing: Timing) -> None:
    small = _small(4, timing, slots=4)
    worlds = [small.scenario.world(seed) for seed in range(4)]
    bounds = [causal_bound(w, sampled_futures(w, np.random.default_rng(0), 16)) for w in worlds]
    for name in ("ewma-greedy", "static-distinct"):
        costs = [rollout(w, find_scheme(name), np.random.default_rng(0)).mean_cost_s for w in worlds]
        gap = 1 - np.mean([bound.lower_s for bound in bounds]) / np.mean(costs)
        assert 0 < gap < 0.9
    assert bounds[0].gap(2 * bounds[0].lower_s) == pytest.approx(0.5)
    assert all(bound.of_band_s <= bound.lower_s for bound in bounds)


@pytest.mark.slow
def test_work_that_is_carried_over_is_waited_for_and_no_scheme_is_below() -> None:
    """With slots far shorter than serving takes, the band falls behind whatever the policy does."""
    small = _small(4, "pipelined", slots=5)
    config = replace(small.scenario.config, slot_s=0.2, backlog=True)
    busy, alone = (
        Scenario(replace(config, backlog=carried), small.scenario.catalog) for carried in (True, False)
    )
    bounds = {
        name: [
            causal_bound(world, sampled_futures(world, np.random.default_rng(0), 16)).lower_s
            for world in map(scenario.world, range(6))
        ]
        for name, scenario in {"busy": busy, "alone": alone}.items()
    }
    worlds = [busy.world(seed) for seed in range(6)]

    assert np.mean(bounds["busy"]) > 1.2 * np.mean(bounds["alone"])
    for name in ("ewma-greedy", "static-distinct", "no-cache"):
        costs = [rollout(w, find_scheme(name), np.random.default_rng(0)).mean_cost_s for w in worlds]
        assert np.mean(bounds["busy"]) < np.mean(costs)


def test_what_the_bound_cannot_tell_is_refused() -> None:
    small = _small(0, "pipelined")
    with pytest.raises(PolicyError, match="needs drawn worlds"):
        sampled_futures(small.world((0, 1)), np.random.default_rng(0), 4)
    many = Scenario(replace(small.scenario.config, num_nodes=7), small.scenario.catalog).world(0)
    with pytest.raises(PolicyError, match="at most 6 nodes"):
        causal_bound(many, sampled_futures(many, np.random.default_rng(0), 2))
