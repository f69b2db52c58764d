"""Channels: places, path loss, shadowing, fading."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from radio import (
    ChannelFile,
    ChannelFileError,
    RadioConfig,
    airtime_s,
    draw_channel,
    draw_deployment,
    draw_users,
    estimate_csi,
    grid_nodes,
    load_channel,
    pilot_error_std,
    save_channel,
)
from radio.channel import (
    array_response,
    channel,
    draw_fading,
    error_radius,
    large_scale,
    los_probability,
    path_loss_db,
    sample_ball,
)
from radio.channel.field import draw_fields


def test_four_nodes_stand_on_a_square() -> None:
    assert grid_nodes(4, 500.0).tolist() == [[125, 125], [375, 125], [125, 375], [375, 375]]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 64])
def test_every_grid_has_its_nodes_inside_and_apart(count: int) -> None:
    nodes = grid_nodes(count, 100.0)

    assert nodes.shape == (count, 2)
    assert ((nodes > 0) & (nodes < 100)).all()
    assert len(np.unique(nodes, axis=0)) == count


@pytest.mark.parametrize(
    ("scenario", "los", "expected"),
    [("umi", True, 85.314), ("umi", False, 104.644), ("uma", True, 83.138), ("uma", False, 103.038)],
)
def test_path_loss_at_100_m_is_the_table_of_tr_38901(scenario: str, los: bool, expected: float) -> None:
    # Worked by hand from table 7.4.1-1 at 3.5 GHz with a ground distance of 100 m.
    config = RadioConfig(scenario=scenario)
    ground = np.array([100.0])
    space = np.hypot(ground, config.height_m - 1.5)

    assert path_loss_db(config, ground, space, np.array([los]))[0] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_line_of_sight_is_sure_up_to_18_m_and_then_falls(scenario: str) -> None:
    probability = los_probability(RadioConfig(scenario=scenario), np.linspace(1.0, 500.0, 400))

    assert (probability[:10] == 1).all()
    assert (np.diff(probability) <= 0).all()
    assert ((probability > 0) & (probability <= 1)).all()


def test_same_seed_same_channel() -> None:
    config = RadioConfig()

    def one(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)

    assert one(3).shape == (12, 4, 8)
    assert (one(3) == one(3)).all()
    assert (one(3) != one(4)).any()


def test_airtime_is_bits_over_rate_and_infinite_without_snr() -> None:
    assert airtime_s(1_000_000, 1e6, 3.0) == pytest.approx(4.0)
    assert airtime_s(1, 1e6, 0.0) == np.inf
    assert airtime_s(0, 1e6, 0.0) == 0
    assert airtime_s(1, 1e6, np.inf) == 0


def test_fields_are_standard_normal_with_exponential_correlation() -> None:
    rng = np.random.default_rng(0)
    fields = draw_fields(np.repeat([10.0, 40.0], 3000), rng)
    here = rng.uniform(0.0, 500.0, (20, 2))
    values = fields(here)
    assert values.std() == pytest.approx(1.0, abs=0.02)
    assert values.mean() == pytest.approx(0.0, abs=0.02)
    for metres in (0.1, 2.0, 5.0, 10.0, 20.0, 40.0, 200.0):
        turn = rng.uniform(0.0, 2.0 * np.pi, 20)
        there = fields(here + metres * np.stack([np.cos(turn), np.sin(turn)], axis=1))
        found = (values * there).reshape(20, 2, 3000).mean(axis=(0, 2))
        assert found == pytest.approx(np.exp(-metres / np.array([10.0, 40.0])), abs=0.05)
    assert np.abs(np.corrcoef(values[:, :60].T) - np.eye(60)).mean() < 0.25


@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_large_scale_follows_its_place(scenario: str) -> None:
    config = RadioConfig(scenario=scenario)
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng)
    start = draw_users(config, rng)

    here, again = large_scale(deployment, start), large_scale(deployment, start)
    near = large_scale(deployment, start + 0.1)

    assert (here.gain == again.gain).all()
    assert (here.los == near.los).mean() > 0.9
    assert np.abs(near.shadow_db - here.shadow_db).max() < 4.0
    assert np.median(here.k_factor[~here.los]) < 0.2


def test_shadowing_has_the_spread_of_the_table() -> None:
    config = RadioConfig(num_users=4000)
    rng = np.random.default_rng(1)
    slow = large_scale(draw_deployment(config, rng), draw_users(config, rng))

    assert slow.shadow_db[slow.los].std() == pytest.approx(4.0, rel=0.15)
    # Through the tail of the soft state some direct power reaches even the deepest shadow out of sight.
    assert 6.0 < slow.shadow_db[~slow.los].std() < 8.2


@pytest.mark.parametrize("array", ["ula", "upa"])
def test_array_response_has_modulus_one_and_broadside_phase_zero(array: str) -> None:
    config = RadioConfig(array=array, num_antennas=8, user_height_m=10.0)
    nodes = np.array([[0.0, 0.0]])

    response = array_response(config, np.array([[0.0, 100.0], [100.0, 0.0]]), nodes)

    assert np.abs(response) == pytest.approx(1.0)
    assert response[0, 0] == pytest.approx(1.0)
    assert np.abs(response[1, 0].sum()) < 1e-9


def test_subbands_fade_apart_and_keep_their_power() -> None:
    config = RadioConfig(num_users=40, num_subbands=6)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    h = channel(deployment, users, draw_fading(config, rng))
    gain = large_scale(deployment, users).gain

    assert h.shape == (6, 40, 4, 8)
    ratio = (np.abs(h) ** 2).mean(axis=(0, 3)) / gain
    assert ratio.mean() == pytest.approx(1.0, abs=0.15)
    first, last = h[0].ravel(), h[5].ravel()
    overlap = np.abs(np.vdot(first / np.abs(first), last / np.abs(last))) / first.size
    assert overlap < 0.9


@pytest.mark.parametrize("ball", ["joint", "link"])
def test_the_radius_holds_the_stated_share_of_errors(ball: str) -> None:
    rng = np.random.default_rng(0)
    h = np.zeros((4000, 2, 3, 4), dtype=complex)
    std = pilot_error_std(0.2, 1e-3, 8)

    estimate = estimate_csi(h, std, rng, ball=ball, coverage=0.9)

    axes = (2, 3) if ball == "joint" else 3
    error = np.sqrt((np.abs(estimate.h_hat - h) ** 2).sum(axis=axes))
    assert estimate.radius.shape == error.shape
    assert (error <= estimate.radius).mean() == pytest.approx(0.9, abs=0.015)
    assert std == pytest.approx(np.sqrt(1e-3 / 1.6))


def test_sampled_errors_lie_on_the_ball() -> None:
    rng = np.random.default_rng(0)
    joint, link = rng.random(3), rng.random((3, 2))

    assert np.linalg.norm(sample_ball(joint, (3, 2, 4), rng), axis=(1, 2)) == pytest.approx(joint)
    assert np.linalg.norm(sample_ball(link, (3, 2, 4), rng), axis=2) == pytest.approx(link)
    assert error_radius(1.0, 1, 1 - np.exp(-1.0)) == pytest.approx(1.0)


def test_channel_files_give_back_what_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    saved = ChannelFile(h=rng.random((3, 2, 4)) + 1j, power_w=rng.random(2), nodes_xy=rng.random((2, 2)))
    path = tmp_path / "channel.npz"

    save_channel(path, saved)
    loaded = load_channel(path)

    for field in dataclasses.fields(ChannelFile):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        assert (before is None and after is None) or (before == after).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(2)}, "holds no array named h"),
        ({"h": np.ones((2, 2))}, "h must be finite numbers"),
        ({"h": np.full((2, 2, 2), np.nan)}, "h must be finite numbers"),
        ({"h": np.ones((2, 2, 2)), "noise_w": np.array(["a"])}, "noise_w must be finite real numbers"),
        ({"h": np.ones((2, 2, 2)), "users_xy": np.ones((3, 2))}, r"users_xy must be \(2, 2\)"),
        ({"h": np.array([[[object()]]])}, "not a plain .npz"),
    ],
)
def test_bad_channel_files_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)

    with pytest.raises(ChannelFileError, match=message):
        load_channel(path)


def test_a_text_file_is_not_a_channel_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_text("hello")

    with pytest.raises(ChannelFileError, match=r"not a plain \.npz"):
        load_channel(path)


@pytest.mark.parametrize(
    "change",
    [
        {"num_nodes": 0},
        {"scenario": "rma"},
        {"user_height_m": 20.0},
        {"num_subbands": 0},
        {"small_scale": "none"},
    ],
)
def test_bad_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        RadioConfig(**change)
