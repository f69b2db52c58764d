"""Laws of the worst case under CSI error."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import airtime_s, broadcast_snr, solve_broadcast
from radio.fast.worst_case import worst_case

Size = tuple[int, int, int, int]
Draw = Callable[[Size], tuple[np.ndarray, np.ndarray, np.ndarray]]
sizes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**31))
kinds = st.sampled_from(["joint", "link"])
ranks = st.sampled_from([1, 2, 3])


def radius(h: np.ndarray, kind: str, share: float) -> np.ndarray:
    """CSI error as a share of the channel's norm."""
    flat = h.reshape(len(h), -1) if kind == "joint" else h
    return share * np.linalg.norm(flat, axis=-1)


def scale_into_ball(error: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """The error scaled to the surface of the ball."""
    if limit.ndim == 1:
        return error * (limit / np.linalg.norm(error.reshape(len(error), -1), axis=1))[:, None, None]
    return error * (limit / np.linalg.norm(error, axis=2))[:, :, None]


@given(sizes, kinds, ranks, st.floats(0.01, 0.3))
@settings(max_examples=20, deadline=None)
def test_no_error_in_the_ball_breaks_the_guarantee(
    draw: Draw, size: Size, kind: str, rank: int, share: float
) -> None:
    h, power, noise = draw(size)
    limit = radius(h, kind, share)
    result = solve_broadcast(h, power, noise, csi_error=limit, rank=rank, certify="none")
    rng = np.random.default_rng(size[3])
    worst = worst_case(h[None], result.w[None], limit[None], np.ones((1, h.shape[1])))

    samples = [rng.standard_normal(h.shape) + 1j * rng.standard_normal(h.shape) for _ in range(12)]
    # Beside random errors: straight down the beam, and the channel that the analysis says is worst.
    samples.append(
        -np.conj(result.w[..., 0])[None]
        * np.exp(1j * np.angle(np.einsum("kna,na->k", h, result.w[..., 0])))[:, None, None]
    )
    channels = [h + scale_into_ball(error + 1e-300, limit) for error in samples] + [worst.channel[0]]

    for channel in channels:
        assert broadcast_snr(channel, result.w, noise).min() >= result.worst_snr * (1 - 1e-9)


@given(sizes, kinds, ranks, st.floats(0.01, 0.3))
@settings(max_examples=20, deadline=None)
def test_no_adversary_that_climbs_breaks_the_guarantee(
    draw: Draw, size: Size, kind: str, rank: int, share: float
) -> None:
    h, power, noise = draw(size)
    limit = radius(h, kind, share)
    result = solve_broadcast(h, power, noise, csi_error=limit, rank=rank)
    rng = np.random.default_rng(size[3])
    flat = result.w.reshape(-1, rank)
    # Projected gradient on each user's received power, the error always on the surface of its ball.
    step = 0.5 / max(np.linalg.norm(flat, 2) ** 2, 1e-300)
    channel = h + scale_into_ball(rng.standard_normal(h.shape) + 1j * rng.standard_normal(h.shape), limit)

    for _ in range(60):
        received = channel.reshape(len(h), -1) @ flat
        error = channel - h - step * (received @ flat.conj().T).reshape(h.shape)
        channel = h + scale_into_ball(error + 1e-300, limit)

        assert broadcast_snr(channel, result.w, noise).min() >= result.worst_snr * (1 - 1e-9)


@given(sizes, kinds, ranks, st.floats(0.01, 0.5))
@settings(max_examples=20, deadline=None)
def test_the_worst_channel_is_in_the_ball_and_attains_the_guarantee(
    draw: Draw, size: Size, kind: str, rank: int, share: float
) -> None:
    h, _, _ = draw(size)
    h = h / np.abs(h).max()
    limit = radius(h, kind, share)
    rng = np.random.default_rng(size[3])
    v = rng.standard_normal((*h.shape[1:], rank)) + 1j * rng.standard_normal((*h.shape[1:], rank))

    worst = worst_case(h[None], v[None], limit[None], np.ones((1, h.shape[1])))

    moved = worst.channel[0] - h
    assert (radius(moved, kind, 1.0) <= limit * (1 + 1e-9)).all()
    reached = np.sqrt(broadcast_snr(worst.channel[0], v, 1.0))
    sure = worst.amplitude[0] > 0.02 * np.linalg.norm(v) * np.linalg.norm(h)
    assert (reached >= worst.amplitude[0] * (1 - 1e-9))[sure].all()
    # Equal for one column and for joint balls; within the fixed point's accuracy for several per-link balls.
    assert reached[sure] == pytest.approx(
        worst.amplitude[0][sure], rel=1e-6 if rank == 1 or kind == "joint" else 1e-3
    )


@given(sizes, kinds)
@settings(max_examples=15, deadline=None)
def test_robust_is_below_its_bound_and_the_bound_below_the_nominal_one(
    draw: Draw, size: Size, kind: str
) -> None:
    h, power, noise = draw(size)
    nominal = solve_broadcast(h, power, noise, certify="exact")

    for rank in (1, 2, "full"):
        result = solve_broadcast(h, power, noise, csi_error=radius(h, kind, 0.1), rank=rank)

        assert result.worst_snr <= result.min_snr * (1 + 1e-9)
        assert result.worst_snr <= result.upper_bound * (1 + 1e-9)
        assert result.upper_bound <= nominal.upper_bound * (1 + 0.01)


@given(sizes)
@settings(max_examples=10, deadline=None)
def test_one_user_with_joint_error_equals_the_closed_form(draw: Draw, size: Size) -> None:
    h, _, noise = draw((1, 1, *size[2:]))
    limit = radius(h, "joint", 0.2)

    result = solve_broadcast(h, 5.0, noise, csi_error=limit)

    expected = 5.0 * (np.linalg.norm(h) - limit[0]) ** 2 / noise[0]
    assert result.worst_snr == pytest.approx(float(expected), rel=1e-5)


def test_no_error_equals_nominal(draw: Draw) -> None:
    h, power, noise = draw((4, 3, 2, 5))

    nominal = solve_broadcast(h, power, noise)
    robust = solve_broadcast(h, power, noise, csi_error=np.zeros(4))
    nearly = solve_broadcast(h, power, noise, csi_error=1e-9 * radius(h, "joint", 1.0))

    assert robust.worst_snr == nominal.min_snr
    assert nearly.worst_snr == pytest.approx(float(nominal.min_snr), rel=0.01)


@pytest.mark.parametrize("kind", ["joint", "link"])
@pytest.mark.parametrize("rank", [1, 2, "full"])
def test_error_beyond_the_channel_is_outage_never_nan(draw: Draw, kind: str, rank: int) -> None:
    h, power, noise = draw((4, 3, 2, 5))

    result = solve_broadcast(h, power, noise, csi_error=radius(h, kind, 1.5), rank=rank)

    assert result.status == "outage"
    assert result.worst_snr == 0
    assert result.upper_bound >= 0
    assert airtime_s(1e6, 1e8, result.worst_snr) == np.inf
    assert np.isfinite(result.w).all()
    assert np.isfinite(result.snr).all()
    assert 0 <= result.gap <= 1


def test_robust_protects_where_nominal_does_not(draw: Draw) -> None:
    rng = np.random.default_rng(0)
    h = rng.standard_normal((30, 8, 4, 4)) + 1j * rng.standard_normal((30, 8, 4, 4))
    limit = 0.25 * np.linalg.norm(h.reshape(30, 8, -1), axis=2)
    nominal = solve_broadcast(h, 1.0, 1.0)
    robust = solve_broadcast(h, 1.0, 1.0, csi_error=limit)

    without = np.array(
        [
            worst_case(h[i : i + 1], nominal.w[i : i + 1], limit[i : i + 1], np.ones((1, 4))).amplitude.min()
            ** 2
            for i in range(30)
        ]
    )

    assert np.median(robust.worst_snr) > 1.2 * np.median(without)
    assert (robust.worst_snr >= without * 0.999).all()
