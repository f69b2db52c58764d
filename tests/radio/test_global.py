"""The global solver against closed forms, grids and the fast solver."""

from collections.abc import Callable

import numpy as np
import pytest

from radio import (
    BadInputError,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_iid,
    draw_users,
    single_user_snr,
    solve_broadcast,
)
from radio.bounds import exact_bound
from radio.problem import normalise
from radio.reference.forms import Forms, relax_forms
from radio.reference.global_beam import global_beam


def iid(seed: int, users: int, nodes: int, antennas: int) -> np.ndarray:
    return normalise(draw_iid(users, nodes, antennas, np.random.default_rng(seed)), 1.0, 1.0).g[0]


def grid_value(g: np.ndarray, beams: np.ndarray) -> float:
    """Best min power over beams (size, beams)."""
    return float((np.abs(g.reshape(len(g), -1) @ beams) ** 2).min(axis=0).max())


def circle(first: np.ndarray, second: np.ndarray, phases: int = 400) -> np.ndarray:
    """[first; second exp(j phase)] for every pair and phase."""
    turn = np.exp(2j * np.pi * np.arange(phases) / phases)
    top = np.repeat(first[:, None], phases, axis=1).ravel()
    return np.stack([top.astype(complex), (second[:, None] * turn).ravel()])


@pytest.mark.parametrize("seed", range(4))
def test_one_node_of_two_antennas_equals_a_grid(seed: int) -> None:
    g = iid(seed, 6, 1, 2)
    angle = np.linspace(0, np.pi / 2, 400)

    found = global_beam(g)

    best = grid_value(g, circle(np.cos(angle), np.sin(angle)))
    assert best * (1 - 1e-3) <= found.value <= found.upper <= found.value * 1.001 * (1 + 1e-9)
    assert best <= found.upper <= 1.01 * best


@pytest.mark.parametrize("seed", range(4))
def test_two_nodes_of_one_antenna_equal_a_grid(seed: int) -> None:
    g = iid(seed, 6, 2, 1)
    less, full = np.linspace(0, 1, 400), np.ones(400)

    found = global_beam(g)

    best = max(grid_value(g, circle(less, full)), grid_value(g, circle(full, less)))
    assert best * (1 - 1e-3) <= found.value
    assert best <= found.upper <= 1.01 * best


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_and_proven_fits_together(seed: int) -> None:
    g = iid(seed, 7, 2, 2)

    found = global_beam(g)

    assert np.abs(np.einsum("kna,na->k", g, found.beam)).min() ** 2 == pytest.approx(found.value)
    assert (np.linalg.norm(found.beam, axis=1) <= 1 + 1e-9).all()
    assert found.value <= found.upper <= found.relaxation <= found.value * 2
    assert found.relaxation == exact_bound(g[None], np.ones((1, 7), dtype=bool)).upper[0]


def test_a_target_out_of_reach_is_proven_sooner_and_a_limit_leaves_a_bound() -> None:
    g = iid(2, 8, 2, 4)
    whole = global_beam(g, 1e-3)

    sooner = global_beam(g, 1e-3, target=1.01 * whole.value)
    one = global_beam(g, 1e-3, max_boxes=1)

    assert whole.value < sooner.upper <= 1.01 * whole.value * (1 + 1e-9)
    assert one.num_boxes == 1 <= sooner.num_boxes < whole.num_boxes
    assert whole.upper <= one.upper <= one.relaxation


@pytest.mark.parametrize("seed", range(5))
def test_no_multipliers_close_a_box_that_holds_a_beam(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = iid(seed, 5, 2, 2).reshape(5, 4)
    v = rng.standard_normal(4) + 1j * rng.standard_normal(4)
    v /= np.repeat(np.linalg.norm(v.reshape(2, 2), axis=1), 2)
    v *= np.exp(-1j * np.angle(g[0] @ v))
    received = g @ v
    half = np.r_[0.0, rng.uniform(0.05, 1.5, 4)]
    middle = np.angle(received) + rng.uniform(-1, 1, 5) * half
    wide = np.c_[np.zeros(5), g / np.abs(received).min()]
    unit = np.eye(5)[:1]

    relaxed = relax_forms(
        Forms(
            a=np.concatenate([wide, np.exp(-1j * middle)[:, None] * wide, -1j * wide[:1]])[None],
            b=np.concatenate([wide, np.repeat(unit, 6, axis=0)])[None],
            least=np.concatenate([np.ones(5), np.cos(half), [0.0]])[None],
            counts=np.ones((1, 11), dtype=bool),
            starts=np.array([0, 1, 3]),
        )
    )

    assert relaxed.bound[0] >= 1.0


def test_the_solver_takes_masks_and_units(draw: Callable[..., tuple[np.ndarray, ...]]) -> None:
    h, power, noise = draw((5, 3, 2, 3))
    users = np.array([[True] * 5, [False, True, False, False, False]])
    holders = np.array([[True, False, True], [True, True, True]])

    best = solve_broadcast(h, power, noise, holders, users, solver="global")
    fast = solve_broadcast(h, power, noise, holders, users)

    assert (best.min_snr >= fast.min_snr * (1 - 1e-6)).all()
    assert (best.gap <= 1.1e-3).all()
    assert not best.w[0, 1].any()
    assert best.min_snr[1] == pytest.approx(single_user_snr(h, power, noise)[1], rel=1e-4)


@pytest.mark.parametrize("change", [{"rank": 2}, {"csi_error": np.ones(2)}])
def test_it_is_for_single_beams_without_error(change: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match="global"):
        solve_broadcast(np.ones((2, 2, 2)), 1.0, 1.0, solver="global", **change)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("nodes", "antennas", "users"), [(2, 1, 8), (4, 1, 8), (2, 2, 8)])
def test_the_fast_solver_comes_close_where_full_power_is_not_best(
    nodes: int, antennas: int, users: int
) -> None:
    g = np.stack([iid(seed, users, nodes, antennas) for seed in range(8)])

    fast = solve_broadcast(g, 1.0, 1.0)
    best = solve_broadcast(g, 1.0, 1.0, solver="global")

    share = fast.min_snr / best.min_snr
    assert share.min() >= 0.97
    assert np.median(share) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "antennas", "users"), [(2, 2, 8), (2, 4, 8), (4, 4, 16)])
def test_the_fast_solver_finds_the_best_beam(nodes: int, antennas: int, users: int) -> None:
    config = RadioConfig(num_nodes=nodes, num_antennas=antennas, num_users=users)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)

        best = solve_broadcast(h, config.power_w, config.noise_w, solver="global")
        fast = solve_broadcast(h, config.power_w, config.noise_w)

        assert fast.min_snr >= 0.998 * best.min_snr
        assert best.upper_bound <= fast.upper_bound * (1 + 1e-6)
