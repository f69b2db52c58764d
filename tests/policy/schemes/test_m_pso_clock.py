"""Particle swarms on the clock of `learned`: they judge as it does, keep to the links, and find the best."""

from dataclasses import replace

import numpy as np
import pytest

from policy.config import PRESETS, LinkConfig
from policy.errors import SchemeError
from policy.interfaces import Float
from policy.learn.slot_clock import ImaginedSlots
from policy.play.rollout import Course, rollout
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.schemes.learned import learned_from
from policy.schemes.m_pso_clock import SwarmOnClock, mean_delays, within_reach
from policy.schemes.swarms import swarm_search
from policy.slot.updates import UpdateRoom, bring
from policy.world.synthetic import synthetic_catalog

CONFIG = replace(PRESETS["default"], num_nodes=2, num_users=4, num_slots=3, capacity_share=0.35)
CATALOG = synthetic_catalog(np.random.default_rng(3), models=2, blocks_per_model=3, families=1, shared=0.34)
SCENARIO = Scenario(CONFIG, CATALOG)
FAST = Scenario(replace(CONFIG, links=LinkConfig(backhaul_bit_s=1e12, cloud_bit_s=1e12)), CATALOG)


def swarm(scenario: Scenario, rounds: int, seed: int = 0) -> SwarmOnClock:
    effort = {"swarms": 2, "particles": 12, "rounds": rounds}
    return SwarmOnClock(scenario, np.random.default_rng(seed), learned_from(), **effort, inertia=0.5)


def test_many_placements_wait_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    slots = ImaginedSlots(
        cost_s=rng.random((5, 8, 6, 4), dtype=np.float32),
        sent=(rng.random((4, 3, 6)) < 0.5).astype(np.float32),
        weight=rng.random((4, 3), dtype=np.float32),
    )
    bits = rng.random((7, 8, 6))
    np.testing.assert_allclose(mean_delays(slots, bits), [slots.mean_delay_s(one) for one in bits], rtol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_particles_are_placements_that_fit_and_that_links_bring(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, CATALOG.num_blocks)
    scores = rng.random((20, *shape)) - 0.3
    room = UpdateRoom(
        at_hand=rng.random(shape) < 0.3,
        idle_s=rng.uniform(0.0, 2.0, 2) * 8 * CATALOG.sizes_bytes.sum() / CONFIG.links.cloud_bit_s,
        budget_bytes=rng.uniform(0.2, 1.0) * float(CATALOG.sizes_bytes.sum()),
    )
    for score, holds in zip(scores, within_reach(SCENARIO, scores, room), strict=True):
        assert (score[holds] > 0).all()
        assert (holds @ CATALOG.sizes_bytes <= SCENARIO.capacity_bytes).all()
        limits = (CATALOG.sizes_bytes, SCENARIO.capacity_bytes, CONFIG.links)
        brought, update = bring(room.at_hand, holds, score, room, *limits)
        assert update.cut_bytes == 0
        assert (brought >= holds).all()


def test_more_rounds_are_never_worse_and_find_a_minimum() -> None:
    target = np.random.default_rng(2).uniform(-0.8, 0.8, 5)

    def cost(at: Float) -> Float:
        return np.asarray(((at - target) ** 2).sum(axis=-1))

    start = np.random.default_rng(3).uniform(-1, 1, (3, 10, 5))
    costs = []
    for rounds in (0, 5, 20, 80):
        best = swarm_search(start, cost, np.random.default_rng(4), rounds, 0.5)
        costs.append(float(cost(best)))
    assert costs[0] == cost(start).min()
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_with_rounds_enough_no_placement_is_better(seed: int) -> None:
    course, scheme = Course(FAST.world(seed)), swarm(FAST, 60)
    observation = course.observation()
    outlook = scheme._outlook(observation)
    slots = scheme._imagine(observation, outlook, scheme._draws)
    decided = scheme.decide(observation).holds

    nodes, blocks = decided.shape
    every = (np.arange(2 ** (nodes * blocks))[:, None] >> np.arange(nodes * blocks)) & 1 == 1
    every = every.reshape(-1, nodes, blocks)
    every = every[(every @ CATALOG.sizes_bytes <= FAST.capacity_bytes).all(axis=1)]
    best = scheme.costs(every, observation.at_hand, outlook, slots).min()
    assert scheme.costs(decided[None], observation.at_hand, outlook, slots)[0] <= best * (1 + 1e-3)


def test_it_plays_alike_with_the_same_seed_and_refuses_many_nodes() -> None:
    entry = find_scheme("m-pso-clock:rounds=2;particles=3")
    first, second = (rollout(SCENARIO.world(2), entry, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.cost_s, second.cost_s)

    many = Scenario(replace(CONFIG, num_nodes=9), CATALOG)
    with pytest.raises(SchemeError, match="at most"):
        find_scheme("m-pso-clock").start(many, np.random.default_rng(0))
