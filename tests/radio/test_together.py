"""Sets of broadcasts at once: powers, SINRs, guarantees, and what no beams can exceed."""

import numpy as np
import pytest

from radio import (
    BadInputError,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_users,
    rate_bit_s_hz,
    solve_broadcast,
    solve_together,
    superpose,
    together,
)

CONFIG = RadioConfig(num_users=8, num_antennas=4)


def channels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw_channel(draw_deployment(CONFIG, rng), draw_users(CONFIG, rng), rng)


def random_sets(rng: np.random.Generator, sets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Holders, users and targets of sets of up to three groups."""
    holders = rng.random((sets, 3, CONFIG.num_nodes)) < 0.6
    holders[..., 0] |= ~holders.any(axis=2)
    group = rng.integers(-1, 3, (sets, CONFIG.num_users))
    users = group[:, None, :] == np.arange(3)[:, None]
    return holders, users, rng.uniform(1.0, 4.0, (sets, 3))


@pytest.mark.parametrize("seed", range(4))
def test_beams_keep_to_holders_and_powers_and_give_what_is_said(seed: int) -> None:
    h, rng = channels(seed), np.random.default_rng(seed)
    holders, users, targets = random_sets(rng, 9)

    result = solve_together(h, CONFIG.power_w, CONFIG.noise_w, holders, users, targets)

    assert (np.abs(result.w) ** 2).sum(axis=(1, 3)).max() <= CONFIG.power_w * (1 + 1e-9)
    assert not result.w[~holders].any()
    assert (result.worst_sinr == result.sinr).all()
    assert (result.sinr[~users.any(axis=1)] == 0).all()
    for row in range(9):
        power = np.abs(np.einsum("kna,gna->kg", h, result.w[row])) ** 2
        for user in np.flatnonzero(users[row].any(axis=0)):
            own = int(users[row, :, user].argmax())
            noise = CONFIG.noise_w + power[user].sum() - power[user, own]
            assert result.sinr[row, user] == pytest.approx(power[user, own] / noise)


def test_nobody_is_faster_than_alone_and_two_are_as_fast_as_by_the_long_climb() -> None:
    pairs = np.zeros((1, 2, 8), dtype=bool)
    pairs[0, 0, :2] = pairs[0, 1, 2:4] = True
    everywhere = np.ones((1, 2, CONFIG.num_nodes), dtype=bool)
    shares = []
    for seed in range(6):
        h = channels(seed)
        alone = solve_broadcast(h, CONFIG.power_w, CONFIG.noise_w, users=pairs[0])
        long = superpose(h, CONFIG.power_w, CONFIG.noise_w, [[0, 1], [2, 3]])

        result = solve_together(h, CONFIG.power_w, CONFIG.noise_w, everywhere, pairs, np.ones((1, 2)))

        rates = rate_bit_s_hz(np.where(pairs[0], result.sinr[0], np.inf).min(axis=1))
        assert (rates <= rate_bit_s_hz(alone.upper_bound) * (1 + 1e-9)).all()
        shares.append(rates.min() / long.rates_bit_s_hz.min())
    assert np.mean(shares) > 0.85


def test_one_group_alone_is_near_the_broadcast() -> None:
    h = channels(1)
    users = np.zeros((1, 1, 8), dtype=bool)
    users[0, 0, :3] = True
    result = solve_together(
        h, CONFIG.power_w, CONFIG.noise_w, np.ones((1, 1, 4), bool), users, np.ones((1, 1)), num_iterations=60
    )
    best = solve_broadcast(h, CONFIG.power_w, CONFIG.noise_w, users=users[0])
    least = result.sinr[0, :3].min()

    assert 0.8 * float(best.min_snr[0]) <= least <= float(best.upper_bound[0]) * (1 + 1e-9)


def test_the_guarantee_holds_for_channels_in_the_ball() -> None:
    h, rng = channels(2), np.random.default_rng(2)
    holders, users, targets = random_sets(rng, 5)
    radius = 0.1 * np.linalg.norm(h, axis=2)
    result = solve_together(h, CONFIG.power_w, CONFIG.noise_w, holders, users, targets, csi_error=radius)
    some = users.any(axis=1)

    assert (result.worst_sinr <= result.sinr * (1 + 1e-12)).all()
    assert result.worst_sinr[some].min() > 0
    for _ in range(300):
        error = rng.normal(size=(*h.shape, 2)).view(np.complex128)[..., 0]
        error *= (radius / np.linalg.norm(error, axis=2))[..., None]
        power = np.abs(np.einsum("kna,sgna->skg", h + error, result.w)) ** 2
        own = np.where(users.swapaxes(1, 2), power, 0.0).sum(axis=2)
        sinr = own / (CONFIG.noise_w + power.sum(axis=2) - own)
        assert (sinr[some] >= result.worst_sinr[some] * (1 - 1e-9)).all()


def test_extreme_and_dead_channels_give_numbers() -> None:
    h = channels(3)
    h[0], h[1] = 0.0, h[1] * 1e40
    users = np.eye(8, dtype=bool)[:3][None]
    result = solve_together(
        h, CONFIG.power_w, CONFIG.noise_w, np.ones((1, 3, 4), bool), users, np.ones((1, 3))
    )

    assert np.isfinite(result.w).all()
    assert np.isfinite(result.sinr).all()
    assert result.sinr[0, 0] == 0


@pytest.mark.parametrize("radius", [None, 1e-6])
def test_a_set_gets_the_same_whatever_is_beside_it(radius: float | None) -> None:
    h, rng = channels(2), np.random.default_rng(2)
    holders, users, targets = random_sets(rng, 24)

    def ask(rows: np.ndarray, padding: int = 0) -> list[bytes]:
        sets = [
            np.pad(part[rows], [(0, 0), (0, padding)] + [(0, 0)] * (part.ndim - 2), constant_values=fill)
            for part, fill in ((holders, False), (users, False), (targets, 1.0))
        ]
        found = solve_together(h, CONFIG.power_w, CONFIG.noise_w, *sets, csi_error=radius)
        numbers = found.w[:, :3], found.sinr, found.worst_sinr
        return [b"".join(part[row].tobytes() for part in numbers) for row in range(len(rows))]

    order = rng.permutation(24)
    once = ask(order)
    assert [ask(order[row : row + 1], padding=row % 3)[0] for row in range(24)] == once
    assert [row for part in np.array_split(order, 5) for row in ask(part, padding=1)] == once


def test_a_set_without_a_solution_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    h, rng = channels(4), np.random.default_rng(4)
    users = np.array([np.eye(8, dtype=bool)[[first, first + 1]] for first in range(6)])
    holders, targets = np.ones((6, 2, CONFIG.num_nodes), dtype=bool), rng.uniform(1.0, 4.0, (6, 2))
    holders[3, 0, 1:] = False
    real = together._solved

    def fails_on_one(batch: together._Sets, *rest: np.ndarray) -> np.ndarray:
        if (batch.hold.sum(axis=(1, 2)) < 2 * CONFIG.num_nodes).any():
            raise np.linalg.LinAlgError
        return real(batch, *rest)

    clean = solve_together(h, CONFIG.power_w, CONFIG.noise_w, holders, users, targets)
    monkeypatch.setattr(together, "_solved", fails_on_one)
    found = solve_together(h, CONFIG.power_w, CONFIG.noise_w, holders, users, targets)

    others = [0, 1, 2, 4, 5]
    assert (found.w[others] == clean.w[others]).all()
    assert (found.sinr[3, 3:5] > 0).all()  # what it had before


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("users", {"users": np.ones((1, 2, 8), dtype=bool)}),
        ("holders", {"holders": np.ones((2, 2, 4), dtype=bool)}),
        ("targets", {"targets": np.zeros((1, 2))}),
        ("power_w", {"power_w": -1.0}),
        ("csi_error", {"csi_error": -1.0}),
        ("h", {"h": np.ones((2, 8, 4, 4))}),
    ],
)
def test_bad_input_is_named(name: str, changes: dict[str, object]) -> None:
    good: dict[str, object] = {
        "h": channels(0),
        "power_w": 1.0,
        "noise_w": 1e-12,
        "holders": np.ones((1, 2, 4), dtype=bool),
        "users": np.eye(8, dtype=bool)[:2][None],
        "targets": np.ones((1, 2)),
    }
    with pytest.raises(BadInputError, match=f"^{name}"):
        solve_together(**(good | changes))  # type: ignore[arg-type]
