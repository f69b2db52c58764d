"""Trade-offs are trained alike whether stopped or not, and nothing is changed where nothing is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from demo.experiments import response_surface, tradeoffs
from demo.experiments.response_surface import ResponseSurface, Trials
from policy.interfaces import Float
from policy.learn.checkpoint import weights_of
from policy.learn.decisions import FEATURES, OUTPUTS, UNTRAINED
from tests.demo.test_ten_settings import SMALL

PARTS = (str(weights_of("augur-demand")), str(weights_of("augur-decisions")))


def test_training_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tradeoffs, "function_digest", lambda _: "code")
    monkeypatch.setattr(tradeoffs, "STEPS", 5)
    monkeypatch.setattr(response_surface, "STEPS", 5)
    whole = tradeoffs.TradeoffConfig(worlds=2, candidates=2, rounds=2, slots=2)
    part = tradeoffs.TradeoffConfig(worlds=1, candidates=2, rounds=1, slots=2)
    start = np.array(UNTRAINED)
    at_once, told = tradeoffs.train(start, whole, [SMALL], tmp_path / "whole", PARTS)
    tradeoffs.train(start, part, [SMALL], tmp_path / "parts", PARTS)
    before = {path: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    in_parts, _ = tradeoffs.train(start, whole, [SMALL], tmp_path / "parts", PARTS)

    np.testing.assert_array_equal(at_once, in_parts)
    assert at_once.shape == (len(OUTPUTS), len(FEATURES))
    assert len(told["rounds"]) == 2
    assert all(path.read_bytes().startswith(text) for path, text in before.items())  # nothing played twice


def test_a_shift_is_the_same_in_all_circumstances() -> None:
    weights, shift = np.arange(25.0).reshape(5, 5), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    features = np.array([1.0, -0.3, 0.5, 0.2, 1.0])

    np.testing.assert_allclose(tradeoffs.shifted(weights, shift) @ features, weights @ features + shift)
    assert weights[0, 0] == 0.0


def answers(rng: np.random.Generator, changes: Float, features: Float) -> Float:
    """Best at a change of +1 of the first output where the first feature is high, of -1 where it is low."""
    best = np.where(features[:, 0] > 0, 1.0, -1.0)
    clean: Float = 0.02 * ((changes[:, 0] - best) ** 2 - best**2)
    return clean + rng.normal(0.0, 0.01, len(changes))


def synthetic(rows: int) -> Trials:
    rng = np.random.default_rng(0)
    changes, features = rng.normal(size=(rows, 3)), rng.choice([-1.0, 1.0], (rows, 2))
    return Trials(
        changes=changes,
        features=features,
        log_ratios=answers(rng, changes, features),
        worlds=np.arange(rows) // 4,
        settings=np.arange(rows) // 4 % 2,
    )


@pytest.fixture(scope="module")
def surface() -> ResponseSurface:
    """Fitted to answers that are known."""
    return ResponseSurface(synthetic(160))


def test_no_change_is_expected_to_change_nothing_for_certain(surface: ResponseSurface) -> None:
    features = torch.tensor([[1.0, -1.0], [0.3, 5.0]], dtype=torch.float64)
    mean, doubt = surface.expected(torch.zeros(2, 3, dtype=torch.float64), features)

    assert mean.abs().max() < 1e-9
    assert doubt.max() < 1e-5


def test_the_surface_tells_which_change_is_best_in_which_circumstances(surface: ResponseSurface) -> None:
    tried = torch.zeros(41, 3, dtype=torch.float64)
    tried[:, 0] = torch.linspace(-2, 2, 41)
    for sign in (1.0, -1.0):
        features = torch.tensor([sign, 1.0], dtype=torch.float64).expand(41, 2)
        mean, doubt = surface.expected(tried, features)
        least = int(mean.argmin())
        assert tried[least, 0] == pytest.approx(sign, abs=0.4)
        assert mean[least] == pytest.approx(-0.02, abs=0.01)
        assert doubt[least] < 0.01


def test_doubt_grows_away_from_what_was_tried(surface: ResponseSurface) -> None:
    features = torch.ones(2, 2, dtype=torch.float64)
    _, doubt = surface.expected(torch.tensor([[1.0, 0, 0], [30.0, 0, 0]], dtype=torch.float64), features)

    assert doubt[1] > 3 * doubt[0]


def test_settings_of_training_are_positive() -> None:
    with pytest.raises(ValueError, match="candidates"):
        tradeoffs.TradeoffConfig(candidates=0)
