"""Intervals over few worlds: those of the textbook, and as sure of themselves as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policy.evaluation.few_worlds import difference, mean_of, reduction

values = st.lists(st.floats(0.1, 100.0), min_size=2, max_size=12)


@given(values)
def test_a_mean_has_students_interval(numbers: list[float]) -> None:
    found = mean_of(np.array(numbers)[:, None])
    half = stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers)

    assert found.value == pytest.approx(np.mean(numbers))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


@given(values, st.integers(1, 4))
def test_seeds_of_a_world_are_one_observation(numbers: list[float], seeds: int) -> None:
    once = np.array(numbers)[:, None]
    found, again = mean_of(once), mean_of(np.tile(once, seeds))

    assert (again.value, again.low, again.high) == pytest.approx((found.value, found.low, found.high))


@given(values, st.floats(0.1, 3.0))
def test_what_is_a_fixed_share_lower_in_every_world_is_so_for_sure(
    numbers: list[float], ratio: float
) -> None:
    b = np.array(numbers)[:, None]
    found = reduction(ratio * b, b)

    assert (found.value, found.low, found.high) == pytest.approx((1 - ratio,) * 3, abs=1e-9)
    same = difference(b + ratio, b)
    assert (same.value, same.low, same.high) == pytest.approx((ratio,) * 3, abs=1e-9)


def test_nineteen_in_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(2000):
        hard = rng.gamma(9.0, 1.0, size=(6, 1))  # some worlds are hard for both
        a, b = (hard * share * rng.normal(1.0, 0.1, size=(6, 1)) for share in (0.8, 1.0))
        found = reduction(a, b)
        held += found.low <= 0.2 <= found.high

    assert 0.92 <= held / 2000 <= 0.98


def test_one_world_has_no_interval_and_none_no_mean() -> None:
    assert np.isnan(mean_of(np.array([[3.0, 5.0]])).low)
    assert mean_of(np.array([[3.0, 5.0]])).value == 4.0
    with pytest.raises(ValueError, match="worlds, seeds"):
        mean_of(np.zeros((0, 1)))
    with pytest.raises(ValueError, match="above 0"):
        reduction(np.ones((2, 1)), np.zeros((2, 1)))
