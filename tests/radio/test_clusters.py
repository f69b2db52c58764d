"""Clustered small-scale channels: laws of place, time, antennas and frequency."""

import dataclasses

import numpy as np
import pytest
from scipy.special import erfinv, j0

from radio import RadioConfig, draw_channel, draw_deployment, draw_users
from radio.channel import Deployment, array_response, channel, distances, draw_fading, large_scale
from radio.channel.clustered import link_clusters
from radio.channel.clusters import at_antennas, stretches
from radio.channel.large_scale import LargeScale
from radio.channel.pathloss import los_probability
from radio.channel.regions import draw_keys, make_regions, see
from radio.channel.tables import RAY_OFFSETS, link_tables
from radio.units import SPEED_OF_LIGHT_M_S

KINDS = ("clusters", "rician")


def _walk(start: list[float], heading: float, step_m: float, steps: int) -> np.ndarray:
    """A straight walk, (steps, 1, 2): one user, many moments."""
    ahead = step_m * np.arange(steps)[:, None] * [np.cos(heading), np.sin(heading)]
    return (np.array(start) + ahead)[:, None, :]


def _similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two channels over everything."""
    return float(np.abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_a_step_of_10_cm_never_changes_the_mean_gain_much(scenario: str) -> None:
    config = RadioConfig(scenario=scenario)
    jumps = []
    for seed in range(4):
        deployment = draw_deployment(config, np.random.default_rng(seed))
        walk = _walk([20.0, 40.0 + 100.0 * seed], 0.3, 0.1, 4600)
        jumps.append(np.abs(np.diff(10.0 * np.log10(large_scale(deployment, walk).gain), axis=0)).max())

    assert max(jumps) < 4.0


def test_the_soft_state_is_the_formula_of_tr_38901() -> None:
    config = RadioConfig(num_users=2000)
    deployment = draw_deployment(config, np.random.default_rng(0))
    users = draw_users(config, np.random.default_rng(1))
    slow = large_scale(deployment, users)
    normal = deployment.fields(users).reshape(2000, 4, -1)[..., 0]
    chance = np.minimum(los_probability(config, distances(config, users, deployment.nodes_xy)[0]), 1 - 1e-12)
    sharpness = np.sqrt(20.0 / config.wavelength_m)
    expected = 0.5 + np.arctan(sharpness * (normal + np.sqrt(2.0) * erfinv(2.0 * chance - 1.0))) / np.pi

    assert slow.los_soft == pytest.approx(expected, abs=1e-6)
    assert slow.los.mean() == pytest.approx(chance.mean(), abs=0.06)


def test_the_mixture_keeps_the_power_of_both_states() -> None:
    config = RadioConfig(num_users=500)
    deployment = draw_deployment(config, np.random.default_rng(0))
    slow = large_scale(deployment, draw_users(config, np.random.default_rng(1)))

    direct = slow.gain * slow.k_factor / (slow.k_factor + 1.0)
    parts = direct + slow.in_sight.scattered_gain + slow.hidden.scattered_gain
    assert parts == pytest.approx(slow.gain)
    assert (slow.in_sight.scattered_gain >= 0).all()
    assert (slow.hidden.scattered_gain >= 0).all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_large_scale_parameters_correlate_as_the_table_says(scenario: str) -> None:
    config = RadioConfig(scenario=scenario, num_nodes=64)
    rng = np.random.default_rng(0)
    drawn: list[list[np.ndarray]] = [[], []]
    for _ in range(60):
        slow = large_scale(draw_deployment(config, rng), rng.uniform(0.0, 500.0, (1, 2)))
        for state, rows in zip((slow.in_sight, slow.hidden), drawn, strict=True):
            k_factor = np.maximum(state.k_factor, 1e-300)
            rows.append(np.log10([k_factor, state.delay_spread_s, state.azimuth_spread_deg])[:, 0])
    for table, rows in zip(link_tables(config), drawn, strict=True):
        values = np.concatenate(rows, axis=1)
        wanted = np.array(table.correlation)[1:4, 1:4]
        assert values[1].mean() == pytest.approx(table.delay[0], abs=0.05)
        assert values[1].std() == pytest.approx(table.delay[1], rel=0.06)
        pairs = ((0, 1), (0, 2), (1, 2)) if table.k_db[1] else ((1, 2),)
        for i, j in pairs:
            assert np.corrcoef(values[i], values[j])[0, 1] == pytest.approx(wanted[i, j], abs=0.07)


def test_shadowing_correlates_with_the_k_factor_in_sight() -> None:
    config = RadioConfig(num_nodes=64)
    rng = np.random.default_rng(0)
    shadow, k_factor = [], []
    for _ in range(80):
        deployment = draw_deployment(config, rng, np.full((64, 2), 12.0))
        slow = large_scale(deployment, np.array([[0.0, 0.0]]))
        shadow.append(slow.shadow_db[0])
        k_factor.append(np.log10(slow.in_sight.k_factor[0]))

    # Table 7.5-6, UMi LOS: SF vs K is 0.5, and SF counts as more power.
    found = np.corrcoef(np.concatenate(shadow), np.concatenate(k_factor))[0, 1]
    assert found == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_correlation_matrices_are_positive_definite(scenario: str) -> None:
    for table in link_tables(RadioConfig(scenario=scenario)):
        matrix = np.array(table.correlation)
        assert (matrix == matrix.T).all()
        assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.parametrize(("scenario", "lowest_hz"), [("umi", 2e9), ("uma", 6e9)])
def test_tables_stop_at_the_lowest_carrier_of_their_notes(scenario: str, lowest_hz: float) -> None:
    at = link_tables(RadioConfig(scenario=scenario, carrier_hz=lowest_hz))

    assert link_tables(RadioConfig(scenario=scenario, carrier_hz=0.7e9)) == at
    assert link_tables(RadioConfig(scenario=scenario, carrier_hz=lowest_hz * 2)) != at


def test_fits_over_the_k_factor_stay_positive_at_any_k() -> None:
    k = 10.0 ** (np.linspace(-40.0, 60.0, 500) / 10.0)
    for scenario in ("umi", "uma"):
        for values in stretches(link_tables(RadioConfig(scenario=scenario))[0], k):
            assert 0.05 < values.min() < values.max() < 3.0


@pytest.mark.parametrize("array", ["ula", "upa"])
@pytest.mark.parametrize("carrier_hz", [0.5e9, 100e9])
@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_channels_are_finite_everywhere(scenario: str, carrier_hz: float, array: str) -> None:
    config = RadioConfig(
        scenario=scenario, carrier_hz=carrier_hz, array=array, num_antennas=6, num_subbands=2
    )
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng)
    users = np.concatenate([deployment.nodes_xy, deployment.nodes_xy + 1e-9, [[1e6, -1e6]]])

    assert np.isfinite(draw_channel(deployment, users, rng)).all()


def test_the_20_rays_of_a_cluster_have_a_spread_of_one_degree() -> None:
    assert len(RAY_OFFSETS) == 20
    assert RAY_OFFSETS.mean() == pytest.approx(0.0, abs=1e-12)
    assert RAY_OFFSETS.std() == pytest.approx(1.0, abs=0.001)


def test_clusters_live_for_the_correlation_distance() -> None:
    rng = np.random.default_rng(0)
    regions = make_regions(draw_keys(rng, (40,)), 4, 19, 15.0, 1)
    rows, nodes = np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    start, turn = rng.uniform(0.0, 500.0, (160, 2)), rng.uniform(0.0, 2.0 * np.pi, 160)
    ahead = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    here = see(regions, rows, nodes, start)

    def kept(distance_m: float) -> float:
        return float((see(regions, rows, nodes, start + distance_m * ahead).words == here.words).mean())

    assert kept(0.01) > 0.99
    assert kept(15.0) == pytest.approx(np.exp(-1.0), abs=0.04)
    assert kept(60.0) == 0.0
    seen = (here.amplitude**2).sum(axis=1)
    assert seen.mean() == pytest.approx(19.0, abs=0.5)


def test_cluster_powers_add_up_and_delays_follow_the_direct_path() -> None:
    config = RadioConfig(num_users=200)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    slow = large_scale(deployment, users)
    for los in (True, False):
        paths = link_clusters(deployment, users, draw_keys(rng), slow, los=los)
        assert paths.power.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
        assert (paths.power >= 0).all()
        assert (paths.delay_s >= 0).all()
        mean = (paths.power * paths.delay_s).sum(axis=1)
        spread = np.sqrt((paths.power * paths.delay_s**2).sum(axis=1) - mean**2)
        wanted = (slow.in_sight if los else slow.hidden).delay_spread_s.ravel()
        ratio = (
            1.0 if not los else 1.0 / 0.45
        )  # C_tau of (7.5-3) at K = 9 dB, before the direct path is added
        assert np.median(spread / wanted) == pytest.approx(ratio, rel=0.15)


@pytest.mark.parametrize("small_scale", KINDS)
def test_the_same_place_sees_the_same_channel_and_near_places_nearly_so(small_scale: str) -> None:
    config = RadioConfig(num_users=60, small_scale=small_scale)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    fading = draw_fading(config, rng)
    here = channel(deployment, users, fading)

    def alike(metres: float) -> float:
        there = channel(deployment, users + np.array([metres, 0.0]), fading)
        return float(np.mean([_similarity(a, b) for a, b in zip(here, there, strict=True)]))

    assert (channel(deployment, users, fading) == here).all()
    assert alike(0.001) > 0.995
    assert alike(0.01) > 0.9
    assert alike(0.01) > alike(0.03) > alike(30.0)
    assert alike(30.0) < 0.55


@pytest.mark.parametrize("small_scale", KINDS)
def test_channels_never_jump(small_scale: str) -> None:
    config = RadioConfig(num_users=1, small_scale=small_scale)
    rng = np.random.default_rng(3)
    deployment = draw_deployment(config, rng)
    h = channel(deployment, _walk([60.0, 140.0], 0.4, 0.002, 4_000), draw_fading(config, rng))[:, 0]
    # A wave turns by 2 pi / wavelength a metre at most: 0.15 rad in 2 mm; clusters coming up add to that.
    size = np.linalg.norm(h, axis=2)
    change = np.linalg.norm(np.diff(h, axis=0), axis=2)

    local = np.sqrt(np.apply_along_axis(lambda row: np.convolve(row, np.ones(200) / 200, "same"), 0, size**2))
    assert (change / local[1:])[200:-200].max() < 0.5


@pytest.mark.parametrize("small_scale", KINDS)
def test_one_step_of_10_ms_is_ten_of_1_ms(small_scale: str) -> None:
    config = RadioConfig(num_users=20, small_scale=small_scale)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    fading = draw_fading(config, rng)
    velocity = rng.normal(0.0, 10.0, (20, 2))
    small = users
    for _ in range(10):
        small = small + velocity * 1e-3

    one, ten = (channel(deployment, xy, fading) for xy in (users + velocity * 1e-2, small))
    assert np.abs(one - ten).max() < 1e-5 * np.abs(one).max()


@pytest.mark.parametrize("small_scale", KINDS)
def test_doppler_comes_from_geometry(small_scale: str) -> None:
    config = RadioConfig(num_nodes=1, num_users=1, num_antennas=2, small_scale=small_scale)
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng, np.array([[0.0, 0.0]]))
    step = config.wavelength_m / 8.0
    walk = _walk([60.0, 0.0], 0.0, step, 1024)
    spectra = []
    for _ in range(12):
        h = channel(deployment, walk, draw_fading(config, rng))[:, 0, 0, 0]
        spectra.append(np.abs(np.fft.fft(h * np.hanning(1024))) ** 2)
    spectrum = np.mean(spectra, axis=0) / np.sum(np.mean(spectra, axis=0))
    per_wavelength = np.fft.fftfreq(1024, 1.0 / 8.0)

    assert spectrum[np.abs(per_wavelength) > 1.05].sum() < 0.01
    k = large_scale(deployment, walk[:1]).k_factor[0, 0, 0]
    if k > 1.0:  # walking away from the node: the direct path turns backwards, one turn a wavelength
        assert per_wavelength[spectrum.argmax()] == pytest.approx(-1.0, abs=0.05)


def _mean_doppler(deployment: Deployment, heading: float, rng: np.random.Generator) -> float:
    """Mean frequency of scattered waves on a walk at 300 m, turns a wavelength."""
    step = deployment.config.wavelength_m / 8.0
    spectrum = np.zeros(512)
    for _ in range(15):
        h = channel(deployment, _walk([300.0, 0.0], heading, step, 512), draw_fading(deployment.config, rng))
        spectrum += np.abs(np.fft.fft(h[:, 0, 0, 0])) ** 2
    return float((spectrum * np.fft.fftfreq(512, 1.0 / 8.0)).sum() / spectrum.sum())


@pytest.mark.slow
def test_scattered_waves_come_from_around_the_node() -> None:
    config = RadioConfig(num_nodes=1, num_users=1, num_antennas=1)
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng, np.array([[0.0, 0.0]]))
    assert large_scale(deployment, np.array([[300.0, 0.0]])).k_factor[0, 0] < 0.15

    # Sionna's angles of arrival have a mean cosine of 0.42 to the direct path out of sight (test_sionna.py).
    assert _mean_doppler(deployment, 0.0, rng) == pytest.approx(-0.42, abs=0.2)
    assert _mean_doppler(deployment, np.pi, rng) == pytest.approx(0.42, abs=0.2)
    assert _mean_doppler(deployment, np.pi / 2.0, rng) == pytest.approx(0.0, abs=0.2)


def test_simple_fading_correlates_over_places_as_clarke_says() -> None:
    config = RadioConfig(small_scale="rician", num_nodes=2, num_antennas=32)
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng)
    slow = large_scale(deployment, np.array([[490.0, 490.0]]))
    places = np.array([[490.0, 490.0], [490.02, 490.0]])
    drawn = np.stack([channel(deployment, places, draw_fading(config, rng)) for _ in range(400)])
    node = int(slow.k_factor[0].argmin())
    a, b = (drawn[:, i, node] - drawn[:, i, node].mean(axis=0) for i in (0, 1))

    expected = j0(2.0 * np.pi * 0.02 / config.wavelength_m)
    assert (a.conj() * b).mean() / np.mean(np.abs(a) ** 2) == pytest.approx(expected, abs=0.05)
    neighbours = (a[:, 1:].conj() * a[:, :-1]).mean() / np.mean(np.abs(a) ** 2)
    assert abs(neighbours) < 0.05


@pytest.mark.sampled(3)
@pytest.mark.parametrize("small_scale", KINDS)
@pytest.mark.parametrize("num_subbands", [1, 5])
def test_mean_power_is_the_large_scale_gain(small_scale: str, num_subbands: int) -> None:
    config = RadioConfig(num_users=3, small_scale=small_scale, num_subbands=num_subbands)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)

    h = draw_channel(deployment, np.broadcast_to(users, (250, 3, 2)), rng).reshape(-1, 250, 3, 4, 8)

    power = (np.abs(h) ** 2).mean(axis=(1, 4))
    assert power == pytest.approx(np.broadcast_to(large_scale(deployment, users).gain, power.shape), rel=0.25)


def test_nodes_fade_apart() -> None:
    config = RadioConfig(num_users=1, num_nodes=2)
    rng = np.random.default_rng(0)
    deployment = draw_deployment(config, rng, np.array([[0.0, 0.0], [0.0, 0.0]]))
    h = draw_channel(deployment, np.full((2000, 1, 2), 150.0), rng)[:, 0]
    h = h - h.mean(axis=0)

    assert _similarity(h[:, 0], h[:, 1]) < 0.05


def _direct_only(deployment: Deployment, users: np.ndarray, slow: LargeScale) -> np.ndarray:
    config = deployment.config
    _, space = distances(config, users, deployment.nodes_xy)
    direct = np.sqrt(slow.gain * slow.k_factor / (slow.k_factor + 1.0))
    direct = direct * np.exp(-2j * np.pi * space / config.wavelength_m)
    return direct[..., None] * array_response(config, users, deployment.nodes_xy)


@pytest.mark.parametrize("small_scale", KINDS)
def test_subbands_turn_by_the_delay_of_the_direct_path(small_scale: str) -> None:
    config = RadioConfig(num_users=12, num_antennas=4, num_subbands=4, small_scale=small_scale)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    slow = large_scale(deployment, users)
    _, space = distances(config, users, deployment.nodes_xy)

    mean = draw_channel(deployment, np.broadcast_to(users, (200, 12, 2)), rng).mean(axis=1)

    # Scattered waves have random phases, so what is left of the mean is the direct path.
    offsets = (np.arange(4) - 1.5) * config.bandwidth_hz / 4.0
    delay = np.exp(-2j * np.pi * offsets[:, None, None] * space / SPEED_OF_LIGHT_M_S)
    expected = _direct_only(deployment, users, slow) * delay[..., None]
    clear = slow.k_factor > 2.0
    assert clear.sum() > 3
    assert mean[:, clear] == pytest.approx(expected[:, clear], abs=0.1 * np.abs(expected[:, clear]).max())
    for s in range(4):
        assert _similarity(mean[s][clear], expected[s][clear]) > 0.97


def test_scattered_waves_correlate_over_frequency_as_their_delays_say() -> None:
    config = RadioConfig(num_users=1, num_nodes=1, num_subbands=8, num_antennas=4)
    rng = np.random.default_rng(3)
    deployment = draw_deployment(config, rng, np.array([[0.0, 0.0]]))
    users = np.array([[300.0, 0.0]])
    slow = large_scale(deployment, users)
    assert slow.los_soft[0, 0] < 0.05
    h = draw_channel(deployment, np.broadcast_to(users, (1500, 1, 2)), rng)[:, :, 0, 0]
    h = h - h.mean(axis=1, keepdims=True)
    seen = [link_clusters(deployment, users, draw_keys(rng), slow, los=False) for _ in range(300)]
    for step in (1, 2, 7):
        turn = 2.0 * np.pi * config.bandwidth_hz / 8.0 * step
        expected = np.mean([(c.power * np.exp(-1j * turn * c.delay_s)).sum() for c in seen])
        assert _similarity(h[0], h[step]) == pytest.approx(abs(expected), abs=0.08)


def _neighbours_by_spread() -> tuple[np.ndarray, np.ndarray]:
    """Spread of departure of links out of sight, and the correlation of neighbour antennas over draws."""
    config = RadioConfig(num_users=1, num_nodes=1)
    rng = np.random.default_rng(0)
    users = np.array([[0.0, 300.0]])
    found = []
    while len(found) < 12:
        deployment = draw_deployment(config, rng, np.array([[0.0, 0.0]]))
        slow = large_scale(deployment, users)
        if slow.los_soft[0, 0] < 0.02:
            h = draw_channel(deployment, np.broadcast_to(users, (250, 1, 2)), rng)[:, 0, 0]
            h = h - h.mean(axis=0)
            found.append((slow.hidden.azimuth_spread_deg[0, 0], _similarity(h[:, 1:], h[:, :-1])))
    return np.array(found)[:, 0], np.array(found)[:, 1]


def test_narrower_angles_make_neighbour_antennas_more_alike() -> None:
    spread, likeness = _neighbours_by_spread()

    assert np.corrcoef(np.log(spread), likeness)[0, 1] < -0.7
    assert likeness[spread < 12.0].min() > 0.45
    assert likeness[spread > 40.0].max() < 0.45


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 1), (7, 1), (8, 1), (64, 1), (3, 2), (4, 4)])
def test_waves_add_up_at_every_antenna(columns: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    waves, right, up = (np.exp(1j * rng.normal(0.0, 1.0, (5, 30))).astype(np.complex64) for _ in range(3))
    i, j = np.divmod(np.arange(columns * rows), rows)
    expected = np.stack([(waves * right**a * up**b).sum(axis=1) for a, b in zip(i, j, strict=True)], axis=1)

    found = at_antennas(waves, right, None if rows == 1 else up, columns, rows)

    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("array", ["ula", "upa"])
def test_scattered_waves_leave_the_array_around_the_direction_of_the_user(array: str) -> None:
    config = RadioConfig(num_users=1, num_nodes=1, num_antennas=16, array=array)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(25):
        deployment = draw_deployment(config, rng, np.array([[0.0, 0.0]]))
        users = 250.0 * np.array([[np.cos(1.1), np.sin(1.1)]])
        h = draw_channel(deployment, np.broadcast_to(users, (40, 1, 2)), rng)[:, 0, 0]
        h = (h - h.mean(axis=0)) / np.sqrt(large_scale(deployment, users).gain[0, 0])
        ahead = array_response(config, users, deployment.nodes_xy)[0, 0]
        gains.append((np.abs(h @ ahead.conj()) ** 2).mean() / (np.abs(h) ** 2).mean() / 16)

    # 1/16 is what waves from everywhere would give.
    assert np.mean(gains) > 3.0 / 16


def test_leading_axes_are_independent_draws_and_one_fading_serves_many_moments() -> None:
    config = RadioConfig(num_users=5)
    rng = np.random.default_rng(0)
    deployment, users = draw_deployment(config, rng), draw_users(config, rng)
    many = np.broadcast_to(users, (3, 2, 5, 2))
    fading = draw_fading(config, rng, (3, 1))

    h = channel(deployment, many, fading)

    assert h.shape == (3, 2, 5, 4, 8)
    assert h[:, 0] == pytest.approx(h[:, 1], abs=1e-6 * np.abs(h).max())
    assert (h[0] != h[1]).any()
    alone = dataclasses.replace(fading, keys=fading.keys[1, 0])
    assert channel(deployment, users, alone) == pytest.approx(h[1, 0], abs=1e-6 * np.abs(h).max())
    assert channel(deployment, users[:0], alone).shape == (0, 4, 8)
