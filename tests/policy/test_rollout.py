import numpy as np
import pytest

from policy.config import config_from_dict
from policy.errors import PlacementError, SchemeError
from policy.place.greedy import fill_by_score, greedy_placement
from policy.play.rollout import Course, Episode, empty_placement, play_slot, rollout
from policy.scenario import Scenario, load_scenario
from policy.schemes import History, Placement, find_scheme
from policy.slot.tables import ServiceRules
from tests.fakes import fixed_catalog


def _play(name: str, seed: int = 0) -> Episode:
    return rollout(load_scenario("findings").world(seed), find_scheme(name), np.random.default_rng(0))


FEW = ("whole-model", "popularity", "ewma-greedy")


@pytest.mark.parametrize("name", FEW)
def test_a_scheme_plays_the_same_world_the_same_way(name: str) -> None:
    first, second = _play(name), _play(name)

    assert (first.cost_s == second.cost_s).all()
    assert all((a == b).all() for a, b in zip(first.placements, second.placements, strict=True))


def test_the_first_schemes_rank_as_measured_before() -> None:
    cost = {
        name: np.mean([_play(name, seed).mean_cost_s for seed in range(2)])
        for name in ("whole-model", "popularity", "ewma-greedy", "ewma-greedy+no-migration")
    }

    assert cost["ewma-greedy"] < cost["popularity"] < cost["ewma-greedy+no-migration"] < cost["whole-model"]


def test_history_ends_before_the_present() -> None:
    history = History(load_scenario("findings").world(0), 3, ServiceRules())

    assert history.requests.shape[0] == history.user_xy.shape[0] == 3
    for slot in (3, -1):
        with pytest.raises(ValueError, match="only slots"):
            history.table(slot)


def test_capacity_and_budget_are_enforced() -> None:
    scenario = Scenario(config_from_dict({"capacity_bytes": 160, "update_budget_bytes": 60}), fixed_catalog())
    world = scenario.world(0)
    too_much = np.ones((4, 3), dtype=bool)
    with pytest.raises(PlacementError, match="would hold 175"):
        play_slot(world, 0, empty_placement(world), too_much)
    course, too_fast = Course(world), np.zeros((4, 3), dtype=bool)
    too_fast[0, [0, 1]] = True  # 100 and 50 bytes
    update = course.update(Placement(holds=too_fast))
    assert course.placement[0].tolist() == [False, True, False]
    assert update.cut_bytes == 100
    for name in FEW[1:]:
        rollout(world, find_scheme(name), np.random.default_rng(0))


def test_fill_takes_the_best_that_fits_and_keeps_to_the_budget() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [-2.0, -1.0, 0.0]])
    sizes, room = np.array([100, 50, 25]), np.array([130.0, 80.0])

    assert fill_by_score(scores, sizes, room).tolist() == [[True, False, True], [False, True, True]]
    assert fill_by_score(scores, sizes, room, floor=0.0).tolist() == [[True, False, True], [False] * 3]
    kept = np.array([[True, False, False], [False] * 3])
    assert fill_by_score(scores, sizes, room, kept, 20.0).tolist() == [[True, False, False], [False] * 3]


def test_greedy_takes_what_saves_most_a_byte() -> None:
    table = np.array([[9.0, 5.0, 6.0, 5.0], [8.0, 1.0, 1.0, 0.0]])
    made = greedy_placement(table, np.array([10, 5]), np.array([10.0, 5.0]))

    assert made.tolist() == [[False, True], [False, True]] or made.tolist() == [[False, True], [False, False]]


def test_unknown_schemes_are_named() -> None:
    with pytest.raises(SchemeError, match="there are"):
        find_scheme("nothing")
    with pytest.raises(SchemeError, match="no ablation"):
        find_scheme("popularity+no-luck")
