"""Laws of the upper bounds under CSI error."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import solve_broadcast
from radio.bounds import beam_bound, exact_bound, multiplier_bound, one_user_bound
from radio.fast.worst_case import worst_case
from radio.problem import normalise

Size = tuple[int, int, int, int]
Draw = Callable[[Size], tuple[np.ndarray, np.ndarray, np.ndarray]]
sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31))
kinds = st.sampled_from(["joint", "link"])
shares = st.floats(0.01, 0.4)


def radius(h: np.ndarray, kind: str, share: float) -> np.ndarray:
    """CSI error as a share of the channel's norm, (..., users) or (..., users, nodes)."""
    return share * (np.linalg.norm(h, axis=(-2, -1)) if kind == "joint" else np.linalg.norm(h, axis=-1))


def scaled(draw: Draw, size: Size, kind: str, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSI, radius and sqrt of power of one row without units."""
    h, power, noise = draw(size)
    problem = normalise(h, power, noise, csi_error=radius(h, kind, share))
    assert problem.error is not None
    return problem.g, problem.error, np.sqrt(problem.power_w)


@given(sizes, kinds, shares)
@settings(max_examples=40, deadline=None)
def test_no_beam_guarantees_more_than_any_multipliers_allow(
    draw: Draw, size: Size, kind: str, share: float
) -> None:
    g, error, root = scaled(draw, size, kind, share)
    rng = np.random.default_rng(size[3])
    weights, prices = rng.random((1, 3, size[0])) ** 3 + 1e-9, rng.random((1, 3, size[1])) ** 3
    beams = rng.standard_normal((40, *g.shape[2:], 1)) + 1j * rng.standard_normal((40, *g.shape[2:], 1))
    beams *= rng.random((40, size[1], 1, 1)) ** 0.3 / np.linalg.norm(beams, axis=(2, 3), keepdims=True)
    best = solve_broadcast(g, root[0] ** 2, 1.0, csi_error=None).w / root[0][:, None, None]
    beams[0] = best[0]
    many = [np.repeat(a, 40, axis=0) for a in (g, error, root)]

    least = worst_case(many[0], beams, many[1], many[2]).amplitude.min(axis=1)

    assert (least <= beam_bound(g, error, root, weights, prices) * (1 + 1e-9)).all()
    assert (least <= one_user_bound(g, error, root).min(axis=1) * (1 + 1e-9)).all()


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_without_error_the_bound_of_a_beam_is_the_nominal_one(draw: Draw, size: Size) -> None:
    h, power, noise = draw(size)
    g = normalise(h, power, noise).g
    exact = exact_bound(g, np.ones(g.shape[:2], dtype=bool))
    given = exact.weights[:, None], exact.prices[:, None]

    expected = np.sqrt(multiplier_bound(g, exact.weights, exact.prices))

    for shape in (g.shape[:2], g.shape[:3]):
        assert beam_bound(g, np.zeros(shape), np.ones(g.shape[::2]), *given) == pytest.approx(
            expected, rel=1e-6
        )


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", ["joint", "link"])
@pytest.mark.parametrize("rank", [1, 2, "full"])
def test_more_error_never_raises_the_bound(draw: Draw, kind: str, rank: int) -> None:
    h, power, noise = draw((5, 3, 2, 7))
    shares = (1e-6, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)

    bounds = [
        float(solve_broadcast(h, power, noise, csi_error=radius(h, kind, s), rank=rank).upper_bound)
        for s in shares
    ]

    assert (np.diff(bounds) <= 5e-3 * bounds[0]).all()
    assert bounds[0] == pytest.approx(float(solve_broadcast(h, power, noise).upper_bound), rel=0.01)


@pytest.mark.parametrize("kind", ["joint", "link"])
def test_one_beam_is_proven_best_where_its_relaxation_is_tight(kind: str) -> None:
    rng = np.random.default_rng(3)
    h = rng.standard_normal((20, 3, 4, 4)) + 1j * rng.standard_normal((20, 3, 4, 4))
    # Nodes of very unequal use: some are better turned down, where the penalty is not that of full power.
    h *= 10.0 ** rng.uniform(-1.5, 0.0, (20, 3, 4, 1))
    limit = radius(h, kind, 0.15)

    one = solve_broadcast(h, 1.0, 1.0, csi_error=limit)
    full = solve_broadcast(h, 1.0, 1.0, csi_error=limit, rank="full")

    assert np.median(one.gap) < 2e-3
    assert (one.upper_bound <= full.upper_bound * (1 + 5e-3)).all()
    if kind == "joint":
        assert (np.linalg.norm(one.w, axis=(-2, -1)) < 0.9).any()
        assert np.median(one.worst_snr / full.upper_bound) < 0.99


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", ["joint", "link"])
@pytest.mark.parametrize("certify", ["eig", "exact"])
def test_masked_rows_have_the_bound_of_the_reduced_problem(draw: Draw, kind: str, certify: str) -> None:
    h, power, noise = draw((5, 4, 2, 11))
    users, holders = np.array([True, False, True, True, False]), np.array([True, True, False, True])
    limit = radius(h, kind, 0.1)
    less = limit[users] if kind == "joint" else limit[users][:, holders]

    for rank in (1, 2):
        masked = solve_broadcast(h, power, noise, holders, users, csi_error=limit, rank=rank, certify=certify)
        reduced = solve_broadcast(
            h[users][:, holders], power[holders], noise[users], csi_error=less, rank=rank, certify=certify
        )

        assert masked.upper_bound == pytest.approx(float(reduced.upper_bound), rel=5e-3)
        assert masked.worst_snr == pytest.approx(float(reduced.worst_snr), rel=5e-3)


@pytest.mark.parametrize("kind", ["joint", "link"])
def test_large_arrays_are_bounded_without_the_interior_point(draw: Draw, kind: str) -> None:
    h, power, noise = draw((6, 9, 8, 1))

    for rank in (1, 2):
        result = solve_broadcast(h, power, noise, csi_error=radius(h, kind, 0.1), rank=rank)

        assert result.worst_snr <= result.upper_bound
        assert result.gap < 0.2


def test_outage_that_one_user_proves_has_bound_zero(draw: Draw) -> None:
    h, power, noise = draw((4, 3, 2, 5))
    for kind in ("joint", "link"):
        limit = radius(h, kind, 0.1)
        limit[2] *= 11.0

        for rank in (1, 2):
            result = solve_broadcast(h, power, noise, csi_error=limit, rank=rank)

            assert result.status == "outage"
            assert result.upper_bound == 0
