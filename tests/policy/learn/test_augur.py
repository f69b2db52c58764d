import itertools
from dataclasses import replace

import numpy as np
import pytest

from demo.experiments.shifted import shifted_scenarios
from policy.config import FINDINGS, RequestConfig
from policy.learn.augur import Augur, AugurConfig, message_bytes
from policy.play.rollout import rollout
from policy.scenario import Scenario
from policy.schemes.ewma_greedy import ENTRY as EWMA
from policy.schemes.learned import ENTRY, model_from
from policy.world.synthetic import findings_catalog, synthetic_catalog

SHORT = replace(FINDINGS, num_slots=6)


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_it_plays_any_catalog_capacity_and_number_of_users() -> None:
    catalog = synthetic_catalog(_rng(), models=7, blocks_per_model=4, families=3, shared=0.5)
    keeps = RequestConfig(keep_downloads=True)
    for changes in ({"num_users": 3, "num_nodes": 2}, {"num_users": 20, "requests": keeps}, {"num_nodes": 5}):
        scenario = Scenario(replace(SHORT, capacity_bytes=(), **changes), catalog)
        episode = rollout(scenario.world(1), ENTRY, _rng())
        assert np.isfinite(episode.cost_s).all()
        assert episode.message_bytes == 6 * message_bytes(scenario)


def test_the_same_seed_gives_the_same_episode() -> None:
    world = Scenario(SHORT, findings_catalog()).world(3)
    first, second = (rollout(world, ENTRY, _rng()) for _ in range(2))

    np.testing.assert_array_equal(first.cost_s, second.cost_s)
    assert all((a == b).all() for a, b in zip(first.placements, second.placements, strict=True))


def test_the_update_budget_is_kept() -> None:
    scenario = Scenario(replace(SHORT, update_budget_bytes=80e6), findings_catalog())

    assert np.isfinite(rollout(scenario.world(4), ENTRY, _rng()).cost_s).all()


def test_it_beats_ewma_greedy_on_a_few_worlds() -> None:
    scenario = Scenario(FINDINGS, findings_catalog())
    ours, theirs = [], []
    for seed in range(1_000_100, 1_000_104):
        world = scenario.world(seed)
        ours.append(rollout(world, ENTRY, _rng()).mean_cost_s)
        theirs.append(rollout(world, EWMA, _rng()).mean_cost_s)

    assert np.mean(ours) < 0.96 * np.mean(theirs)


def test_reasons_add_up() -> None:
    scenario = Scenario(SHORT, findings_catalog())
    made: list[Augur] = []

    def start(scenario: Scenario, rng: np.random.Generator) -> Augur:
        made.append(Augur(scenario, rng, model_from()))
        return made[0]

    rollout(scenario.world(3), replace(ENTRY, start=start), _rng())
    reasons = made[0].reasons

    assert reasons is not None
    assert reasons.chance.shape == (12, 12)
    assert (reasons.chance.sum(axis=1) <= 1 + 1e-9).all()
    assert (reasons.value_s[:, 0] >= reasons.value_s[:, -1] - 1e-15).all()
    assert (reasons.prices > 0).all()


def test_shifted_scenarios_are_sound() -> None:
    names = shifted_scenarios()

    assert len(names) >= 11
    assert {"findings", "new catalogue", "dear updates"} <= set(names)


def test_the_dearer_updates_the_less_is_moved() -> None:
    moved = []
    for weight in (0.0, 0.1, 1.0):
        scenario = Scenario(replace(SHORT, update_weight=weight), findings_catalog())
        held = rollout(scenario.world(3), ENTRY, _rng()).placements
        moved.append(sum((after & ~before).sum() for before, after in itertools.pairwise(held)))

    assert moved[0] > moved[1] > moved[2]


@pytest.mark.parametrize("changes", [{"samples": 0}, {"patience": -1}, {"rounds": -1}])
def test_bad_settings_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="patience"):
        AugurConfig(**changes)
