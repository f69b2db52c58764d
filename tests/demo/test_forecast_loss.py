"""How much forecasts could still learn: losses beside who is told the hidden state."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.experiments import forecast_loss
from demo.experiments.forecast_loss import WHO, log_loss, losses, main
from demo.experiments.ten_settings import SETTINGS
from policy.config import load_config
from policy.scenario import Scenario, shipped_catalog
from policy.world.splits import world_seed


def test_a_slot_costs_the_log_of_what_came() -> None:
    chance = np.array([[0.5, 0.25], [0.1, 0.2]])
    assert log_loss(chance, np.array([1, -1])) == pytest.approx(-(np.log(0.25) + np.log(0.7)) / 2)


def test_no_chance_is_dear_but_finite() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))


def test_who_is_told_the_hidden_state_forecasts_best() -> None:
    """In the mean over worlds; a forecast that took no note of the world would not pass."""
    config = load_config("v30")
    scenario = Scenario(replace(config, num_slots=12), shipped_catalog(config.catalog))
    loss = np.stack([losses(scenario.world(world_seed("train", 300900 + n))) for n in range(6)]).mean(
        axis=(0, 2)
    )
    alike, statistics, learned, told = loss
    assert told < learned < statistics
    assert learned < alike


def test_the_table_tells_its_command_and_every_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("room-5", "bursts")
    settings = tuple(setting for setting in SETTINGS if setting.name in names)
    monkeypatch.setattr(forecast_loss, "SETTINGS", settings)
    monkeypatch.setattr(forecast_loss, "losses", _even)
    assert main(["--worlds", "2", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "forecast-loss.json").read_text())
    assert list(told["results"]) == list(names)
    part = told["results"]["bursts"]["slots 4 to 11"]
    assert part == {
        "nats": dict(zip(WHO, (0.0, 1.0, 2.0, 3.0), strict=True)),
        "above_told": -1.0,
        "standard_error": 0.0,
    }
    text = (tmp_path / "forecast-loss.md").read_text()
    assert "forecast_loss --worlds 2 --first-world 300700" in text
    assert capsys.readouterr().out.strip() == text.strip()


def test_one_world_has_no_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--worlds", "1"])
    assert "--worlds must be >= 2" in capsys.readouterr().err


def _even(_world: object) -> np.ndarray:
    return np.repeat(np.arange(4.0)[:, None], 24, axis=1)
