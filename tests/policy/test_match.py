"""Matches: several played in one pool are what each is alone, and what is done is not played again."""

from dataclasses import replace
from pathlib import Path

import pytest

from policy.evaluation import Match, draw_world, play
from policy.scenario import Scenario, load_scenario

WANTED = dict.fromkeys((5, 6, 7), (("lru", 0), ("random", 0), ("random", 1)))


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    named = load_scenario("findings")
    small = replace(named.config, num_slots=2)
    return [Scenario(replace(small, num_users=users), named.catalog) for users in (3, 4)]


def costs(match: Match) -> dict[tuple[str, int, int], float]:
    return {key: result.cost_s for key, result in match.done.items()}


def test_matches_in_one_pool_are_what_each_is_alone(scenarios: list[Scenario]) -> None:
    alone = [Match(scenario, WANTED, draw_world) for scenario in scenarios]
    together = [Match(scenario, WANTED, draw_world) for scenario in scenarios]
    told: list[tuple[int, int]] = []
    for match in alone:
        play([match])
    play(together, progress=lambda done, total: told.append((done, total)))

    assert [costs(match) for match in together] == [costs(match) for match in alone]
    assert len(costs(together[0])) == 9
    assert told == [(done, 6) for done in range(1, 7)]


def test_what_is_kept_is_not_played_again(scenarios: list[Scenario], tmp_path: Path) -> None:
    first = Match(scenarios[0], {5: WANTED[5]}, draw_world, tmp_path)
    play([first])
    second = Match(scenarios[0], WANTED, draw_world, tmp_path)

    assert [job.world for job in second.missing()] == [6, 7]
    assert costs(second) == costs(first)


def test_one_scheme_more_is_all_that_is_played(scenarios: list[Scenario], tmp_path: Path) -> None:
    play([Match(scenarios[0], {5: WANTED[5]}, draw_world, tmp_path)])
    more = Match(scenarios[0], {5: (*WANTED[5], ("no-cache", 0))}, draw_world, tmp_path)

    assert [job.wanted for job in more.missing()] == [(("no-cache", 0),)]
