"""Twenty thousand random certificates against brute force: no bound below what a climb of its own reaches.

Tolerance: 1e-9 of the SNR and 1e-12 of the weakest user's matched-filter SNR, as `BroadcastResult` says.
"""

import itertools

import numpy as np
import pytest

from radio import BroadcastResult, plan_groups, solve_broadcast, solve_subbands, superpose
from tests.radio.brute import attacked, climb, climb_bands, received
from tests.thoroughness import TIMES

RANKS: list[int | str] = [1, 2, "full"]
Instance = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def instances(rng: np.random.Generator, batch: int) -> Instance:
    """h, power, noise, holders, users: small sizes, unequal links, dead users, silent nodes, wild units."""
    users, nodes, antennas = int(rng.integers(1, 9)), int(rng.integers(1, 5)), int(rng.integers(1, 5))
    h = normal(rng, batch, users, nodes, antennas)
    spread = (0.0, 1.0, 3.0)[rng.integers(3)]
    h *= 10.0 ** rng.uniform(-spread, spread, (batch, users, nodes, 1))
    if rng.random() < 0.3:
        h[rng.random((batch, users)) < 0.15] = 0.0
        h[rng.random((batch, users, nodes)) < 0.3] = 0.0
    unit = 10.0 ** rng.uniform(-28, 28) if rng.random() < 0.2 else 1.0
    power = 10.0 ** rng.uniform(-1, 1, (batch, nodes)) * np.where(rng.random((batch, nodes)) < 0.05, 0.0, 1.0)
    noise = 10.0 ** rng.uniform(-1, 1, (batch, users)) * unit
    holders, waiting = rng.random((batch, nodes)) < 0.85, rng.random((batch, users)) < 0.85
    return h * np.sqrt(unit), power, noise, holders, waiting


def check(instance: Instance, result: BroadcastResult, *, drop: bool) -> np.ndarray:
    """Laws of any result; returns the rows that were solved."""
    h, power, noise, holders, waiting = instance
    for name in ("w", "snr", "min_snr", "worst_snr", "rate_bit_s_hz", "upper_bound", "gap"):
        assert not np.isnan(getattr(result, name)).any(), name
    strength = np.linalg.norm(h, axis=3) * np.sqrt(power)[:, None] * holders[:, None]
    held = (holders & (power > 0)).any(axis=1)
    dead = waiting & (strength.sum(axis=2) == 0) & held[:, None]
    assert (result.dropped == dead).all()
    asked, served = waiting.any(axis=1), (waiting & ~dead).any(axis=1) & held
    blocked = dead.any(axis=1) & (~served if drop else True)
    expected = np.select(
        [~asked, ~held, blocked], ["no user", "no holder", "dead user"], np.array("ok", dtype="<U9")
    )
    assert ((result.status == expected) | ((expected == "ok") & (result.status == "outage"))).all()
    assert (result.min_snr[~asked] == np.inf).all()
    assert (result.rate_bit_s_hz[asked & (~held | blocked)] == 0).all()
    used = (np.abs(result.w) ** 2).sum(axis=(2, 3))
    assert (used <= power * holders * (1 + 1e-12)).all()
    real = np.where(waiting & ~dead, received(h, result.w, noise), 0.0)
    assert np.allclose(result.snr, real, rtol=1e-9, atol=0.0)
    assert (result.worst_snr <= result.min_snr * (1 + 1e-12)).all()
    assert (result.gap >= 0).all()
    return np.asarray(np.isin(result.status, ["ok", "outage"]))


def matched(instance: Instance, keep: np.ndarray) -> np.ndarray:
    """Weakest matched-filter SNR, (batch,): the scale of rounding."""
    h, power, noise, holders, _ = instance
    alone = (np.linalg.norm(h, axis=3) * np.sqrt(power * holders)[:, None]).sum(axis=2) ** 2 / noise
    return np.asarray(np.where(keep, alone, np.inf).min(axis=1, initial=np.inf))


def nominal(seed: int, batch: int, certify: str = "eig") -> int:
    """Certificates checked."""
    rng = np.random.default_rng([1, seed])
    instance = instances(rng, batch)
    h, power, noise, holders, waiting = instance
    drop = bool(rng.integers(2))
    results = [
        solve_broadcast(*instance, rank=rank, certify=certify, on_dead_user="drop" if drop else "report")
        for rank in RANKS
    ]
    for result in results:
        done = check(instance, result, drop=drop)
        keep = (waiting & ~result.dropped)[done]
        for rank in (1, 2):
            found = climb(h[done], (power * holders)[done], noise[done], keep, rank, rng)
            assert (found <= result.upper_bound[done] * (1 + 1e-9)).all()
        assert (result.worst_snr[done] == result.min_snr[done]).all()
    for low, high in itertools.pairwise(results):
        assert (low.worst_snr <= high.worst_snr * (1 + 1e-12)).all()
    return len(RANKS) * batch


def robust(seed: int, batch: int) -> int:
    """Certificates checked, near outage often."""
    rng = np.random.default_rng([2, seed])
    instance = instances(rng, batch)
    h, _, noise, _, waiting = instance
    kind = ("joint", "link")[rng.integers(2)]
    share = (0.05, 0.3, 0.95, 1.0, 1.2)[rng.integers(5)] * rng.uniform(0.8, 1.0, h.shape[:2])
    norm = np.linalg.norm(h, axis=(2, 3) if kind == "joint" else 3)
    radius = norm * (share if kind == "joint" else share[:, :, None] * rng.uniform(0.5, 1.1, norm.shape))
    results = [solve_broadcast(*instance, csi_error=radius, ball=kind, rank=rank) for rank in RANKS]
    for result, rank in zip(results, RANKS, strict=True):
        done = check(instance, result, drop=False)
        keep = (waiting & ~result.dropped)[done]
        slack = 1e-12 * matched(instance, waiting & ~result.dropped)[done]
        part = h[done], result.w[done], noise[done]
        least = np.where(keep, attacked(*part, radius[done], rng), np.inf).min(axis=1, initial=np.inf)
        assert (result.worst_snr[done] <= least * (1 + 1e-9) + slack).all()
        for other, columns in zip(results, RANKS, strict=True):
            if rank != 1 or columns == 1:  # with one column the bound is on beams of one column
                assert (other.worst_snr[done] <= result.upper_bound[done] * (1 + 1e-9) + slack).all()
    for low, high in itertools.pairwise(results):
        assert (low.worst_snr <= high.worst_snr * (1 + 1e-12)).all()
    return len(RANKS) * batch


def subbands(seed: int) -> int:
    """One certificate: users dead in any subset of the subbands."""
    rng = np.random.default_rng([3, seed])
    bands, users, nodes = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    h = normal(rng, bands, users, nodes, int(rng.integers(1, 4)))
    h *= 10.0 ** rng.uniform(-1, 1, (1, users, nodes, 1))
    h[rng.random((bands, users)) < 0.3] = 0.0
    power, noise = 10.0 ** rng.uniform(-1, 1, nodes), 10.0 ** rng.uniform(-2, 1, users)
    waiting, holders = rng.random(users) < 0.9, rng.random(nodes) < 0.9
    result = solve_subbands(h, power, noise, holders, waiting, num_starts=2, num_iterations=60)
    sent = h * holders[:, None]
    dead = waiting & ~sent.any(axis=(0, 2, 3))
    assert (result.dropped == (dead & holders.any())).all()
    if not waiting.any():
        assert result.rate_bit_s_hz == result.upper_bound == np.inf
        return 1
    if dead.any():
        assert result.rate_bit_s_hz == result.upper_bound == 0
        return 1
    found = climb_bands(sent, power, noise, waiting, rng)
    snr = np.stack(
        [received(h[s][None], result.w[s][None, ..., None], noise / bands)[0] for s in range(bands)]
    )
    real = np.log2(1.0 + snr).mean(axis=0)[waiting].min()
    assert result.rate_bit_s_hz == pytest.approx(real, rel=1e-9)
    assert ((np.abs(result.w) ** 2).sum(axis=(0, 2)) <= power * holders * (1 + 1e-9)).all()
    assert max(found, real, result.separate_rate_bit_s_hz) <= result.upper_bound * (1 + 1e-9)
    return 1


def shared(seed: int) -> int:
    """Certificates of groups in turn and at once: true rates, each below the bound of its group."""
    rng = np.random.default_rng([4, seed])
    users, nodes, antennas = int(rng.integers(2, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    h = normal(rng, users, nodes, antennas) * 10.0 ** rng.uniform(-1, 1, (users, 1, 1))
    h[rng.random(users) < 0.15] = 0.0
    objective = ("airtime", "mean-delay")[rng.integers(2)]
    plan = plan_groups(h, 1.0, 1.0, objective=objective)
    dead = tuple(int(k) for k in np.flatnonzero(~h.any(axis=(1, 2))))
    assert plan.dropped == dead
    assert sorted(k for group in plan.groups for k in group) == [k for k in range(users) if k not in dead]
    assert np.isfinite(plan.time_s_hz_bit) == (len(dead) < users)
    power = np.ones((1, nodes))
    for group, rate in zip(plan.groups, plan.rates_bit_s_hz, strict=True):
        keep = np.zeros((1, users), dtype=bool)
        keep[0, list(group)] = True
        bound = solve_broadcast(h, 1.0, 1.0, users=keep[0]).upper_bound
        assert rate <= np.log2(1.0 + bound) * (1 + 1e-9)
        found = climb(h[None], power, np.ones((1, users)), keep, 2, rng)[0]
        assert found <= bound * (1 + 1e-9)
    label = rng.permutation(users)
    parts = [[int(k) for k in label[: users // 2]], [int(k) for k in label[users // 2 :]]]
    both = superpose(h, 1.0, 1.0, parts, num_iterations=30)
    heard = np.abs(np.einsum("kna,gna->kg", h, both.w)) ** 2
    for index, part in enumerate(parts):
        sinr = heard[part, index] / (1.0 + heard[part].sum(axis=1) - heard[part, index])
        assert np.allclose(both.sinr[part], sinr, rtol=1e-9, atol=1e-300)
        assert both.rates_bit_s_hz[index] == pytest.approx(np.log2(1.0 + sinr.min()), abs=1e-12)
    assert ((np.abs(both.w) ** 2).sum(axis=(0, 2)) <= 1 + 1e-9).all()
    assert not np.isnan([both.time_s_hz, both.in_turn_s_hz]).any()
    return len(plan.groups) + len(parts)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(3))
def test_no_random_certificate_is_violated(seed: int) -> None:
    nominal(seed, 6)
    robust(seed, 4)
    subbands(seed)
    shared(seed)


@pytest.mark.slow
def test_thousands_of_random_certificates_are_not_violated() -> None:
    count, seed = 0, 1000
    while count < 4_000 * TIMES:
        count += nominal(seed, 48, ("eig", "exact", "none")[seed % 3])
        count += robust(seed, 24)
        count += sum(subbands(4 * seed + i) for i in range(4)) + shared(seed)
        seed += 1
