"""Planners that are told: true chances are the frequencies of what is drawn; who knows more waits less."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from policy.bounds.told_distribution import AHEAD, Told, ToldPooled, TrueChances, TrueFuture, told_entry
from policy.config import PRESETS, LinkConfig, RequestConfig
from policy.errors import PolicyError
from policy.learn.motion import place_draws
from policy.learn.sampling import first_need
from policy.play.rollout import rollout
from policy.play.scheme import History
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.slot.tables import ServiceRules
from policy.world.processes import request_chances, start_requests, step_requests
from policy.world.synthetic import synthetic_catalog

FAMILIES = np.array([0, 0, 1, 1, 1, 2])
CELLS = np.array([0, 1, 1])
PROCESSES = {
    "plain": RequestConfig(request_prob=0.6),
    "loyal": RequestConfig(request_prob=0.6, stickiness=0.8, no_repeat=2, cell_taste=0.0, reshuffle_prob=0.2),
    "crowds": RequestConfig(
        request_prob=0.5, flash_prob=0.5, no_repeat=1, stickiness=0.5, diurnal_amplitude=0.5
    ),
    "bursts": RequestConfig(request_prob=0.4, process="bursts"),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", PROCESSES)
def test_chances_are_the_frequencies_of_what_is_drawn(name: str) -> None:
    config, rng = PROCESSES[name], np.random.default_rng(3)
    state = start_requests(rng, CELLS.size, 2, FAMILIES.size, config)
    for _ in range(5):
        state, _ = step_requests(rng, state, CELLS, FAMILIES, config)
    chance, seen, draws = np.zeros((3, 6)), np.zeros((3, 6)), 4000
    for _ in range(draws):
        chance += request_chances(rng, state, CELLS, FAMILIES, config) / draws
        _, asked = step_requests(rng, state, CELLS, FAMILIES, config)
        seen += (asked[:, None] == np.arange(6)) / draws

    assert np.abs(seen - chance).max() < 5 * np.sqrt(0.25 / draws)
    assert (chance[seen > 0] > 0).all()


def test_chances_of_other_processes_are_refused() -> None:
    config = RequestConfig(process="moods")
    state = start_requests(np.random.default_rng(0), 3, 2, 6, config)

    with pytest.raises(PolicyError, match="moods"):
        request_chances(np.random.default_rng(0), state, CELLS, FAMILIES, config)


SMALL = Scenario(
    replace(
        PRESETS["default"],
        num_nodes=2,
        num_users=5,
        num_slots=8,
        capacity_share=0.3,
        links=LinkConfig(backhaul_bit_s=1e9, cloud_bit_s=100e6),
    ),
    synthetic_catalog(
        np.random.default_rng(0), models=6, blocks_per_model=4, families=2, shared=0.5, mean_block_bytes=20e6
    ),
)


def test_forecasts_of_later_slots_are_averages() -> None:
    world = SMALL.world(0)
    assert AHEAD.sum() == pytest.approx(1.0)
    for kind in (TrueChances, TrueFuture):
        forecaster = kind(SMALL, world)
        for slot in (0, 5, 7):
            chance = forecaster.chance(History(world, slot, ServiceRules()), slot)

            assert chance.shape == (2, 5, 6)
            assert (chance >= 0).all()
            assert (chance.sum(axis=2) <= 1 + 1e-9).all()


def test_the_future_is_told_as_it_comes() -> None:
    world = SMALL.world(1)
    forecaster = TrueFuture(SMALL, world)
    chance = forecaster.chance(History(world, 3, ServiceRules()), 3)[0]
    asked = world.trace.requests[3]

    assert (chance.sum(axis=1) == (asked >= 0)).all()
    assert (chance.argmax(axis=1)[asked >= 0] == asked[asked >= 0]).all()
    places = forecaster.places(place_draws(np.random.default_rng(0), 4, 5))
    assert (places == world.trace.user_xy[3]).all()


def test_true_places_surround_where_users_will_be() -> None:
    world = SMALL.world(2)
    forecaster = TrueChances(SMALL, world)
    forecaster.chance(History(world, 2, ServiceRules()), 2)
    places = forecaster.places(place_draws(np.random.default_rng(0), 20, 5))

    assert np.linalg.norm(places - world.trace.user_xy[2], axis=2).min(axis=0).max() < 25


def test_foresight_is_worth_more_than_the_distribution() -> None:
    worlds, costs = [SMALL.world(seed) for seed in range(3)], {}
    for told in get_args(Told):
        played = [rollout(each, told_entry(each, told), np.random.default_rng(0)) for each in worlds]
        costs[told] = np.mean([episode.mean_cost_s for episode in played])

    assert costs["future"] < costs["distribution"]


def test_same_seed_same_episode() -> None:
    world = SMALL.world(3)
    one, two = (rollout(world, told_entry(world, "distribution"), np.random.default_rng(4)) for _ in range(2))

    assert (one.cost_s == two.cost_s).all()


def test_what_cannot_be_told_is_refused() -> None:
    world = SMALL.world(0)
    replayed = SMALL.world_of(world.trace)

    assert told_entry(replayed, "future").random
    with pytest.raises(PolicyError, match="distribution"):
        told_entry(replayed, "distribution")
    with pytest.raises(ValueError, match="told"):
        told_entry(world, "everything")  # type: ignore[arg-type]


def test_first_need_is_the_discounted_chance_of_the_first_slot_with_a_miss() -> None:
    coming, later = np.array([0.0, 0.1, 0.5, 1.0]), np.array([0.2, 0.1, 0.0, 0.3])
    patience = 0.8
    told = coming.copy()
    for ahead in range(1, 200):
        told += (1 - coming) * (1 - later) ** (ahead - 1) * later * patience**ahead

    assert first_need(coming, later, patience) == pytest.approx(told)
    assert first_need(coming, later, 0.0) == pytest.approx(coming)
    assert (first_need(coming, later, patience) <= 1).all()


def test_with_too_many_nodes_for_tables_the_told_one_covers_the_pool() -> None:
    many = Scenario(replace(SMALL.config, num_nodes=9, capacity_share=0.06), SMALL.catalog)
    world = many.world(3)
    scheme = told_entry(world, "future").start(many, np.random.default_rng(0))

    assert isinstance(scheme, ToldPooled)
    told = rollout(world, told_entry(world, "future"), np.random.default_rng(0))
    assert told.mean_cost_s <= rollout(world, find_scheme("pooled"), np.random.default_rng(0)).mean_cost_s
