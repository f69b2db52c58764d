"""Laws of the ascent on the soft minimum and of the polish to a local optimum."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from radio import DEFAULT_EFFORT, Effort, Stage, draw_iid, solve_broadcast
from radio.fast.polish import kkt_residual, polish
from radio.fast.soft_min import sharpen, soft_ascent, with_silent_antenna
from radio.fast.weights import random_start
from radio.problem import normalise
from radio.result import KKT_TOLERANCE

sizes = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
Draw = Callable[[tuple[int, int, int, int]], tuple[np.ndarray, np.ndarray, np.ndarray]]


def crowd(users: int, nodes: int, antennas: int, count: int) -> np.ndarray:
    """Scaled i.i.d. CSI with many users an antenna, (count, users, nodes, antennas)."""
    rng = np.random.default_rng([users, nodes, antennas])
    return normalise(draw_iid(users, nodes, antennas, rng, (count,)), 1.0, 1.0).g


def least(g: np.ndarray, v: np.ndarray, users: np.ndarray | None = None) -> np.ndarray:
    """Weakest amplitude of each row."""
    amplitude = np.linalg.norm(np.einsum("bkna,bnac->bkc", g, v), axis=2)
    return np.where(np.ones(amplitude.shape, bool) if users is None else users, amplitude, np.inf).min(axis=1)


@given(sizes, st.sampled_from([1, 2]), st.sampled_from([1, 3, 10]))
@settings(max_examples=25, deadline=None)
def test_polish_never_lowers_the_weakest_user_and_keeps_the_power(
    size: tuple[int, int, int, int], columns: int, steps: int
) -> None:
    g = crowd(*size[:3], 3)
    rng = np.random.default_rng(size[3])
    v = rng.standard_normal((3, *size[1:3], columns, 2)) @ [1, 1j]
    v /= np.linalg.norm(v, axis=(2, 3), keepdims=True)
    users = rng.random(g.shape[:2]) < 0.7
    users[:, 0] = True

    end = polish(g, v, users, steps)

    assert (end.least >= least(g, v, users) * (1 - 1e-12)).all()
    assert end.least == pytest.approx(least(g, end.v, users), rel=1e-12)
    assert (np.linalg.norm(end.v, axis=(2, 3)) <= 1 + 1e-12).all()
    assert np.isfinite(end.weights).all()
    assert not end.weights[~users].any()
    assert (end.residual >= 0).all()


@given(sizes, st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None)
def test_no_first_order_step_gains_more_than_the_residual(
    size: tuple[int, int, int, int], columns: int
) -> None:
    g = crowd(*size[:3], 2)
    rng = np.random.default_rng(size[3])
    v = rng.standard_normal((2, *size[1:3], columns, 2)) @ [1, 1j]
    v /= np.linalg.norm(v, axis=(2, 3), keepdims=True)
    end = polish(g, v, np.ones(g.shape[:2], bool), 6)
    y = np.einsum("bkna,bnac->bkc", g, end.v)
    z = y.conj() / np.linalg.norm(y, axis=2, keepdims=True)
    others = np.concatenate([v[None], rng.standard_normal((30, *v.shape, 2)) @ [1, 1j]]) * 0.3 + end.v
    others /= np.linalg.norm(others, axis=(3, 4), keepdims=True)

    reached = np.einsum("bkna,xbnac,bkc->xbk", g, others, z).real.min(axis=2)

    assert (np.maximum(reached, 0) ** 2 <= end.least**2 * (1 + end.residual) * (1 + 1e-9)).all()


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("size", [(8, 4, 1), (32, 2, 4), (16, 4, 4), (64, 4, 2)])
def test_beams_are_local_optima_or_say_that_they_are_not(size: tuple[int, int, int], rank: int) -> None:
    result = solve_broadcast(crowd(*size, 6), 1.0, 1.0, rank=rank)
    rough = solve_broadcast(crowd(*size, 6), 1.0, 1.0, rank=rank, effort=_ROUGH)

    assert (result.kkt_residual <= KKT_TOLERANCE).all()
    assert result.settled.all()
    assert (rough.kkt_residual <= rough.gap / (1 - rough.gap)).all()
    assert (rough.settled == (rough.kkt_residual <= KKT_TOLERANCE)).all()
    assert not rough.settled.all()


_ROUGH = Effort(stages=(Stage(tolerance=0.0, starts=1, steps=6),), finish=0)


@pytest.mark.parametrize("size", [(32, 2, 4), (48, 4, 4)])
def test_quasi_newton_from_our_beam_gains_next_to_nothing(size: tuple[int, int, int]) -> None:
    g = crowd(*size, 3)
    result = solve_broadcast(g, 1.0, 1.0)

    for row, w, ours in zip(g, result.w[..., 0], result.min_snr, strict=True):
        assert _quasi_newton(row.reshape(len(row), -1), w) <= ours * 1.002


def _quasi_newton(flat: np.ndarray, w: np.ndarray) -> float:
    """Least power after L-BFGS on the soft minimum, beams projected on the power limits."""
    x = np.stack([w.real, w.imag])
    for sharpness in (300.0, 3000.0):

        def loss(x: np.ndarray, sharpness: float = sharpness) -> tuple[float, np.ndarray]:
            pair = x.reshape(2, *w.shape)
            v = pair[0] + 1j * pair[1]
            size = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1.0)
            v = v / size
            y = flat @ v.ravel()
            log = np.log(np.abs(y) ** 2)
            weights = np.exp(-sharpness * (log - log.min()))
            value = np.log(weights.sum()) / sharpness - log.min()
            pull = -2 * ((weights / weights.sum() / y.conj()) @ flat.conj()).reshape(v.shape)
            radial = (v.conj() * pull).real.sum(axis=1, keepdims=True)
            pull = np.where(size > 1, (pull - v * radial) / size, pull)
            return value, np.stack([pull.real, pull.imag]).ravel()

        x = minimize(loss, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 80}).x
    pair = x.reshape(2, *w.shape)
    v = pair[0] + 1j * pair[1]
    v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1.0)
    return float((np.abs(flat @ v.ravel()) ** 2).min())


def test_with_many_users_the_default_is_far_above_many_fixed_points() -> None:
    g = crowd(128, 4, 8, 2)
    many = Effort(stages=(Stage(tolerance=0.0, starts=64, steps=100),), finish=0)

    ours = solve_broadcast(g, 1.0, 1.0).min_snr

    assert (ours > 1.15 * solve_broadcast(g, 1.0, 1.0, certify="none", effort=many).min_snr).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [(5, 3, 2), (12, 2, 4), (40, 2, 2), (8, 4, 1), (33, 4, 2)])
def test_a_row_gets_the_same_whatever_else_is_in_the_batch(size: tuple[int, int, int]) -> None:
    g = crowd(*size, 9)
    together = solve_broadcast(g, 1.0, 1.0)

    for index in (0, 8):
        alone = solve_broadcast(g[index], 1.0, 1.0, effort=DEFAULT_EFFORT)
        some = solve_broadcast(g[[3, index]], 1.0, 1.0)
        for other in (alone.min_snr, some.min_snr[1]):
            assert other == pytest.approx(together.min_snr[index], rel=1e-9)
        assert alone.upper_bound == pytest.approx(together.upper_bound[index], rel=1e-9)


@pytest.mark.parametrize("rank", [1, 2])
def test_masks_and_dead_users_go_through_the_polish(rank: int) -> None:
    h = np.repeat(crowd(40, 3, 2, 1), 4, axis=0)
    h[1, 5] = 0
    users = np.ones((4, 40), dtype=bool)
    users[2, ::2] = users[3] = False
    holders = np.array([[True, False, True], [True] * 3, [True, True, False], [True] * 3])

    result = solve_broadcast(h, [1.0, 2.0, 3.0], 1.0, holders=holders, users=users, rank=rank)
    part = solve_broadcast(h[2][1::2, :2], [1.0, 2.0], 1.0, rank=rank)

    assert result.status.tolist() == ["ok", "dead user", "ok", "no user"]
    assert not result.w[0, 1].any()
    assert not result.snr[2, ::2].any()
    assert result.min_snr[2] == pytest.approx(float(part.min_snr), rel=0.03)
    assert (np.square(np.abs(result.w)).sum(axis=(2, 3)) <= np.array([1.0, 2.0, 3.0]) * (1 + 1e-9)).all()
    assert not np.isnan(result.kkt_residual).any()
    assert result.settled[[0, 2]].all()


@given(st.integers(0, 2**31), st.sampled_from([1, 2]))
@settings(max_examples=10, deadline=None)
def test_the_soft_minimum_rises_and_rows_do_not_meet(seed: int, columns: int) -> None:
    g = crowd(20, 2, 3, 2)
    users = np.ones((2, 20), dtype=bool)
    start = random_start((1, 6, columns, 4), np.random.default_rng(seed))
    start = np.repeat(with_silent_antenna(start, 2, 0.3), 2, axis=0)

    first = soft_ascent(g, start, users, np.full((2, 4), 8.0, dtype=np.float32))
    last = soft_ascent(g, start, users, np.full((60, 4), 8.0, dtype=np.float32))
    alone = soft_ascent(g[1:], start[1:], users[1:], np.full((60, 4), 8.0, dtype=np.float32))

    assert (_soft(g, last.x) >= _soft(g, first.x) - 1e-4).all()
    assert np.square(np.abs(last.beams())).reshape(2, 2, 3, columns, 4).sum(axis=(2, 3)).max() <= 1 + 1e-5
    assert alone.least[0] == pytest.approx(last.least[1], rel=1e-6)


def _soft(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    power = np.square(np.abs(np.einsum("bkna,bscna->bskc", g, x[..., :-1]))).sum(axis=3)
    return -np.log((power**-8.0).mean(axis=2)) / 8.0


def test_sharpness_rises_from_each_start_to_one_end() -> None:
    rise = sharpen(np.array([0.1, 2.0]), 16.0, 21)

    assert rise.shape == (22, 2)
    assert rise[0] == pytest.approx([0.1, 2.0])
    assert rise[-1] == pytest.approx([16.0, 16.0])
    assert (np.diff(rise, axis=0) >= 0).all()


def test_the_residual_is_infinite_where_a_user_hears_nothing(draw: Draw) -> None:
    h, power, noise = draw((3, 2, 2, 1))
    g = normalise(h, power, noise).g
    v = np.zeros((1, 2, 2, 1), dtype=complex)

    residual, _ = kkt_residual(g, v, np.ones((1, 3), bool), np.ones((1, 3)))
    end = polish(g, v, np.ones((1, 3), bool), 3)

    assert np.isinf(residual).all()
    assert (end.v == v).all()
