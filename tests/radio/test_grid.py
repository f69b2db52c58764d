"""Resource blocks in groups that share a beam: what holds for any grouping."""

import numpy as np
import pytest

from radio import (
    BadInputError,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_iid,
    draw_users,
    rate_bit_s_hz,
    solve_broadcast,
    solve_grid,
    solve_subbands,
)

POWER, NOISE = np.array([4.0, 9.0]), np.array([1e-12, 2e-12, 1e-12])


def _channel(seed: int = 0, blocks: int = 10) -> np.ndarray:
    return draw_iid(3, 2, 4, np.random.default_rng(seed), (blocks,)) * 1e-6


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 50])
def test_the_rate_is_what_the_beams_give_and_the_power_holds(size: int) -> None:
    h = _channel()
    result = solve_grid(h, POWER, NOISE, size)

    assert len(result.w) == -(-10 // size)
    sent = result.w[result.group]
    assert ((np.abs(sent) ** 2).sum(axis=(0, 2)) <= POWER * (1.0 + 1e-9)).all()
    snr = np.abs(np.einsum("bkna,bna->bk", h, sent)) ** 2 / (NOISE / 10.0)
    assert result.snr == pytest.approx(snr)
    assert result.rate_bit_s_hz == pytest.approx(rate_bit_s_hz(snr).mean(axis=0).min())
    assert result.rate_bit_s_hz <= result.upper_bound * (1.0 + 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_no_beams_of_a_grouping_pass_its_bound(seed: int) -> None:
    h, rng = _channel(seed, 6), np.random.default_rng(seed)
    result = solve_grid(h, POWER, NOISE, 3)
    tries = draw_iid(2, 2, 4, rng, (2000,)).repeat(3, axis=1)
    tries *= np.sqrt(POWER / (np.abs(tries) ** 2).sum(axis=(1, 3)))[:, None, :, None]
    snr = np.abs(np.einsum("bkna,xbna->xbk", h, tries)) ** 2 / (NOISE / 6.0)
    reached = rate_bit_s_hz(snr).mean(axis=1).min(axis=1).max()

    assert reached <= result.upper_bound
    assert reached <= result.rate_bit_s_hz


def test_groups_of_one_are_subbands_and_coarser_groups_cost_where_blocks_fade_apart() -> None:
    h = _channel()
    rates = [solve_grid(h, POWER, NOISE, size).rate_bit_s_hz for size in (1, 2, 5, 10)]

    assert rates[0] >= solve_subbands(h, POWER, NOISE).rate_bit_s_hz * (1.0 - 1e-9)
    assert rates[0] > rates[1] > rates[2] > rates[3]


def test_on_a_flat_channel_grouping_costs_nothing() -> None:
    h = np.repeat(_channel(blocks=1), 8, axis=0)
    alone = rate_bit_s_hz(solve_broadcast(h[0], POWER, NOISE).min_snr)

    for size in (1, 2, 3, 8):
        assert solve_grid(h, POWER, NOISE, size).rate_bit_s_hz == pytest.approx(float(alone), rel=0.01)


def test_neighbours_of_a_real_channel_may_share_a_beam_at_a_small_cost() -> None:
    config = RadioConfig(num_users=6, num_subbands=24)
    rng = np.random.default_rng(1)
    h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)

    each, pairs, wide = (solve_grid(h, config.power_w, config.noise_w, size) for size in (1, 2, 24))

    assert each.rate_bit_s_hz >= pairs.rate_bit_s_hz >= wide.rate_bit_s_hz
    assert pairs.rate_bit_s_hz > 0.6 * each.rate_bit_s_hz


def test_masks_and_users_who_hear_nothing() -> None:
    h = _channel()
    h[:, 1] = 0.0
    dead, dropped = (solve_grid(h, POWER, NOISE, 2, on_dead_user=how) for how in ("report", "drop"))
    masked = solve_grid(h, POWER, NOISE, 2, [False, True], [True, False, True])
    nobody = solve_grid(h, POWER, NOISE, 2, users=[False] * 3)
    silent = solve_grid(h, POWER, NOISE, 2, holders=[False, False])

    assert dead.rate_bit_s_hz == 0.0
    assert dropped.rate_bit_s_hz > masked.rate_bit_s_hz > 0.0
    assert (masked.w[:, 0] == 0).all()
    assert nobody.rate_bit_s_hz == np.inf
    assert silent.rate_bit_s_hz == 0.0
    for bad in (0, -1):
        with pytest.raises(BadInputError, match="blocks_per_group"):
            solve_grid(h, POWER, NOISE, bad)
