"""Our TR 38.901 against an independent one: `pip install sionna-no-rt`, then `pytest -m slow tests/radio`."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from radio import RadioConfig, draw_deployment
from radio.channel import channel, draw_fading, large_scale, los_probability, path_loss_db
from radio.channel.clustered import link_clusters, scattered
from radio.channel.regions import draw_keys
from radio.channel.tables import RAY_OFFSETS, link_tables

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
GROUND = np.array([10.0, 18.0, 35.0, 50.0, 100.0, 200.0, 250.0, 400.0, 700.0])
DRAWS = 3000
QUARTILES = (25, 50, 75)
STATES = [(scenario, los) for scenario in ("umi", "uma") for los in (True, False)]


def _sionna(config: RadioConfig, ground: np.ndarray, *, los: bool, rows: int = 1) -> Any:  # noqa: ANN401
    """Their model with users straight ahead of a line of antennas at these distances, `rows` times."""
    pytest.importorskip("sionna", reason="sionna-no-rt is not installed: pip install sionna-no-rt")
    import torch
    from sionna.phy.channel import tr38901

    def antennas(count: int) -> Any:  # noqa: ANN401
        return tr38901.PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=count,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=config.carrier_hz,
        )

    torch.manual_seed(0)
    model = {"umi": tr38901.UMi, "uma": tr38901.UMa}[config.scenario](
        carrier_frequency=config.carrier_hz,
        o2i_model="low",
        ut_array=antennas(1),
        bs_array=antennas(config.num_antennas),
        direction="downlink",
        enable_pathloss=False,
        enable_shadow_fading=False,
        spec_version="16.1",
    )
    users, node = torch.zeros(rows, len(ground), 3), torch.zeros(rows, 1, 3)
    users[:, :, 0], users[..., 2], node[..., 2] = torch.tensor(ground), 1.5, config.height_m
    model.set_topology(
        ut_loc=users,
        bs_loc=node,
        ut_orientations=torch.zeros_like(users),
        bs_orientations=torch.zeros_like(node),
        ut_velocities=torch.zeros_like(users),
        in_state=torch.zeros(rows, len(ground), dtype=torch.bool),
        los=los,
    )
    return model


@pytest.mark.parametrize("carrier_hz", [2.6e9, 3.5e9, 28e9])
@pytest.mark.parametrize("scenario", ["umi", "uma"])
def test_path_loss_and_los_probability_agree_with_sionna(scenario: str, carrier_hz: float) -> None:
    config = RadioConfig(scenario=scenario, carrier_hz=carrier_hz)
    space = np.hypot(GROUND, config.height_m - 1.5)

    for los in (True, False):
        model = _sionna(config, GROUND, los=los)
        theirs = model._scenario.basic_pathloss.numpy().reshape(-1)
        ours = path_loss_db(config, GROUND, space, np.full(GROUND.shape, los))
        assert ours == pytest.approx(theirs, abs=0.2)
        chance = model._scenario.los_probability.numpy().reshape(-1)
        assert los_probability(config, GROUND) == pytest.approx(chance, abs=1e-3)


def _spreads(
    power: np.ndarray, delay: np.ndarray, angle: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Rms delay and azimuth spread, degrees, with a direct path of power k at 0 (annex A.1 for angles)."""
    zero = np.zeros((len(power), 1))
    power = np.concatenate([k[:, None], power / power.sum(axis=1, keepdims=True)], axis=1)
    power = power / power.sum(axis=1, keepdims=True)
    delay, angle = np.concatenate([zero, delay], axis=1), np.concatenate([zero, angle], axis=1)
    mean = (power * delay).sum(axis=1)
    length = np.abs((power * np.exp(1j * angle)).sum(axis=1))
    spread = np.sqrt(np.maximum((power * delay**2).sum(axis=1) - mean**2, 0.0))
    return spread, np.rad2deg(np.sqrt(-2.0 * np.log(length)))


def _theirs(config: RadioConfig, *, los: bool) -> dict[str, np.ndarray]:
    model = _sionna(config, np.array([100.0]), los=los, rows=DRAWS)
    slow = model._lsp_sampler()
    rays = model._ray_sampler(slow)
    power, delay, angle = (x.numpy()[:, 0, 0].astype(float) for x in (rays.powers, rays.delays, rays.aod))
    count = angle.shape[-1]
    k = slow.k_factor.numpy().reshape(-1) if los else np.zeros(DRAWS)
    flat = np.repeat(power, count, 1), np.repeat(delay, count, 1), angle.reshape(DRAWS, -1)
    share = power / power.sum(axis=1, keepdims=True)
    spread, azimuth = _spreads(*flat, k)
    direct = np.deg2rad(model._scenario.los_aoa.numpy()).reshape(-1, 1, 1)
    toward = (share * np.cos(rays.aoa.numpy()[:, 0, 0] - direct).mean(axis=2)).sum(axis=1)
    paths = 1.0 / (share**2).sum(axis=1)
    return {"delay": spread, "azimuth": azimuth, "k": k, "paths": paths, "arrival": toward}


def _ours(config: RadioConfig, *, los: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    table, offsets = link_tables(config)[0 if los else 1], np.deg2rad(RAY_OFFSETS)
    nodes = np.tile([[0.0, 0.0]], (config.num_nodes, 1))
    found: dict[str, list[np.ndarray]] = {"delay": [], "azimuth": [], "k": [], "paths": [], "arrival": []}
    for _ in range(DRAWS // config.num_nodes):
        deployment = draw_deployment(config, rng, nodes)
        users = np.array([[100.0, 0.0]])
        slow = large_scale(deployment, users)
        paths = link_clusters(deployment, users, draw_keys(rng), slow, los=los)
        power, delay = (np.repeat(x.astype(float), 20, 1) for x in (paths.power, paths.delay_s))
        angle = (paths.azimuth[..., None] + offsets * table.ray_departure).reshape(len(power), -1)
        k = (slow.in_sight if los else slow.hidden).k_factor.ravel()
        spread, azimuth = _spreads(power, delay, angle, k)
        within = np.cos(offsets * table.ray_arrival).mean()
        toward = -(paths.power * paths.arrival[0]).sum(axis=1) * within  # the node lies at -x
        values = (spread, azimuth, k, 1.0 / (paths.power**2).sum(axis=1), toward)
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return {name: np.concatenate(values) for name, values in found.items()}


@pytest.mark.parametrize(("scenario", "los"), STATES)
def test_delay_spread_angle_spread_k_and_paths_agree_with_sionna_by_distribution(
    scenario: str, los: bool
) -> None:
    config = RadioConfig(scenario=scenario, num_nodes=50)

    theirs, ours = _theirs(config, los=los), _ours(config, los=los)

    # In decades, at each quartile; 0.08 is 20 %.
    for name in ("delay", "azimuth", "k") if los else ("delay", "azimuth"):
        a, b = (np.log10(np.percentile(x[name], QUARTILES)) for x in (theirs, ours))
        assert b == pytest.approx(a, abs=0.08), name
    a, b = (np.percentile(x["paths"], QUARTILES) for x in (theirs, ours))
    assert b == pytest.approx(a, rel=0.1)
    # By link ours is narrower: each cluster has an angle spread of arrival of its own.
    assert ours["arrival"].mean() == pytest.approx(theirs["arrival"].mean(), abs=0.1)


@pytest.mark.parametrize(("scenario", "los"), STATES)
def test_antenna_correlation_agrees_with_sionna(scenario: str, los: bool) -> None:
    config = RadioConfig(scenario=scenario, num_nodes=50)
    model = _sionna(config, np.array([100.0]), los=los, rows=DRAWS)
    theirs = model(num_time_samples=1, sampling_frequency=1.0)[0].numpy()[:, 0, 0, 0, :, :, 0].sum(axis=-1)
    rng = np.random.default_rng(0)
    users, drawn = np.array([[0.0, 100.0]]), []  # our line lies along x, so this is straight ahead
    for _ in range(DRAWS // config.num_nodes):
        deployment = draw_deployment(config, rng, np.zeros((config.num_nodes, 2)))
        slow = large_scale(deployment, users)
        k = (slow.in_sight if los else slow.hidden).k_factor
        states = [
            dataclasses.replace(state, scattered_gain=mine / (k + 1.0))
            for state, mine in ((slow.in_sight, float(los)), (slow.hidden, float(not los)))
        ]
        slow = dataclasses.replace(slow, in_sight=states[0], hidden=states[1])
        waves = scattered(deployment, users, draw_keys(rng), slow, None)[0]
        drawn.append(waves + np.sqrt(k / (k + 1.0))[0][:, None])
    ours = np.concatenate(drawn)

    assert (np.abs(ours) ** 2).mean() == pytest.approx((np.abs(theirs) ** 2).mean(), rel=0.05)
    for step in (1, 2, 3, 7):
        a, b = (abs((h[:, 0] * h[:, step].conj()).mean()) / (np.abs(h) ** 2).mean() for h in (theirs, ours))
        assert b == pytest.approx(a, abs=0.08)


def test_neighbour_antennas_out_of_sight_are_as_alike_as_in_sionna() -> None:
    # By link, over the small area in which a link keeps its clusters: the 0.65 of a narrow street.
    config = RadioConfig(num_nodes=30, num_users=1)
    rng = np.random.default_rng(0)
    ours = []
    for _ in range(10):
        deployment = draw_deployment(config, rng, np.zeros((30, 2)))
        around = np.array([[0.0, 300.0]]) + rng.uniform(-2.0, 2.0, (150, 1, 2))
        hidden = large_scale(deployment, around[:1]).los_soft[0, 0] < 0.02
        h = channel(deployment, around, draw_fading(config, rng))[:, 0, hidden]
        ours.append(_alike(h))
    model = _sionna(config, np.array([300.0]), los=False, rows=200)
    rays = model._ray_sampler(model._lsp_sampler())
    power, azimuth, zenith = (x.numpy()[:, 0, 0] for x in (rays.powers, rays.aod, rays.zod))
    turn = np.exp(1j * np.pi * np.sin(azimuth) * np.sin(zenith)).mean(axis=-1)
    theirs = np.abs((power * turn).sum(axis=1)) / power.sum(axis=1)

    assert np.median(np.concatenate(ours)) == pytest.approx(np.median(theirs), abs=0.12)


def _alike(h: np.ndarray) -> np.ndarray:
    """Correlation of neighbour antennas over places, (links,); h is (places, links, antennas)."""
    product = (h[..., 1:] * h[..., :-1].conj()).mean(axis=(0, 2))
    return np.asarray(np.abs(product) / (np.abs(h) ** 2).mean(axis=(0, 2)))
