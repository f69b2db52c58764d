"""What counts as out of distribution lies outside what training draws, which stays in its ranges."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.experiments.shifted import OUTSIDE, outside_scenarios, shifted_scenarios
from policy.config import FINDINGS, PRESETS, RequestConfig
from policy.learn.ranges import MODELS, MOTION, REQUESTS, SIZES, UNSEEN, outside
from policy.learn.worlds import random_setting
from policy.scenario import Scenario
from policy.world.synthetic import findings_catalog


@given(seed=st.integers(0, 10**9), place=st.integers(0, 11))
def test_training_draws_within_its_ranges(seed: int, place: int) -> None:
    config, catalog = random_setting(np.random.default_rng(seed), place)

    assert outside(Scenario(config, catalog)) == {}


def test_training_uses_its_ranges_up_to_their_ends() -> None:
    """A range that is far wider than what is drawn would call new things old."""
    drawn = [random_setting(np.random.default_rng(seed), 1 + seed % 2) for seed in range(1500)]
    values = {name: [getattr(config.requests, name) for config, _ in drawn] for name in REQUESTS}
    for name, (low, high) in REQUESTS.items():
        positive = [value for value in values[name] if value >= low]
        assert min(positive) <= low + 0.1 * (high - low), name
        assert max(positive) >= high - 0.1 * (high - low), name
    models = [catalog.num_models for _, catalog in drawn]
    users = [config.num_users for config, _ in drawn]
    slowest = [config.mobility.speed_m_s[0] for config, _ in drawn]
    assert (min(models), max(models)) == MODELS
    assert (min(users), max(users)) == SIZES["num_users"]
    np.testing.assert_allclose((min(slowest), max(slowest)), MOTION["slowest_m_s"], atol=0.1)


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("trio")])
def test_the_presets_of_people_are_inside(name: str) -> None:
    """`trio` is where other learners are compared; the shipped one never trained on so small a network."""
    assert outside(Scenario(PRESETS[name], findings_catalog())) == {}


@pytest.mark.parametrize("name", OUTSIDE)
def test_every_setting_outside_is_outside_in_just_what_it_names(name: str) -> None:
    assert set(outside(outside_scenarios()[name])) == OUTSIDE[name]
    assert OUTSIDE[name]


def test_shifted_settings_are_inside_but_for_one() -> None:
    beyond = {name: set(outside(scenario)) for name, scenario in shifted_scenarios().items()}

    assert {name: names for name, names in beyond.items() if names} == {"30 users": {"num_users"}}


def test_no_field_of_a_request_config_is_forgotten() -> None:
    known = {*REQUESTS, *UNSEEN, "process"}

    assert {field.name for field in fields(RequestConfig)} == known


@pytest.mark.parametrize("name", REQUESTS)
def test_each_parameter_can_leave_its_range(name: str) -> None:
    """Past the upper end every parameter is outside, where a config takes it at all."""
    _, high = REQUESTS[name]
    base = replace(FINDINGS.requests, flash_prob=0.1, diurnal_amplitude=0.5)
    kind = type(getattr(base, name))
    beyond = kind(high + 1) if kind is int else min(1.0, 1.05 * high) if high <= 1 else 1.05 * high
    scenario = Scenario(replace(FINDINGS, requests=replace(base, **{name: beyond})), findings_catalog())

    assert (f"requests.{name}" in outside(scenario)) == (beyond > high)
