"""Request processes of other makers: each is what its name says, pure, and of the load asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.bounds.process import check_known
from policy.config import RequestConfig, load_config
from policy.errors import PolicyError
from policy.interfaces import Int
from policy.play.rollout import rollout
from policy.process_config import PROCESSES, BurstConfig, MoodConfig, ProcessName, ShotConfig, WeeklyConfig
from policy.scenario import Scenario, load_scenario
from policy.schemes import find_scheme
from policy.world.processes import start_requests, step_requests
from policy.world.processes.bursts import BurstState, step_bursts
from policy.world.processes.drawing import draw_requests, pareto
from policy.world.processes.shots import mean_volume
from policy.world.trace import step_world

FOREIGN: list[ProcessName] = [name for name in PROCESSES if name != "ranks"]
USERS, NODES, MODELS = 40, 4, 12
FAMILIES = np.arange(MODELS) % 3
CELLS = np.arange(USERS) % NODES


def _requests(config: RequestConfig, slots: int, seed: int = 0) -> Int:
    """(slots, users)."""
    rng = np.random.default_rng(seed)
    state, rows = start_requests(rng, USERS, NODES, MODELS, config), []
    for _ in range(slots):
        state, asked = step_requests(rng, state, CELLS, FAMILIES, config)
        rows.append(asked)
    return np.array(rows)


@pytest.mark.parametrize("name", PROCESSES)
@given(seed=st.integers(0, 10**6), prob=st.floats(0.0, 1.0))
@settings(max_examples=10, deadline=None)
def test_requests_are_models_or_none_and_the_seed_decides(name: ProcessName, seed: int, prob: float) -> None:
    config = RequestConfig(process=name, request_prob=prob)
    asked = _requests(config, 5, seed)

    assert ((asked >= -1) & (asked < MODELS)).all()
    np.testing.assert_array_equal(asked, _requests(config, 5, seed))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_step_leaves_the_state_as_it_was(name: ProcessName) -> None:
    config = RequestConfig(process=name)
    state = start_requests(np.random.default_rng(1), USERS, NODES, MODELS, config)
    futures = [
        step_requests(np.random.default_rng(seed), state, CELLS, FAMILIES, config) for seed in (5, 6, 5)
    ]

    np.testing.assert_array_equal(futures[0][1], futures[2][1])
    assert (futures[0][1] != futures[1][1]).any()


@pytest.mark.parametrize("name", ["weekly", "moods", "shots"])
@pytest.mark.parametrize("prob", [0.2, 0.4])
def test_the_load_is_the_one_asked_for(name: ProcessName, prob: float) -> None:
    config = RequestConfig(process=name, request_prob=prob)
    share = np.mean([(_requests(config, 84, seed) >= 0).mean() for seed in range(30)])

    assert share == pytest.approx(prob, rel=0.1)


def test_bursts_add_requests_where_the_crowd_is() -> None:
    calm = RequestConfig(process="bursts", request_prob=0.4, bursts=BurstConfig(rate=0.0))
    crowd = replace(calm, bursts=BurstConfig(rate=0.5))
    shares = [(_requests(config, 400) >= 0).mean() for config in (calm, crowd)]

    assert shares[0] == pytest.approx(0.4, abs=0.02)
    assert shares[0] < shares[1] < 0.4 * 1.5


def test_a_burst_takes_its_share_dies_down_and_stays_in_its_cell() -> None:
    config = RequestConfig(process="bursts", request_prob=1.0, bursts=BurstConfig(rate=0.0, urge=0.0))
    one = np.zeros(1, dtype=np.int64)
    state = BurstState(
        popular=np.full(MODELS, 1 / MODELS),
        model=one + 3,
        cell=one + 2,
        size=one + 9.0,
        age=one - 1,
        nodes=NODES,
    )
    rng, hot = np.random.default_rng(0), []
    cells = np.repeat(np.arange(NODES), 500)
    for _ in range(30):
        state, asked = step_bursts(rng, state, cells, config)
        hot.append([(asked[cells == cell] == 3).mean() for cell in range(NODES)])
    shares = np.array(hot)

    assert shares[0, 2] == pytest.approx((9 + 1 / 12) / 10, abs=0.05)
    now = 9 * 30.0**-1.4
    assert shares[29, 2] == pytest.approx((now + 1 / 12) / (now + 1), abs=0.05)
    assert np.delete(shares, 2, axis=1).mean() == pytest.approx(1 / 12, abs=0.01)


def test_a_week_comes_round() -> None:
    week = WeeklyConfig(day_slots=8, clock_spread=0.0, focus=6.0)
    config = RequestConfig(process="weekly", weekly=week, request_prob=0.6)
    counts = np.zeros((2, 56, MODELS))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        state = replace(start_requests(rng, USERS, NODES, MODELS, config), slot=0)  # type: ignore[type-var]
        for slot in range(10 * 56):
            state, asked = step_requests(rng, state, CELLS, FAMILIES, config)
            counts[slot // 56 % 2, slot % 56] += np.bincount(asked[asked >= 0], minlength=MODELS)
    a_slot = counts.sum(axis=(0, 2)).reshape(7, 8)

    assert np.corrcoef(counts[0].ravel(), counts[1].ravel())[0, 1] > 0.9  # one week is like another
    assert a_slot[5:].mean() / a_slot[:5].mean() == pytest.approx(0.6, rel=0.1)
    assert (a_slot[:, 4] > 2 * a_slot[:, 0]).all()  # noon and midnight


def test_sessions_last_as_long_as_they_should_and_moods_hold() -> None:
    moods = MoodConfig(session_slots=6.0, mood_slots=1e9, common=1.0, moods=1)
    asked = _requests(RequestConfig(process="moods", request_prob=0.3, moods=moods), 3000)
    active = asked >= 0
    begins = (~active[:-1] & active[1:]).sum()
    wants = np.bincount(asked[active], minlength=MODELS) / active.sum()
    halves = [
        np.bincount(part[part >= 0], minlength=MODELS) / (part >= 0).sum() for part in np.split(asked, 2)
    ]

    assert active.sum() / begins == pytest.approx(6.0, rel=0.1)
    np.testing.assert_allclose(*halves, atol=0.02)
    assert wants.max() > 2 / MODELS  # a mood is not even


def test_interest_is_born_and_fades() -> None:
    """Requests for a model come in clusters: far more variable than by chance alone, and alike soon after."""
    config = RequestConfig(process="shots", request_prob=0.3, shots=ShotConfig(background=0.0))
    asked = _requests(config, 2000)
    counts = np.array([(asked == model).sum(axis=1) for model in range(MODELS)])
    fano = counts.var(axis=1) / counts.mean(axis=1)

    def alike(lag: int) -> float:
        return float(np.mean([np.corrcoef(row[:-lag], row[lag:])[0, 1] for row in counts]))

    assert (fano > 1.5).all()
    assert alike(1) > 0.3 > abs(alike(80))


def test_cut_pareto_draws_have_the_mean_that_is_charged() -> None:
    drawn = pareto(np.random.default_rng(0), 200_000, 1.3, 50.0)

    assert drawn.min() >= 1
    assert drawn.max() == 50.0
    assert drawn.mean() == pytest.approx(mean_volume(1.3, 50.0), rel=0.01)


def test_draws_follow_the_weights() -> None:
    rng, weights = np.random.default_rng(0), np.array([1.0, 0.0, 3.0])
    asked = draw_requests(rng, np.tile(weights, (40_000, 1)), np.array(0.5))
    nothing = draw_requests(rng, np.zeros((5, 3)), np.array(1.0))

    assert (nothing == -1).all()
    assert (asked == -1).mean() == pytest.approx(0.5, abs=0.01)
    assert (asked != 1).all()
    assert (asked == 2).sum() / (asked == 0).sum() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_scenario_file_chooses_the_process_and_the_learner_can_play_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        f'base = "findings"\nnum_slots = 3\n[requests]\nprocess = "{name}"\n[requests.shots]\nrate = 2\n'
    )
    config = load_config(file)
    world = Scenario(config, load_scenario("findings").catalog).world(3)
    rng = np.random.default_rng(0)
    _, places, asked = step_world(rng, world.hidden[1], config, world.scenario.families)

    assert (config.requests.process, config.requests.shots.rate) == (name, 2.0)
    assert json.loads(json.dumps(config.to_dict()))["requests"][
        name if name in ("weekly", "moods") else "shots"
    ]
    assert places.shape == (12, 2)
    assert asked.shape == (12,)
    for scheme in ("learned", "planner", "pooled"):
        assert rollout(world, find_scheme(scheme), np.random.default_rng(0)).mean_cost_s > 0
    with pytest.raises(PolicyError, match="written for the process 'ranks'"):
        check_known(config.requests)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('process = "sunspots"', "process must be one of"),
        ("[requests.bursts]\ntail = 0", "tail must be >= 0.1, got 0"),
        ("[requests.bursts]\nlocal_share = 1.5", r"local_share must be in \[0, 1\]"),
        ("[requests.weekly]\nday_slots = 0", "day_slots must be >= 1, got 0"),
        ("[requests.weekly]\nday_slots = 2.5", "day_slots must be int"),
        ("[requests.moods]\nmoods = 0", "moods must be >= 1, got 0"),
        ("[requests.shots]\ntail = 1", "tail must be >= 1.01"),
        ("[requests.shots]\nrate = inf", "rate must be a finite number"),
        ("[requests.shots]\nspeed = 1", "unknown field 'speed'; ShotConfig has"),
    ],
)
def test_bad_settings_are_refused_in_one_line(text: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"[requests]\n{text}\n")

    with pytest.raises(ValueError, match=error) as raised:
        load_config(file)
    assert "\n" not in str(raised.value)
