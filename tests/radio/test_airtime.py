"""Airtime, groups, superposition, subbands and baselines."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import (
    BASELINES,
    BadInputError,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_users,
    plan_groups,
    rate_bit_s_hz,
    single_user_snr,
    solve_baseline,
    solve_broadcast,
    solve_subbands,
    superpose,
)

Size = tuple[int, int, int, int]
Draw = Callable[[Size], tuple[np.ndarray, np.ndarray, np.ndarray]]
seeds = st.integers(0, 2**31)


def partitions(items: list[int]) -> list[list[list[int]]]:
    if not items:
        return [[]]
    found = []
    for size in range(len(items)):
        for rest in itertools.combinations(items[1:], size):
            left = [i for i in items[1:] if i not in rest]
            found += [[[items[0], *rest], *others] for others in partitions(left)]
    return found


@pytest.mark.parametrize("objective", ["airtime", "mean-delay"])
@pytest.mark.parametrize("seed", range(3))
def test_small_plans_are_the_best_of_all_partitions(draw: Draw, objective: str, seed: int) -> None:
    h, power, noise = draw((4, 2, 2, seed))
    noise = noise * 1e3  # low SNR: splitting pays

    plan = plan_groups(h, power, noise, objective=objective)

    best = np.inf
    for parts in partitions([0, 1, 2, 3]):
        masks = np.zeros((len(parts), 4), dtype=bool)
        for row, part in enumerate(parts):
            masks[row, part] = True
        times = 1 / solve_broadcast(h, power, noise, users=masks).rate_bit_s_hz
        for order in itertools.permutations(range(len(parts))):
            ends = np.cumsum(times[list(order)])
            sizes = np.array([len(parts[i]) for i in order])
            best = min(best, ends[-1] if objective == "airtime" else (ends * sizes).sum() / 4)
    ours = plan.time_s_hz_bit if objective == "airtime" else plan.mean_delay_s_hz_bit
    assert plan.exact
    assert ours == pytest.approx(best, rel=0.01)


@pytest.mark.slow
@given(seeds, st.sampled_from([3, 6, 11, 30]), st.sampled_from(["airtime", "mean-delay"]))
@settings(max_examples=15, deadline=None)
def test_groups_cover_each_user_once_and_are_never_worse_than_one_group(
    draw: Draw, seed: int, users: int, objective: str
) -> None:
    h, power, noise = draw((users, 3, 2, seed))

    plan = plan_groups(h, power, noise * 100, objective=objective)

    assert sorted(user for group in plan.groups for user in group) == list(range(users))
    time = plan.time_s_hz_bit if objective == "airtime" else plan.mean_delay_s_hz_bit
    assert time <= plan.single_s_hz_bit * (1 + 1e-9)
    assert plan.mean_delay_s_hz_bit <= plan.time_s_hz_bit * (1 + 1e-12)


def test_one_far_user_is_served_apart() -> None:
    rng = np.random.default_rng(0)
    h = (rng.standard_normal((9, 2, 4)) + 1j * rng.standard_normal((9, 2, 4))) * 10.0
    h[8] *= 1e-3

    plan = plan_groups(h, 1.0, 1.0, objective="mean-delay")

    assert plan.groups[-1] == (8,)
    assert plan.mean_delay_s_hz_bit < 0.2 * plan.single_s_hz_bit


def test_no_user_and_no_holder_have_a_plan(draw: Draw) -> None:
    h, power, noise = draw((3, 2, 2, 0))

    nobody = plan_groups(h, power, noise, users=np.zeros(3, dtype=bool))
    unheld = plan_groups(h, power, noise, holders=np.zeros(2, dtype=bool))

    assert nobody.groups == ()
    assert nobody.time_s_hz_bit == 0
    assert unheld.groups == ((0, 1, 2),)
    assert unheld.time_s_hz_bit == np.inf


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_no_baseline_beats_the_bound(draw: Draw, seed: int) -> None:
    h, power, noise = draw((5, 3, 2, seed))
    bound = float(rate_bit_s_hz(solve_broadcast(h, power, noise, certify="exact").upper_bound))

    rates = {name: solve_baseline(name, h, power, noise).rate_bit_s_hz for name in BASELINES}

    assert all(0 < rate <= bound * (1 + 1e-6) for rate in rates.values())


def test_with_one_user_the_matched_baselines_are_optimal(draw: Draw) -> None:
    h, power, noise = draw((1, 3, 2, 0))
    best = float(rate_bit_s_hz(single_user_snr(h, power, noise)[0]))

    for name in ("mrt-weakest", "unicast-tdma"):
        assert solve_baseline(name, h, power, noise).rate_bit_s_hz == pytest.approx(best)
    assert solve_baseline("isotropic", h, power, noise).rate_bit_s_hz < best


def test_more_users_than_antennas_are_zero_forced_in_groups(draw: Draw) -> None:
    h, power, noise = draw((7, 1, 3, 0))

    result = solve_baseline("unicast-zf", h, power, noise)

    assert (result.snr > 0).all()
    assert result.rate_bit_s_hz > 0


def test_concurrent_groups_keep_power_and_report_their_true_sinr() -> None:
    config = RadioConfig(num_users=6, num_antennas=4)
    rng = np.random.default_rng(1)
    h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)
    groups = [[0, 1, 2], [4, 5]]

    result = superpose(h, config.power_w, config.noise_w, groups)

    assert ((np.abs(result.w) ** 2).sum(axis=(0, 2)) <= config.power_w * (1 + 1e-9)).all()
    power = np.abs(np.einsum("kna,gna->kg", h, result.w)) ** 2
    sinr = power[[0, 1, 2], 0] / (config.noise_w + power[[0, 1, 2], 1])
    assert result.sinr[[0, 1, 2]] == pytest.approx(sinr)
    assert result.sinr[3] == 0
    assert result.time_s_hz == pytest.approx(1 / result.rates_bit_s_hz.min())
    # With 16 antennas and 5 users there is room for both groups at once.
    assert result.time_s_hz < result.in_turn_s_hz


@pytest.mark.parametrize("groups", [[[0, 1], [1]], [[9]], [[]], []])
def test_bad_groups_are_named(draw: Draw, groups: list[list[int]]) -> None:
    h, power, noise = draw((3, 2, 2, 0))

    with pytest.raises(BadInputError, match="groups: expected"):
        superpose(h, power, noise, groups)


def test_joint_subbands_are_between_separate_ones_and_the_bound() -> None:
    config = RadioConfig(num_users=6, num_antennas=4, num_subbands=4)
    rng = np.random.default_rng(2)
    h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)

    result = solve_subbands(h, config.power_w, config.noise_w)

    assert h.shape == (4, 6, 4, 4)
    assert ((np.abs(result.w) ** 2).sum(axis=(0, 2)) <= config.power_w * (1 + 1e-9)).all()
    snr = np.abs(np.einsum("skna,sna->sk", h, result.w)) ** 2 / (config.noise_w / 4)
    assert result.rate_bit_s_hz == pytest.approx(np.log2(1 + snr).mean(axis=0).min())
    assert result.separate_rate_bit_s_hz <= result.rate_bit_s_hz <= result.upper_bound


def test_one_subband_is_the_flat_problem(draw: Draw) -> None:
    h, power, noise = draw((4, 3, 2, 3))

    flat = solve_broadcast(h, power, noise)
    result = solve_subbands(h[None], power, noise)

    assert result.rate_bit_s_hz == pytest.approx(float(flat.rate_bit_s_hz), rel=0.01)
    assert result.upper_bound >= flat.rate_bit_s_hz


def test_subbands_without_users_or_holders(draw: Draw) -> None:
    h, power, noise = draw((3, 2, 2, 0))
    bands = np.stack([h, h])

    assert solve_subbands(bands, power, noise, users=np.zeros(3, dtype=bool)).rate_bit_s_hz == np.inf
    assert solve_subbands(bands, power, noise, holders=np.zeros(2, dtype=bool)).rate_bit_s_hz == 0
