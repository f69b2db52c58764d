from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.config import PRESETS, MobilityConfig, RequestConfig
from policy.errors import TraceError
from policy.scenario import load_scenario
from policy.world.demand import start_demand, step_demand
from policy.world.trace import Trace, generate

FAMILIES = np.repeat(np.arange(3), 4)


def test_same_seed_same_digest_other_seed_other_digest() -> None:
    scenario = load_scenario("findings")

    assert scenario.world(3).trace.digest == scenario.world(3).trace.digest
    assert scenario.world(3).trace.digest != scenario.world(4).trace.digest


def test_trace_survives_a_file_and_a_changed_one_is_found_out(tmp_path: Path) -> None:
    trace = load_scenario("default").world(1).trace
    trace.save(tmp_path / "t.npz")
    assert Trace.load(tmp_path / "t.npz").digest == trace.digest

    changed = trace.requests.copy()
    changed[0, 0] = (changed[0, 0] + 2) % 12
    np.savez(
        tmp_path / "t.npz",
        node_xy=trace.node_xy,
        user_xy=trace.user_xy,
        requests=changed,
        digest=np.array(trace.digest),
    )
    with pytest.raises(TraceError, match="was changed"):
        Trace.load(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", ["random-waypoint", "gauss-markov", "still"])
@given(seed=st.integers(0, 50))
def test_users_stay_in_the_area_and_below_their_speed(kind: str, seed: int) -> None:
    mobility = MobilityConfig(kind=kind, speed_m_s=(2.0, 15.0))  # type: ignore[arg-type]
    config = replace(PRESETS["findings"], mobility=mobility)
    trace, _ = generate(np.random.default_rng(seed), config, FAMILIES)
    steps = np.linalg.norm(np.diff(trace.user_xy, axis=0), axis=-1)

    assert trace.user_xy.min() >= 0
    assert trace.user_xy.max() <= config.area_m
    assert steps.max() <= 15.0 * config.slot_s + 1e-9


@given(seed=st.integers(0, 50))
def test_nobody_repeats_one_of_its_last_models(seed: int) -> None:
    trace, _ = generate(np.random.default_rng(seed), PRESETS["findings"], FAMILIES)
    for user in range(trace.num_users):
        asked = trace.requests[:, user][trace.requests[:, user] >= 0]
        for back in (1, 2):
            assert (asked[back:] != asked[:-back]).all()


def _many(config: RequestConfig, slots: int = 400, users: int = 50, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    state = start_demand(rng, users, 4, 12, config)
    cells = np.arange(users) % 4
    made = []
    for _ in range(slots):
        state, asked = step_demand(rng, state, cells, FAMILIES, config)
        made.append(asked)
    return np.stack(made)


def test_requests_follow_their_settings() -> None:
    plain = RequestConfig(request_prob=0.4, zipf_exponent=1.0, drift_prob=0.0, cell_taste=0.0)
    asked = _many(plain)
    share = np.sort(np.bincount(asked[asked >= 0], minlength=12) / (asked >= 0).sum())[::-1]
    zipf = 1 / np.arange(1, 13) / (1 / np.arange(1, 13)).sum()

    assert (asked >= 0).mean() == pytest.approx(0.4, abs=0.02)
    assert share == pytest.approx(zipf, abs=0.02)


def test_sticky_users_stay_in_their_family() -> None:
    asked = _many(RequestConfig(request_prob=1.0, stickiness=0.9, zipf_exponent=0.0))
    same = (FAMILIES[asked[1:]] == FAMILIES[asked[:-1]]).mean()

    assert same == pytest.approx(0.9 + 0.1 / 3, abs=0.02)


def test_cells_with_taste_differ_and_flash_crowds_flock() -> None:
    taste = _many(RequestConfig(request_prob=1.0, cell_taste=1.0, drift_prob=0.0, zipf_exponent=2.0))
    tops = {int(np.bincount(taste[:, cell::4].ravel()).argmax()) for cell in range(4)}
    flash = _many(RequestConfig(request_prob=1.0, flash_prob=1.0, flash_share=1.0))

    assert len(tops) > 1
    assert all(len(set(row.tolist())) == 1 for row in flash)


def test_the_day_has_a_wave() -> None:
    asked = _many(RequestConfig(request_prob=0.5, diurnal_amplitude=1.0, diurnal_slots=40)) >= 0
    by_hour = asked.reshape(10, 40, 50).mean(axis=(0, 2))

    assert by_hour[10] == pytest.approx(1.0, abs=0.05)
    assert by_hour[30] == pytest.approx(0.0, abs=0.05)
