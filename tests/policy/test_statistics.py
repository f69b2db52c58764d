import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.evaluation.statistics import bootstrap, iqm, iqm_interval, mean_interval, paired


@pytest.mark.parametrize(
    ("values", "middle"),
    [
        ([5.0], 5.0),
        ([1.0, 3.0], 2.0),
        ([0.0, 1.0, 2.0, 100.0], 1.5),
        ([0.0, 1.0, 2.0, 3.0, 100.0], (0.75 * 1 + 2 + 0.75 * 3) / 2.5),  # 1.25 cut from each end
        ([8, 1, 7, 2, 6, 3, 5, 4], (3 + 4 + 5 + 6) / 4),
    ],
)
def test_interquartile_mean_by_hand(values: list[float], middle: float) -> None:
    assert iqm(np.array(values)) == pytest.approx(middle)


def test_interquartile_mean_is_the_trimmed_mean() -> None:
    from scipy.stats import trim_mean

    values = np.random.default_rng(0).random((16, 4))

    assert iqm(values) == pytest.approx(trim_mean(values.ravel(), 0.25))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(0.1, 3), st.floats(-2, 2))
def test_interquartile_mean_moves_with_its_values(values: list[float], scale: float, shift: float) -> None:
    array = np.array(values)

    assert iqm(scale * array + shift) == pytest.approx(scale * iqm(array) + shift, abs=1e-9)


@given(seed=st.integers(0, 1000), seeds=st.integers(1, 3))
def test_resampling_keeps_the_strata(seed: int, seeds: int) -> None:
    strata = np.array([0, 0, 1, 1, 1, 2])
    draws = bootstrap(np.random.default_rng(seed), 6, seeds, 50, strata)

    for label, count in ((0, 2), (1, 3), (2, 1)):
        np.testing.assert_array_equal(draws.worlds[:, strata == label].sum(axis=1), count)
    np.testing.assert_array_equal(draws.seeds.sum(axis=1), seeds)


def test_strata_take_their_differences_out_of_the_interval() -> None:
    values = np.array([[1.0], [1.0], [9.0], [9.0]])
    rng = np.random.default_rng(0)

    assert mean_interval(values, bootstrap(rng, 4, 1, strata=np.array([0, 0, 1, 1]))) == (5.0, 5.0)
    low, high = mean_interval(values, bootstrap(rng, 4, 1))
    assert low < 3 < 7 < high


def test_bootstrap_of_two_worlds_by_counting() -> None:
    """Four equally likely draws: means 0, 1/2, 1/2, 1; so a quarter of the mass at each end."""
    draws = bootstrap(np.random.default_rng(0), 2, 1, 20_000)
    means = draws.means(np.array([[0.0], [1.0]]))

    assert (means == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (means == 0.5).mean() == pytest.approx(0.5, abs=0.02)


def test_seeds_are_resampled_apart_from_worlds() -> None:
    """A cost that depends on the seed alone: the interval must not shrink with more worlds."""
    values = np.tile(np.array([[0.0, 1.0]]), (50, 1))
    low, high = mean_interval(values, bootstrap(np.random.default_rng(0), 50, 2))

    assert (low, high) == (0.0, 1.0)


def test_interval_of_the_interquartile_mean_matches_drawing_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((5, 3))
    draws = bootstrap(rng, 5, 3, 400)
    made = []
    for worlds, seeds in zip(draws.worlds, draws.seeds, strict=True):
        rows = np.repeat(np.arange(5), worlds.astype(int))
        columns = np.repeat(np.arange(3), seeds.astype(int))
        made.append(iqm(values[np.ix_(rows, columns)]))

    assert iqm_interval(values, draws) == pytest.approx(tuple(np.quantile(made, [0.025, 0.975])))


def test_coverage_of_the_interval() -> None:
    """About 95 of 100 intervals hold the true mean."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        low, high = mean_interval(rng.normal(2.0, 1.0, (40, 1)), bootstrap(rng, 40, 1, 300))
        inside += low <= 2.0 <= high

    assert 0.88 <= inside / 200 <= 0.99


def test_paired_by_hand() -> None:
    a, b = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [2.0], [4.0]])
    made = paired(a, b, bootstrap(np.random.default_rng(0), 3, 1))

    assert made.reduction == pytest.approx(1 - 6 / 8)
    assert made.improvement_probability == pytest.approx((1 + 0.5 + 1) / 3)
    assert (made.worlds, made.seeds) == (3, 1)
    means = [
        1 - sum(a[list(rows), 0]) / sum(b[list(rows), 0]) for rows in itertools.product(range(3), repeat=3)
    ]
    assert min(means) - 1e-12 <= made.ci95[0] <= made.reduction <= made.ci95[1] <= max(means) + 1e-12


def test_pairing_takes_the_spread_of_worlds_out() -> None:
    rng = np.random.default_rng(0)
    b = rng.uniform(10, 100, (30, 1))
    made = paired(0.9 * b, b, bootstrap(rng, 30, 1))

    assert made.ci95 == pytest.approx((0.1, 0.1))
    assert made.improvement_probability == 1.0


def test_a_scheme_without_seeds_is_compared_with_every_seed() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 3)), np.ones((4, 1))
    draws = bootstrap(rng, 4, 3)

    assert paired(a, b, draws).reduction == pytest.approx(1 - a.mean())
    with pytest.raises(ValueError, match="need 1 or 3 seeds, got 2"):
        paired(a, np.ones((4, 2)), draws)


@pytest.mark.parametrize(("a", "b"), [((3, 1), (4, 1)), ((3,), (3,)), ((0, 1), (0, 1))])
def test_unpaired_values_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of the same worlds"):
        paired(np.ones(a), np.ones(b), bootstrap(np.random.default_rng(0), 3, 1))


def test_no_values_have_no_middle() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        iqm(np.zeros(0))


def test_worlds_in_which_nothing_is_asked_give_no_false_interval() -> None:
    """A short trace has such worlds: 0 against 0 is no reduction, something against 0 is an endless loss."""
    a, b = np.array([[0.0], [3.0]]), np.array([[0.0], [2.0]])
    draws = bootstrap(np.random.default_rng(0), 2, 1)

    assert paired(a, b, draws).reduction == pytest.approx(-0.5)
    assert paired(a, b, draws).ci95 == pytest.approx((-0.5, 0.0))
    assert paired(a, np.zeros((2, 1)), draws).reduction == -np.inf
    nothing = paired(np.zeros((2, 1)), np.zeros((2, 1)), draws)
    assert (nothing.reduction, nothing.ci95) == (0.0, (0.0, 0.0))
