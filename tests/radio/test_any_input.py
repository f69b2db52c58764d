"""Any finite input has a status or a named error, nothing is NaN, and a bad row spoils no other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio import (
    BASELINES,
    BadInputError,
    BroadcastResult,
    RadioConfig,
    airtime_s,
    broadcast_snr,
    draw_channel,
    draw_deployment,
    draw_users,
    estimate_csi,
    pilot_error_std,
    plan_groups,
    single_user_snr,
    solve_baseline,
    solve_broadcast,
    solve_subbands,
    superpose,
)

Size = tuple[int, int, int, int]
Draw = Callable[[Size], tuple[np.ndarray, np.ndarray, np.ndarray]]
RANKS: list[int | str] = [1, 2, "full"]
STATUSES = {"ok", "no holder", "no user", "dead user", "outage"}


def normal(seed: int | list[int], *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def assert_sound(result: BroadcastResult) -> None:
    for name in ("w", "snr", "min_snr", "worst_snr", "rate_bit_s_hz", "upper_bound", "gap"):
        assert not np.isnan(getattr(result, name)).any(), name
    assert set(np.unique(result.status)) <= STATUSES
    assert (result.worst_snr <= result.upper_bound * (1 + 1e-9)).all()


@pytest.mark.sampled(12)
@pytest.mark.parametrize("kind", ["joint", "link"])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("share", [0.95, 1.0])
def test_near_outage_there_is_an_answer_for_every_rank(kind: str, rank: int, share: float) -> None:
    h = np.stack([normal([2, 4, 4, seed], 4, 2, 4) for seed in range(2)])
    norm = np.linalg.norm(h, axis=(2, 3) if kind == "joint" else 3)

    assert_sound(solve_broadcast(h, 1.0, 1.0, csi_error=share * norm, rank=rank))


@pytest.mark.slow
def test_estimates_at_low_power_are_all_solved() -> None:
    config = RadioConfig(num_users=4, num_antennas=4)
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        h = draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng)
        std = pilot_error_std(1e-3 * 10**1.2, config.noise_w, 16)
        known = estimate_csi(h, std, rng, ball="link")
        found.append(
            solve_broadcast(known.h_hat, config.power_w, config.noise_w, csi_error=known.radius, rank=2)
        )

    for result in found:
        assert_sound(result)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("kind", ["joint", "link", None])
@pytest.mark.parametrize(("rank", "certify"), [(1, "eig"), (2, "eig"), (2, "exact")])
def test_a_bad_row_spoils_no_other(kind: str | None, rank: int, certify: str) -> None:
    h = normal(5, 6, 4, 3, 2)
    norm = np.linalg.norm(h, axis=3 if kind == "link" else (2, 3))
    share = np.full(len(h), 0.1)
    share[[1, 4]] = 0.9999, 50.0
    radius = None if kind is None else share.reshape(-1, *(1,) * (norm.ndim - 1)) * norm
    h[2], h[4] = h[2] * 1e-28, h[4] * 10.0 ** np.arange(0, 40, 10)[:, None, None]
    good = [0, 3, 5]

    together = solve_broadcast(h, 1.0, 1.0, csi_error=radius, rank=rank, certify=certify)
    alone = [
        solve_broadcast(
            h[row], 1.0, 1.0, csi_error=None if radius is None else radius[row], rank=rank, certify=certify
        )
        for row in good
    ]

    assert_sound(together)
    assert together.min_snr[good] == pytest.approx(np.array([one.min_snr for one in alone]), rel=0.02)
    assert together.upper_bound[good] == pytest.approx(np.array([one.upper_bound for one in alone]), rel=0.02)


EXTREMES = [0.0, 1e-300, 1e-60, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e60]


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_finite_numbers_of_any_size_have_a_status(data: st.DataObject) -> None:
    users, nodes, antennas = (data.draw(st.integers(1, 3)) for _ in range(3))
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    h = normal(seed, 2, users, nodes, antennas) * rng.choice(EXTREMES[:-1], (2, users, nodes, 1))
    power, noise = rng.choice(EXTREMES, (2, nodes)), rng.choice(EXTREMES[2:], (2, users))
    kind = data.draw(st.sampled_from(["joint", "link", None]))
    shape = {"joint": (2, users), "link": (2, users, nodes), None: ()}[kind]
    radius = None if kind is None else rng.choice(EXTREMES, shape)
    rank = data.draw(st.sampled_from(RANKS))

    assert_sound(solve_broadcast(h, power, noise, csi_error=radius, ball=kind, rank=rank))


def test_ranges_of_1e30_are_right() -> None:
    h = normal(1, 3, 2, 2)
    plain = solve_broadcast(h, 1.0, 1.0)

    for scale in (1e-30, 1e30):
        assert solve_broadcast(h * scale, 1.0, scale**2).min_snr == pytest.approx(float(plain.min_snr))
        assert solve_broadcast(h, scale, scale).min_snr == pytest.approx(float(plain.min_snr))
        loud = solve_broadcast(h * scale, 1.0, 1.0)
        assert loud.min_snr == pytest.approx(float(plain.min_snr) * scale**2, rel=1e-6)


def test_a_user_of_1e30_is_served_by_a_trace_of_power() -> None:
    """The two channels are orthogonal: the beam of the weak one alone gives the strong one nothing."""
    h = np.array([[[1.0, 0.0]], [[0.0, 1e30]]])

    result = solve_broadcast(h, 1.0, 1.0)

    assert result.min_snr == pytest.approx(1.0, rel=1e-4)
    assert result.min_snr <= result.upper_bound <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": np.array([[[1.0]], [[1e61]]])}, r"h: .*at most 1e\+60.* at \(1, 0, 0\)"),
        ({"noise_w": [1.0, 1e-70]}, r"noise_w: .* at \(1,\)"),
        ({"power_w": [1e61]}, r"power_w: .* at \(0,\)"),
        ({"csi_error": [0.0, 1e61]}, r"csi_error: .* at \(1,\)"),
        ({"csi_error": [0.0, np.nan]}, r"csi_error: .* at \(1,\)"),
        ({"csi_error": np.zeros((7, 7))}, r"csi_error: expected \(..., 2\) joint or \(..., 2, 1\) per link"),
        ({"csi_error": 0.1}, r"csi_error: expected"),
        ({"csi_error": "much"}, r"csi_error: expected real numbers"),
        ({"rank": True}, r'rank: expected an int >= 1 or "full", got True'),
        ({"rank": 1.0}, r"rank: expected"),
        ({"rng": -1}, r"rng: expected a numpy Generator, a seed >= 0 or None, got -1"),
        ({"rng": "seed"}, r"rng: expected"),
        ({"users": [1, 0]}, r"users: expected bool \(..., 2\), got int64 \(2,\); of indices make np.isin"),
        ({"holders": [0]}, r"holders: expected bool"),
        ({"h": [[[1.0]], [[1.0, 2.0]]]}, r"h: expected an array of numbers"),
        ({"h": np.ma.masked_invalid([[[1.0]], [[np.nan]]])}, r"h: expected no masked entries"),
        ({"on_dead_user": "skip"}, r"on_dead_user: expected report\|drop\|error"),
        ({"ball": "round"}, r"ball: expected joint\|link"),
    ],
)
def test_what_cannot_be_taken_is_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, Any] = {"h": np.ones((2, 1, 1)), "power_w": 1.0, "noise_w": 1.0, **change}

    with pytest.raises(BadInputError, match=message):
        solve_broadcast(**arguments)


def test_lists_numpy_integers_tensors_and_seeds_are_taken(draw: Draw) -> None:
    torch = pytest.importorskip("torch")
    h, power, noise = draw((3, 2, 2, 1))
    plain = solve_broadcast(h, power, noise, users=np.array([True, False, True]), rank=2)

    tensor = torch.tensor(h.conj(), requires_grad=True).conj()
    for array in (h.tolist(), tensor):
        for rank in (np.int64(2), np.uint8(2)):
            found = solve_broadcast(
                array, power.tolist(), torch.tensor(noise), users=[True, False, True], rank=rank, rng=0
            )
            assert (found.w == plain.w).all()


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 0, 3, 2, 2), (0, 2, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("solver", ["fast", "sdp"])
def test_empty_axes_have_empty_answers(shape: tuple[int, ...], rank: int, solver: str) -> None:
    result = solve_broadcast(np.ones(shape), 1.0, 1.0, rank=rank, solver=solver)

    assert_sound(result)
    assert result.min_snr.shape == shape[:-3]
    assert result.w.shape[:-1] == (*shape[:-3], *shape[-2:])
    if len(shape) == 3:
        assert result.status == ("no user" if not shape[0] else "no holder" if not shape[1] else "dead user")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("batch", [1, 3, 4, 5])
@pytest.mark.parametrize("rank", [1])
def test_a_radius_means_the_same_in_every_batch(batch: int, rank: int) -> None:
    """As many users as nodes: what a batch of another size calls per link is refused, never called joint."""
    h = normal(3, batch, 4, 4, 2)
    link = np.abs(normal(4, 4, 4)) * 0.1
    alone = [solve_broadcast(one, 1.0, 1.0, csi_error=link, rank=rank) for one in h]

    if batch == 4:
        with pytest.raises(BadInputError, match=r'csi_error: expected ball="joint" or ball="link"'):
            solve_broadcast(h, 1.0, 1.0, csi_error=link, rank=rank)
    else:
        shaped = solve_broadcast(h, 1.0, 1.0, csi_error=link, rank=rank)
        named = solve_broadcast(h, 1.0, 1.0, csi_error=link, rank=rank, ball="link")
        assert (shaped.w == named.w).all()
    for options in (
        {"csi_error": link, "ball": "link"},
        {"csi_error": link[None]},
        {"csi_error": np.stack([link] * batch)},
    ):
        found = solve_broadcast(h, 1.0, 1.0, rank=rank, **options)
        assert found.worst_snr == pytest.approx(np.array([one.worst_snr for one in alone]), rel=0.02)


def test_a_named_ball_is_taken_at_its_word() -> None:
    h, radius = normal(3, 4, 4, 4, 2), np.abs(normal(4, 4, 4)) * 0.1

    joint = solve_broadcast(h, 1.0, 1.0, csi_error=radius, ball="joint").worst_snr
    alone = [float(solve_broadcast(h[i], 1.0, 1.0, csi_error=radius[i]).worst_snr) for i in range(4)]

    assert joint == pytest.approx(np.array(alone), rel=0.02)
    with pytest.raises(BadInputError, match=r"csi_error: expected \(..., 4, 4\) per link, with batch axes"):
        solve_broadcast(h, 1.0, 1.0, csi_error=radius[0], ball="link")


def test_a_dead_user_is_reported_left_out_or_refused(draw: Draw) -> None:
    h, power, noise = draw((4, 2, 2, 3))
    many = np.stack([h, h])
    many[1, [1, 3]] = 0.0
    others = np.array([True, False, True, False])

    told, left = (solve_broadcast(many, power, noise, on_dead_user=how) for how in ("report", "drop"))
    alone = solve_broadcast(h, power, noise, users=others)

    for result in (told, left):
        assert result.dropped.tolist() == [[False] * 4, [False, True, False, True]]
        assert result.snr[1][others].min() == pytest.approx(float(alone.min_snr), rel=0.01)
    assert told.status.tolist() == ["ok", "dead user"]
    assert left.status.tolist() == ["ok", "ok"]
    assert told.rate_bit_s_hz[1] == told.upper_bound[1] == 0
    assert left.min_snr[1] == pytest.approx(float(alone.min_snr), rel=0.01)
    assert left.upper_bound[1] == pytest.approx(float(alone.upper_bound), rel=0.01)
    with pytest.raises(BadInputError, match=r"h: expected users that hear a holder.* at \(1, 1\), \(1, 3\)$"):
        solve_broadcast(many, power, noise, on_dead_user="error")


def test_when_all_are_dead_nobody_is_said_to_be_served() -> None:
    result = solve_broadcast(np.zeros((2, 2, 2)), 1.0, 1.0, on_dead_user="drop")

    assert result.status == "dead user"
    assert result.rate_bit_s_hz == 0
    assert result.dropped.all()


@pytest.mark.parametrize("users", [4, 12])
def test_groups_leave_out_whom_nothing_reaches(draw: Draw, users: int) -> None:
    h, power, noise = draw((users, 2, 2, 0))
    h[2] = 0.0
    radius = np.zeros((users, 2))
    radius[3] = 1.5 * np.linalg.norm(h[3], axis=1)

    for kind, error, dropped in (("dead", None, (2,)), ("outage", radius, (2, 3))):
        rest = [k for k in range(users) if k not in dropped]
        plan = plan_groups(h, power, noise, csi_error=error, certify="none")
        less = None if error is None else error[rest]
        alone = plan_groups(h[rest], power, noise[rest], csi_error=less, certify="none")

        assert plan.dropped == dropped, kind
        assert sorted(k for group in plan.groups for k in group) == rest
        assert plan.time_s_hz_bit == pytest.approx(alone.time_s_hz_bit, rel=0.05)
        with pytest.raises(BadInputError, match=r"users: expected users that can be served.* at \(2,\)"):
            plan_groups(h, power, noise, csi_error=error, on_dead_user="error")


def test_every_entrance_takes_lists_and_names_what_is_wrong(draw: Draw) -> None:
    h, power, noise = draw((3, 2, 2, 4))
    bands = np.stack([h, h])
    calls: list[Callable[..., object]] = [
        lambda **k: solve_subbands(k.pop("h", bands.tolist()), power.tolist(), noise.tolist(), **k),
        lambda **k: plan_groups(k.pop("h", h.tolist()), power.tolist(), noise.tolist(), **k),
        *(
            lambda name=name, **k: solve_baseline(
                name, k.pop("h", h.tolist()), power.tolist(), noise.tolist(), **k
            )
            for name in BASELINES
        ),
    ]

    for call in calls:
        call()
        call(users=[True, False, True], holders=[True, False])
        for wrong in ({"users": [1, 0, 1]}, {"holders": [True]}, {"h": [[1.0]]}, {"h": h[None] * np.nan}):
            with pytest.raises(BadInputError):
                call(**wrong)
    result = solve_broadcast(h, power, noise)
    snr = broadcast_snr(h.tolist(), result.w.tolist(), noise.tolist())
    assert snr == pytest.approx(result.snr)
    assert (single_user_snr(h.tolist(), power.tolist(), noise.tolist()) >= snr * (1 - 1e-9)).all()
    assert superpose(h.tolist(), power.tolist(), noise.tolist(), [[0], [np.int64(2)]]).sinr[0] > 0
    with pytest.raises(BadInputError, match="groups"):
        superpose(h, power, noise, [[0.5]])
    for wrong, name in (
        (lambda: broadcast_snr(h, result.w[0], noise), "w"),
        (lambda: broadcast_snr(h, result.w, -noise), "noise_w"),
        (lambda: single_user_snr(h * np.nan, power, noise), "h"),
        (lambda: airtime_s([1.0, np.inf], 1e6, 1.0), r"size_bytes: .* at \(1,\)"),
        (lambda: airtime_s(1.0, np.inf, 1.0), "bandwidth_hz"),
        (lambda: airtime_s(1.0, 1e6, [1.0, np.nan]), r"snr: .* at \(1,\)"),
    ):
        with pytest.raises(BadInputError, match=name):
            wrong()
