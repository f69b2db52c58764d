"""Users with several antennas: combining never loses, and no beam and no combiner passes the bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import (
    BadInputError,
    RadioConfig,
    broadcast_snr,
    combined_channel,
    draw_deployment,
    draw_iid,
    draw_users,
    receive_antennas,
    solve_broadcast,
    solve_receive,
)
from radio.channel import channel, draw_fading

Size = tuple[int, int, int, int, int]
sizes = st.tuples(
    st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999)
)


def _draw(users: int, receive: int, nodes: int, antennas: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    h = draw_iid(users, nodes, antennas, rng, (receive,)) * 10.0 ** rng.uniform(-6, -4, (1, users, nodes, 1))
    return np.moveaxis(h, 0, 1)


@settings(max_examples=20, deadline=None)
@given(size=sizes)
def test_no_beam_passes_the_bound_and_the_answer_is_what_it_says(
    size: tuple[int, int, int, int, int],
) -> None:
    users, receive, nodes, antennas, seed = size
    h = _draw(users, receive, nodes, antennas, seed)
    rng = np.random.default_rng(seed)
    power, noise = rng.uniform(1.0, 20.0, nodes), rng.uniform(1e-12, 5e-12, users)

    result = solve_receive(h, power, noise)

    found = result.broadcast
    assert (np.linalg.norm(found.w[..., 0], axis=-1) ** 2 <= power * (1.0 + 1e-9)).all()
    received = np.einsum("krna,na->kr", h, found.w[..., 0])
    assert found.snr == pytest.approx((np.abs(received) ** 2).sum(axis=1) / noise)
    behind = broadcast_snr(combined_channel(h, result.combiner), found.w, noise)
    assert behind == pytest.approx(found.snr)
    assert np.linalg.norm(result.combiner, axis=-1) == pytest.approx(1.0)
    assert found.min_snr <= found.upper_bound * (1.0 + 1e-9)
    tries = draw_iid(300, nodes, antennas, rng)
    tries *= (np.sqrt(power) / np.linalg.norm(tries, axis=-1))[..., None]
    reached = (np.abs(np.einsum("krna,xna->xkr", h, tries)) ** 2).sum(axis=-1) / noise
    assert reached.min(axis=1).max() <= found.upper_bound * (1.0 + 1e-9)
    assert reached.min(axis=1).max() <= found.min_snr * (1.0 + 1e-6)


@settings(max_examples=12, deadline=None)
@given(size=sizes)
def test_one_more_antenna_never_hurts_the_bound_or_a_beam(size: Size) -> None:
    users, _, nodes, antennas, seed = size
    h = _draw(users, 3, nodes, antennas, seed)
    two, three = (solve_receive(h[:, :n], 5.0, 1e-12).broadcast for n in (2, 3))
    of_two = (np.abs(np.einsum("krna,na->kr", h, two.w[..., 0])) ** 2).sum(axis=1).min() / 1e-12

    assert of_two >= two.min_snr * (1.0 - 1e-9)
    assert three.upper_bound >= two.min_snr * (1.0 - 1e-9)
    assert three.min_snr >= 0.97 * of_two


@settings(max_examples=12, deadline=None)
@given(size=sizes)
def test_with_one_antenna_it_is_the_plain_broadcast(size: Size) -> None:
    users, _, nodes, antennas, seed = size
    h = _draw(users, 1, nodes, antennas, seed)

    ours, plain = solve_receive(h, 5.0, 1e-12).broadcast, solve_broadcast(h[:, 0], 5.0, 1e-12)

    assert ours.min_snr >= 0.97 * plain.min_snr
    assert ours.upper_bound >= plain.min_snr * (1.0 - 1e-9)
    assert plain.upper_bound >= ours.min_snr * (1.0 - 1e-9)


@given(receive=st.integers(1, 4), antennas=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_one_user_and_one_node_have_the_largest_singular_value(
    receive: int, antennas: int, seed: int
) -> None:
    h = _draw(1, receive, 1, antennas, seed)
    best = 5.0 * np.linalg.norm(h[0, :, 0], ord=2) ** 2 / 1e-12

    found = solve_receive(h, 5.0, 1e-12).broadcast

    assert found.min_snr == pytest.approx(best, rel=1e-3)
    assert found.upper_bound == pytest.approx(best, rel=1e-3)
    assert found.upper_bound >= best * (1.0 - 1e-9)


def test_masks_batches_and_deaf_antennas() -> None:
    h = np.stack([_draw(4, 2, 3, 2, seed) for seed in range(3)])
    h[0, 1, 0] = 0.0  # a broken antenna is no dead user
    h[1, 2] = 0.0  # this one hears nothing
    holders = np.array([True, False, True])

    found = solve_receive(h, 5.0, 1e-12, holders).broadcast
    dropped = solve_receive(h, 5.0, 1e-12, holders, on_dead_user="drop").broadcast
    nobody = solve_receive(h, 5.0, 1e-12, users=np.zeros(4, bool)).broadcast

    assert found.w.shape == (3, 3, 2, 1)
    assert (found.w[:, 1] == 0).all()
    assert found.status.tolist() == ["ok", "dead user", "ok"]
    assert found.min_snr[1] == 0
    assert dropped.min_snr[1] > 0
    assert (nobody.min_snr == np.inf).all()
    assert np.isfinite(found.upper_bound).all()
    with pytest.raises(BadInputError, match="receive"):
        solve_receive(h[0, :, 0], 5.0, 1e-12)


def test_antennas_of_a_user_are_places_in_the_same_fading() -> None:
    config = RadioConfig(num_users=40)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    fading = draw_fading(config, rng)

    def alike(spacing_m: float) -> float:
        h = channel(deployment, receive_antennas(users, 2, spacing_m), fading)
        assert h.shape == (40, 2, 4, 8)
        a, b = h[:, 0], h[:, 1]
        pairs = [
            abs(np.vdot(x, y)) / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)
        ]
        return float(np.mean(pairs))

    places = receive_antennas(users, 3, 0.1)
    assert places.mean(axis=1) == pytest.approx(users)
    assert np.linalg.norm(np.diff(places, axis=1), axis=2) == pytest.approx(0.1)
    assert alike(1e-4) > 0.999
    assert alike(config.wavelength_m / 2.0) < 0.8
    two = solve_receive(
        channel(deployment, receive_antennas(users, 2, config.wavelength_m / 2.0), fading),
        config.power_w,
        config.noise_w,
    )
    assert two.broadcast.gap < 0.2
