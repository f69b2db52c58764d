"""When the price of work is let go is trained alike whether stopped or not, and only where it gains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.experiments import tradeoffs
from demo.experiments.settings_ten import RESULTS
from policy.evaluation.closure import closure_of
from policy.interfaces import Float, Int
from policy.learn.checkpoint import weights_of
from policy.learn.decisions import FEATURES, OUTPUTS, DecisionWeights
from tests.demo.test_ten_settings import SMALL

JOB = tradeoffs.Job(
    seed=3,
    slots=2,
    demand=str(weights_of("augur-demand")),
    clock=str(weights_of("augur-decisions")),
    settings=(SMALL, replace(SMALL, name="smaller", changes={**SMALL.changes, "capacity_share": 0.1})),
)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    at_once = tradeoffs.rows_of(JOB, 4, tmp_path / "whole", 1)
    tradeoffs.rows_of(JOB, 2, tmp_path / "parts", 1)
    before = {path: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    in_parts = tradeoffs.rows_of(JOB, 4, tmp_path / "parts", 1)

    assert at_once == in_parts
    assert before
    assert all(path.read_bytes().startswith(text) for path, text in before.items())  # nothing played twice
    whole, parts = (tradeoffs.train(rows, ("one", "other"), 3)[0] for rows in (at_once, in_parts))
    np.testing.assert_array_equal(whole, parts)


def test_what_is_kept_depends_on_code_and_weights_also_as_a_program() -> None:
    made_by = JOB.made_by()
    other = replace(JOB, clock=str(RESULTS / "decisions-seed-1.safetensors")).made_by()

    assert made_by["code"] == closure_of(["demo.experiments.tradeoffs"]).digest
    assert [name for name in made_by if made_by[name] != other[name]] == ["prices"]


def test_a_played_world_has_its_circumstances_and_both_delays() -> None:
    row = tradeoffs.played(JOB, 0)

    assert len(row["features"]) == len(FEATURES)
    assert row["features"][0] == 1.0
    assert row["priced_s"] > 0
    assert row["free_s"] > 0
    assert tradeoffs.played(JOB, 0) == row
    assert tradeoffs.played(JOB, 1) != row


NAMES = tuple(f"setting {place}" for place in range(6))


def answers(rows: int, noise: float) -> tuple[Float, Float, Int]:
    """Circumstances, answers and settings: without the price 6 % less where load is below 0, else more."""
    rng = np.random.default_rng(0)
    room, load = rng.uniform(-2, 2, rows), rng.uniform(-2, 2, rows)
    busy = rng.uniform(0, 1, rows)
    features = np.column_stack([np.ones(rows), room, busy, load, room * room, room * load])
    clean = np.where(load < 0, -0.06, 0.06)
    return features, clean + rng.normal(0.0, noise, rows), rng.integers(6, size=rows)


def test_it_learns_in_which_circumstances_the_price_goes_and_tells_an_honest_gain() -> None:
    features, ratios, group = answers(300, 0.06)
    ease = tradeoffs.fitted(features, ratios, 0.0001, 0)
    fresh, clean, _ = answers(1000, 0.0)
    told = float(tradeoffs.left_out(features, ratios, group, 0.0001, 0).mean())

    taken, load = ease.of(fresh), fresh[:, FEATURES.index("load")]
    assert taken[load < -0.7].min() > 0.6
    assert taken[load > 0.7].max() < 0.4
    best = float(np.minimum(clean, 0.0).mean())
    assert told == pytest.approx(float((taken * clean).mean()), abs=0.006)
    assert told < 0.6 * best


def test_what_is_told_of_a_setting_knows_nothing_of_it() -> None:
    """A setting that answers the other way round is followed the wrong way when it is left out."""
    features, ratios, group = answers(300, 0.0)
    other = np.where(group == 2, -ratios, ratios)
    told = tradeoffs.left_out(features, other, group, 0.0001, 0)

    assert told[group == 2].mean() > 0
    assert told[group != 2].mean() < 0


def test_how_busy_links_are_is_not_looked_at() -> None:
    features, ratios, _ = answers(200, 0.02)
    ease = tradeoffs.fitted(features, ratios, 0.0001, 0)
    busier = features.copy()
    busier[:, FEATURES.index("busy")] += 5.0

    np.testing.assert_array_equal(ease.of(busier), ease.of(features))


def test_weights_are_those_of_circumstances_as_they_are() -> None:
    features, ratios, _ = answers(100, 0.02)
    ease = tradeoffs.fitted(features, ratios, 0.001, 0)
    weights = tradeoffs.with_ease(ease.row)

    for row, expected in zip(features[:5], ease.of(features[:5]), strict=True):
        assert DecisionWeights(weights).at(row).ease == pytest.approx(expected, abs=1e-6)
    kept = DecisionWeights(tradeoffs.with_ease(tradeoffs.NEVER)).weights
    np.testing.assert_array_equal(weights[:-1], kept[:-1])


@pytest.mark.parametrize("more", [0.05, 0.0])
def test_where_it_gains_nothing_the_price_stays(more: float) -> None:
    features, _, group = answers(60, 0.0)
    rows = _rows(features, np.full(60, more), group)
    weights, told = tradeoffs.train(rows, NAMES, 0)

    assert told["log_ratio"] >= 0
    assert DecisionWeights(weights).at(np.array(rows[0]["features"])).ease < 1e-6
    assert weights.shape == (len(OUTPUTS), len(FEATURES))


def _rows(features: Float, ratios: Float, group: Int) -> list[dict[str, Any]]:
    every = zip(group, features, ratios, strict=True)
    return [
        {"setting": int(one), "features": row.tolist(), "priced_s": 1.0, "free_s": float(np.exp(ratio))}
        for one, row, ratio in every
    ]


def test_foreign_settings_are_told_of_and_never_fitted_to() -> None:
    features, ratios, group = answers(300, 0.0)
    names = (*NAMES[:5], "bursts")
    plain, told = tradeoffs.train(_rows(features, ratios, group), names, 0)
    turned, other = tradeoffs.train(_rows(features, np.where(group == 5, -ratios, ratios), group), names, 0)

    np.testing.assert_array_equal(plain, turned)
    assert told["log_ratio"] == other["log_ratio"] < 0
    assert told["not_fitted_to"]["bursts"] < 0 < other["not_fitted_to"]["bursts"]


def test_one_setting_alone_is_refused() -> None:
    features, ratios, _ = answers(20, 0.0)
    for names in (["room-5"], ["room-5", "bursts", "p1"]):
        group = np.arange(20) % len(names)
        with pytest.raises(ValueError, match="two settings or more"):
            tradeoffs.train(_rows(features, ratios, group), names, 0)
