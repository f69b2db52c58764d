from dataclasses import replace

import numpy as np
import pytest

from policy.config import FINDINGS
from policy.play.scheme import History
from policy.scenario import Scenario
from policy.schemes.fitted import DemandFit, fit_demand, last_models, push
from policy.slot.tables import ServiceRules
from policy.world.synthetic import findings_catalog


def fitted(stickiness: float, no_repeat: int, prob: float = 0.7) -> DemandFit:
    requests = replace(FINDINGS.requests, stickiness=stickiness, no_repeat=no_repeat, request_prob=prob)
    scenario = Scenario(replace(FINDINGS, num_slots=60, requests=requests), findings_catalog())
    return fit_demand(History(scenario.world(1), 60, ServiceRules()), scenario.families)


def test_loyalty_to_families_is_found() -> None:
    assert fitted(0.8, 2).stick == pytest.approx(0.8, abs=0.1)
    assert fitted(0.0, 0).stick < 0.15


def test_a_ban_on_repeats_is_found() -> None:
    never, maybe = fitted(0.8, 2).repeat, fitted(0.8, 0).repeat

    assert (never[:2] < 0.1).all()
    assert (maybe > 0.5).all()


def test_how_often_users_ask_is_found() -> None:
    assert fitted(0.8, 2, prob=0.3).ask.mean() == pytest.approx(0.3, abs=0.06)


def test_chances_are_chances() -> None:
    fit = fitted(0.8, 2)
    chances = fit.chances(np.zeros(12, dtype=np.int64), fit.last)

    np.testing.assert_allclose(chances.sum(axis=-1), 1.0)
    assert (chances >= 0).all()


def test_the_newest_request_comes_first() -> None:
    last = last_models(np.array([[3, -1], [-1, 4], [5, -1]]), 2)

    np.testing.assert_array_equal(last, [[5, 3], [4, -1]])
    np.testing.assert_array_equal(push(last, np.array([-1, 1])), [[5, 3], [1, 4]])
