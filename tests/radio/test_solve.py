"""Laws of the broadcast solver."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import QUICK_EFFORT, BadInputError, broadcast_snr, single_user_snr, solve_broadcast
from radio.fast.weights import fixed_point, random_start
from radio.problem import normalise

sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))

Draw = Callable[[tuple[int, int, int, int]], tuple[np.ndarray, np.ndarray, np.ndarray]]


@given(sizes)
@settings(max_examples=30, deadline=None)
def test_one_user_equals_the_closed_form(draw: Draw, size: tuple[int, int, int, int]) -> None:
    h, power, noise = draw((1, *size[1:]))

    result = solve_broadcast(h, power, noise)

    assert result.min_snr == pytest.approx(float(single_user_snr(h, power, noise)[0]), rel=1e-5)


@given(sizes, st.sampled_from([1, 2, "full"]))
@settings(max_examples=30, deadline=None)
def test_the_beam_keeps_its_power_and_never_beats_the_bound(
    draw: Draw, size: tuple[int, int, int, int], rank: int
) -> None:
    h, power, noise = draw(size)

    result = solve_broadcast(h, power, noise, rank=rank)

    assert ((np.abs(result.w) ** 2).sum(axis=(1, 2)) <= power * (1 + 1e-12)).all()
    assert result.snr == pytest.approx(broadcast_snr(h, result.w, noise))
    assert result.min_snr == result.snr.min()
    assert result.min_snr <= result.upper_bound <= single_user_snr(h, power, noise).min() * (1 + 1e-9)
    assert 0 <= result.gap < 1


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_masks_equal_the_reduced_problem(draw: Draw, size: tuple[int, int, int, int]) -> None:
    h, power, noise = draw(size)
    rng = np.random.default_rng(size[3])
    holders, users = rng.random(h.shape[1]) < 0.6, rng.random(h.shape[0]) < 0.6
    holders[0] = users[0] = True

    masked = solve_broadcast(h, power, noise, holders=holders, users=users)
    reduced = solve_broadcast(h[users][:, holders], power[holders], noise[users])

    assert not masked.w[~holders].any()
    assert not masked.snr[~users].any()
    assert masked.min_snr == pytest.approx(float(reduced.min_snr), rel=0.05)
    assert masked.upper_bound >= reduced.min_snr * (1 - 1e-9)
    assert reduced.upper_bound >= masked.min_snr * (1 - 1e-9)


def test_a_node_that_only_disturbs_keeps_silent() -> None:
    h = np.stack([np.ones(3), 0.5 * np.exp(2j * np.pi * np.arange(3) / 3)], axis=1)[:, :, None]

    result = solve_broadcast(h, 1.0, 1.0)

    assert result.min_snr == pytest.approx(1.0, rel=1e-3)  # full power: |1 + exp(2j pi / 3) / 2|^2 = 0.75
    assert np.abs(result.w[1]).max() < 0.03


def test_status_says_why_there_is_no_answer(draw: Draw) -> None:
    h, power, noise = draw((3, 2, 2, 0))
    h[1, 0] = 0
    holders = np.array([[True, True], [False, False], [True, True], [True, False]])
    users = np.array([[True] * 3, [True] * 3, [False] * 3, [True] * 3])

    result = solve_broadcast(h, power, noise, holders=holders, users=users)

    assert result.status.tolist() == ["ok", "no holder", "no user", "dead user"]
    assert result.min_snr[1] == 0
    assert result.min_snr[2] == np.inf
    assert result.min_snr[3] == 0


def test_one_channel_broadcasts_over_a_batch_of_masks(draw: Draw) -> None:
    h, power, noise = draw((4, 3, 2, 0))
    holders = np.array([[True, False, True], [True, True, True]])

    result = solve_broadcast(h, power, noise, holders=holders)

    assert result.w.shape == (2, 3, 2, 1)
    assert result.snr.shape == (2, 4)
    assert result.min_snr[1] >= result.min_snr[0] * 0.99


@given(sizes, st.floats(-40, 40), st.floats(0, 6.28))
@settings(max_examples=20, deadline=None)
def test_scale_and_phase_of_a_user_do_not_matter(
    draw: Draw, size: tuple[int, int, int, int], scale_db: float, phase: float
) -> None:
    h, power, noise = draw(size)
    scale = 10.0 ** (scale_db / 20.0)

    plain = solve_broadcast(h, power, noise)
    turned = solve_broadcast(h * scale * np.exp(1j * phase), power, noise * scale**2)

    assert turned.min_snr == pytest.approx(float(plain.min_snr), rel=0.01)
    assert turned.upper_bound == pytest.approx(float(plain.upper_bound), rel=0.01)


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_the_order_of_users_and_nodes_does_not_matter(draw: Draw, size: tuple[int, int, int, int]) -> None:
    h, power, noise = draw(size)
    rng = np.random.default_rng(0)
    users, nodes = rng.permutation(h.shape[0]), rng.permutation(h.shape[1])

    plain = solve_broadcast(h, power, noise)
    shuffled = solve_broadcast(h[users][:, nodes], power[nodes], noise[users])

    assert shuffled.min_snr == pytest.approx(float(plain.min_snr), rel=0.01)
    assert shuffled.snr == pytest.approx(broadcast_snr(h, plain.w, noise)[users], rel=1.0)


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_more_power_and_more_holders_never_hurt(draw: Draw, size: tuple[int, int, int, int]) -> None:
    h, power, noise = draw(size)
    holders = np.tril(np.ones((h.shape[1], h.shape[1]), dtype=bool))

    more_nodes = solve_broadcast(h, power, noise, holders=holders).min_snr
    more_power = solve_broadcast(h, power * np.array([[1.0], [2.0], [5.0]]), noise).min_snr

    assert (more_nodes[1:] >= more_nodes[:-1] * 0.99).all()
    assert (more_power[1:] >= more_power[:-1] * 0.99).all()


def test_a_batch_gives_what_its_rows_give(draw: Draw) -> None:
    instances = [draw((5, 3, 2, seed)) for seed in range(6)]
    h, power, noise = (np.stack(part) for part in zip(*instances, strict=True))

    together = solve_broadcast(h, power, noise)
    alone = [solve_broadcast(*instance).min_snr for instance in instances]

    assert together.min_snr == pytest.approx(np.array(alone), rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"h": np.full((2, 2, 2), np.nan)},
            r"h: expected finite numbers, got NaN or infinity at \(0, 0, 0\)",
        ),
        ({"noise_w": np.array([1.0, 0.0])}, r"noise_w: expected finite watts > 0.* at \(1,\)"),
        ({"power_w": np.array([1.0, -1.0])}, r"power_w: .* at \(1,\)"),
        ({"h": np.ones((2, 2))}, r"h: expected numbers \(..., users, nodes, antennas\)"),
        ({"power_w": np.ones(3)}, r"power_w: expected \(..., nodes\) with 2 nodes, got \(3,\)"),
        ({"holders": np.ones(2)}, r"holders: expected bool"),
        ({"users": np.ones(3, dtype=bool)}, r"users: expected bool \(..., 2\)"),
        ({"rank": 0}, r"rank: expected"),
        ({"holders": np.ones((2, 2), bool), "users": np.ones((3, 2), bool)}, r"batch axes"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"h": np.ones((2, 2, 2)), "power_w": 1.0, "noise_w": 1.0, **change}

    with pytest.raises(BadInputError, match=message):
        solve_broadcast(**arguments)


def test_torch_and_numpy_find_the_same(draw: Draw) -> None:
    instances = [draw((6, 3, 2, seed)) for seed in range(8)]
    h, power, noise = (np.stack(part) for part in zip(*instances, strict=True))
    users = np.ones((8, 6), dtype=bool)
    users[3, 2] = False

    for rank in (1, 2):
        ours = solve_broadcast(h, power, noise, users=users, rank=rank)
        theirs = solve_broadcast(h, power, noise, users=users, rank=rank, device="cpu")

        assert theirs.min_snr == pytest.approx(ours.min_snr, rel=0.01)
        assert theirs.upper_bound == pytest.approx(ours.upper_bound, rel=0.01)


@pytest.mark.parametrize("certify", ["eig", "exact", "none"])
@pytest.mark.parametrize("rank", [1, 2, "full"])
def test_every_certificate_holds_for_every_rank(draw: Draw, certify: str, rank: int) -> None:
    h, power, noise = draw((5, 3, 2, 7))
    exact = solve_broadcast(h, power, noise, rank="full", certify="exact")

    result = solve_broadcast(h, power, noise, rank=rank, certify=certify)

    assert result.upper_bound >= exact.min_snr * (1 - 1e-6)
    assert result.min_snr <= exact.upper_bound * (1 + 1e-6)


def test_higher_rank_is_not_worse(draw: Draw) -> None:
    h, power, noise = draw((12, 2, 2, 9))

    one, two, full = (solve_broadcast(h, power, noise, rank=rank).min_snr for rank in (1, 2, "full"))

    assert one <= two * 1.001 <= full * 1.002


def test_equal_calls_give_equal_answers(draw: Draw) -> None:
    instance = draw((5, 3, 2, 7))

    assert (solve_broadcast(*instance).w == solve_broadcast(*instance).w).all()


def test_the_first_weights_say_whom_a_run_serves_first(draw: Draw) -> None:
    h, power, noise = draw((4, 2, 2, 3))
    g = normalise(h, power, noise).g.reshape(1, 4, -1).astype(np.complex64)
    start = random_start((1, 4, 1, 1), np.random.default_rng(0))
    users = np.ones((1, 4), dtype=bool)
    only = np.full((1, 4, 1), 1e-6, dtype=np.float32)
    only[0, 2] = 1.0

    plain = fixed_point(g, start, users, 2, 1)
    served = fixed_point(g, start, users, 2, 1, weights=only)

    assert np.abs(g[0, 2] @ served.u[0, :, 0, 0]) > np.abs(g[0, 2] @ plain.u[0, :, 0, 0])


@pytest.mark.parametrize("certify", ["eig", "exact"])
@pytest.mark.parametrize("rank", [1, 2])
def test_later_stages_never_lose_what_earlier_ones_found(draw: Draw, rank: int, certify: str) -> None:
    instances = [draw((12, 2, 2, seed)) for seed in range(4)]
    h, power, noise = (np.stack(part) for part in zip(*instances, strict=True))

    first = solve_broadcast(h, power, noise, rank=rank, effort=QUICK_EFFORT, certify="none")
    all_stages = solve_broadcast(h, power, noise, rank=rank, certify=certify)

    assert (all_stages.min_snr >= first.min_snr * 0.99).all()
    assert (all_stages.gap < 0.6).all()
