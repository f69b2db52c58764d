"""When the price of work is let go is trained alike whether stopped or not, and only where it gains."""

from pathlib import Path

import numpy as np
import pytest

from demo.experiments import tradeoffs
from policy.interfaces import Float
from policy.learn.checkpoint import weights_of
from policy.learn.decisions import FEATURES, OUTPUTS, DecisionWeights
from tests.demo.test_ten_settings import SMALL

JOB = tradeoffs.Job(
    seed=3,
    slots=2,
    demand=str(weights_of("augur-demand")),
    clock=str(weights_of("augur-decisions")),
    settings=(SMALL,),
)


def test_training_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tradeoffs, "function_digest", lambda _: "code")
    at_once = tradeoffs.rows_of(JOB, 4, tmp_path / "whole", 1)
    tradeoffs.rows_of(JOB, 2, tmp_path / "parts", 1)
    before = {path: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    in_parts = tradeoffs.rows_of(JOB, 4, tmp_path / "parts", 1)

    assert at_once == in_parts
    assert before
    assert all(path.read_bytes().startswith(text) for path, text in before.items())  # nothing played twice
    np.testing.assert_array_equal(tradeoffs.train(at_once, 3)[0], tradeoffs.train(in_parts, 3)[0])


def test_a_played_world_has_its_circumstances_and_both_delays() -> None:
    row = tradeoffs.played(JOB, 0)

    assert len(row["features"]) == len(FEATURES)
    assert row["features"][0] == 1.0
    assert row["priced_s"] > 0
    assert row["free_s"] > 0
    assert tradeoffs.played(JOB, 0) == row
    assert tradeoffs.played(JOB, 1) != row


def answers(rows: int, noise: float) -> tuple[Float, Float]:
    """Circumstances, and answers: 6 % less without the price where the third is below 0.3, else 6 % more."""
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(rows), rng.normal(size=(rows, 3)) * 5, rng.uniform(0, 1, rows)])
    clean = np.where(features[:, 4] < 0.3, -0.06, 0.06)
    return features, clean + rng.normal(0.0, noise, rows)


def test_it_learns_in_which_circumstances_the_price_goes_and_tells_an_honest_gain() -> None:
    features, ratios = answers(300, 0.06)
    ease = tradeoffs.fitted(features, ratios, 0.0001, 0)
    fresh, clean = answers(1000, 0.0)
    told = float(tradeoffs.out_of_fold(features, ratios, 0.0001, 0).mean())

    taken = ease.of(fresh)
    assert taken[fresh[:, 4] < 0.2].min() > 0.6
    assert taken[fresh[:, 4] > 0.45].max() < 0.4
    best = float(np.minimum(clean, 0.0).mean())
    assert told == pytest.approx(float((taken * clean).mean()), abs=0.006)
    assert told < 0.6 * best


def test_weights_are_those_of_circumstances_as_they_are() -> None:
    features, ratios = answers(100, 0.02)
    ease = tradeoffs.fitted(features, ratios, 0.01, 0)
    weights = tradeoffs.with_ease(ease.row)

    for row, expected in zip(features[:5], ease.of(features[:5]), strict=True):
        assert DecisionWeights(weights).at(row).ease == pytest.approx(expected, abs=1e-6)
    kept = DecisionWeights(tradeoffs.with_ease(tradeoffs.NEVER)).weights
    np.testing.assert_array_equal(weights[:-1], kept[:-1])


@pytest.mark.parametrize("less", [0.05, 0.0])
def test_where_it_gains_nothing_the_price_stays(less: float) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {
            "setting": 0,
            "features": [1.0, *rng.normal(size=4)],
            "priced_s": 1.0,
            "free_s": float(np.exp(less)),
        }
        for _ in range(60)
    ]
    weights, told = tradeoffs.train(rows, 0)

    assert told["log_ratio"] >= 0
    assert DecisionWeights(weights).at(np.array(rows[0]["features"])).ease < 1e-6
    assert weights.shape == (len(OUTPUTS), len(FEATURES))
