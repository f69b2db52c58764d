"""Laws of single broadcasts and of starts from the last slot's beams."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import DEFAULT_EFFORT, BadInputError, draw_iid, solve_broadcast

sizes = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
Draw = Callable[[tuple[int, int, int, int]], tuple[np.ndarray, np.ndarray, np.ndarray]]


@given(sizes, st.sampled_from([1, 2]), st.sampled_from(["eig", "none", "exact"]))
@settings(max_examples=30, deadline=None)
def test_a_warm_start_is_never_worse_than_its_start(
    draw: Draw, size: tuple[int, int, int, int], rank: int, certify: str
) -> None:
    h, power, noise = draw(size)
    rng = np.random.default_rng(size[3])
    w = rng.standard_normal((*h.shape[1:], rank, 2)) @ [1, 1j]
    w *= np.sqrt(power)[:, None, None] / np.linalg.norm(w, axis=(1, 2), keepdims=True)
    received = np.abs(np.einsum("kna,nac->kc", h, w)) ** 2

    result = solve_broadcast(h, power, noise, rank=rank, certify=certify, start=w)

    assert result.min_snr >= (received.sum(axis=1) / noise).min() * (1 - 1e-9)
    assert result.min_snr <= result.upper_bound * (1 + 1e-9)
    assert ((np.abs(result.w) ** 2).sum(axis=(1, 2)) <= power * (1 + 1e-9)).all()


@pytest.mark.parametrize("solver", ["fast", "global"])
def test_the_best_beam_stays_where_it_is(draw: Draw, solver: str) -> None:
    h, power, noise = draw((5, 2, 3, 4))
    best = solve_broadcast(h, power, noise)

    again = solve_broadcast(h, power, noise, start=best.w, solver=solver)

    assert again.min_snr >= best.min_snr * (1 - 1e-12)
    assert again.min_snr == pytest.approx(float(best.min_snr), rel=1e-3)
    assert again.gap < 2e-3


@pytest.mark.parametrize("certify", ["eig", "none"])
def test_a_start_keeps_up_with_a_channel_that_moves(certify: str) -> None:
    rng = np.random.default_rng(0)
    h = draw_iid(6, 2, 4, rng, (4,))
    w = solve_broadcast(h, 1.0, 1.0).w
    for _ in range(5):
        h = np.sqrt(1 - 0.03**2) * h + 0.03 * draw_iid(6, 2, 4, rng, (4,))
        warm = solve_broadcast(h, 1.0, 1.0, start=w, certify=certify)
        w = warm.w

    assert (warm.min_snr >= 0.98 * solve_broadcast(h, 1.0, 1.0).min_snr).all()


def test_a_start_that_is_no_beam_is_searched_for_all_the_same(draw: Draw) -> None:
    h, power, noise = draw((6, 3, 2, 8))
    cold = solve_broadcast(h, power, noise)
    poor = 1e-4 * (np.random.default_rng(0).standard_normal((3, 2, 1, 2)) @ [1, 1j])

    for start in (np.zeros((3, 2, 1)), poor):
        warm = solve_broadcast(h, power, noise, start=start)
        assert warm.min_snr >= cold.min_snr * 0.995


def test_starts_broadcast_and_silent_nodes_stay_silent(draw: Draw) -> None:
    h, power, noise = draw((4, 3, 2, 0))
    holders = np.array([[True, False, True], [True] * 3])
    w = solve_broadcast(h, power, noise).w

    result = solve_broadcast(h, power, noise, holders=holders, start=w)

    assert not result.w[0, 1].any()
    assert result.min_snr[1] >= solve_broadcast(h, power, noise).min_snr * 0.999


def test_with_csi_error_a_start_is_kept_where_nothing_better_is_found(draw: Draw) -> None:
    h, power, noise = draw((4, 2, 3, 1))
    error = 0.05 * np.linalg.norm(h, axis=(1, 2))
    cold = solve_broadcast(h, power, noise, csi_error=error)

    warm = solve_broadcast(h, power, noise, csi_error=error, start=cold.w)

    assert warm.worst_snr >= cold.worst_snr * (1 - 1e-12)


@pytest.mark.parametrize("start", [np.zeros((3, 2)), np.zeros((2, 2, 2)), np.full((2, 2, 1), np.nan), "no"])
def test_a_start_that_does_not_fit_is_named(start: object) -> None:
    with pytest.raises(BadInputError, match="start: expected"):
        solve_broadcast(np.ones((2, 2, 2)), 1.0, 1.0, start=start)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [(4, 2, 4), (16, 4, 2), (32, 2, 4), (8, 4, 1)])
def test_a_single_broadcast_is_as_good_as_one_of_a_batch(size: tuple[int, int, int]) -> None:
    h = draw_iid(*size, np.random.default_rng(5), (8,))
    many = solve_broadcast(h, 1.0, 1.0)

    alone = [solve_broadcast(row, 1.0, 1.0) for row in h]
    ratio = np.array([one.min_snr for one in alone]) / many.min_snr

    assert np.median(ratio) >= 0.998
    assert ratio.min() >= 0.93
    assert all(one.settled for one in alone)
    assert solve_broadcast(h[0], 1.0, 1.0).min_snr == alone[0].min_snr
    same = solve_broadcast(h[0], 1.0, 1.0, effort=DEFAULT_EFFORT)
    assert same.min_snr == pytest.approx(many.min_snr[0], rel=1e-9)
