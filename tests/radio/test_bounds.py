"""Laws of the bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import draw_iid
from radio.bounds import exact_bound, multiplier_bound
from radio.bounds.eigen import multiplier_estimate
from radio.problem import normalise

sizes = st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))


def scaled(size: tuple[int, int, int, int], batch: int = 3) -> np.ndarray:
    users, nodes, antennas, seed = size
    rng = np.random.default_rng(seed)
    h = draw_iid(users, nodes, antennas, rng, (batch,)) * 10.0 ** rng.uniform(-1, 1, (batch, users, nodes, 1))
    return normalise(h, 1.0, 1.0).g


@given(sizes)
@settings(max_examples=40, deadline=None)
def test_any_multipliers_bound_any_beam(size: tuple[int, int, int, int]) -> None:
    g = scaled(size)
    rng = np.random.default_rng(size[3])
    weights, prices = rng.exponential(size=g.shape[:2]), rng.exponential(size=(len(g), g.shape[2]))
    v = rng.standard_normal((len(g), *g.shape[2:], 2)) + 1j * rng.standard_normal((len(g), *g.shape[2:], 2))
    v /= np.linalg.norm(v, axis=(2, 3), keepdims=True)

    power = (np.abs(np.einsum("bkna,bnac->bkc", g, v)) ** 2).sum(axis=2)

    assert (power.min(axis=1) <= multiplier_bound(g, weights, prices) * (1 + 1e-9)).all()


@given(sizes)
@settings(max_examples=40, deadline=None)
def test_the_interior_point_closes_its_bracket(size: tuple[int, int, int, int]) -> None:
    g = scaled(size)

    result = exact_bound(g, np.ones(g.shape[:2], dtype=bool))

    assert (result.lower <= result.upper * (1 + 1e-12)).all()
    assert (result.lower >= result.upper * (1 - 1e-5)).all()
    flat = g.reshape(*g.shape[:2], -1)
    power = np.einsum("bki,bij,bkj->bk", flat, result.covariance, flat.conj()).real.min(axis=1)
    used = np.einsum("bii->bi", result.covariance).real.reshape(len(g), g.shape[2], -1).sum(axis=2)
    assert power == pytest.approx(result.lower * used.max(axis=1), rel=1e-9)
    assert (used <= 1 + 1e-9).all()
    assert np.linalg.eigvalsh(result.covariance).min() >= -1e-12
    assert multiplier_bound(g, result.weights, result.prices) == pytest.approx(result.upper, rel=1e-4)


def test_masked_users_do_not_count() -> None:
    g = scaled((5, 3, 2, 1))
    users = np.array([[True, True, False, True, False]] * 3)

    masked = exact_bound(g * users[:, :, None, None], users)
    reduced = exact_bound(g[:, users[0]], np.ones((3, 3), dtype=bool))

    assert masked.upper == pytest.approx(reduced.upper, rel=1e-5)


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_the_estimate_is_never_above_the_bound(size: tuple[int, int, int, int]) -> None:
    g = scaled(size)
    rng = np.random.default_rng(size[3])
    weights, prices = rng.exponential(size=g.shape[:2]), rng.exponential(size=(len(g), g.shape[2]))
    flat = g.reshape(*g.shape[:2], -1).astype(np.complex64)

    estimate = multiplier_estimate(flat, weights.astype(np.float32), prices.astype(np.float32))

    assert (estimate <= multiplier_bound(g, weights, prices) * (1 + 1e-4)).all()
    many = multiplier_estimate(flat, weights.astype(np.float32), prices.astype(np.float32), steps=300)
    assert many == pytest.approx(multiplier_bound(g, weights, prices), rel=0.05)
