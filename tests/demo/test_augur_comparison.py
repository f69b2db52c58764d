import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.experiments import augur as report
from policy.config import FINDINGS
from policy.errors import StaleResultsError
from policy.evaluation import lookup
from policy.learn.checkpoint import SHIPPED
from policy.play.rollout import rollout
from policy.scenario import Scenario
from policy.schemes import find_scheme
from policy.world.synthetic import synthetic_catalog

CATALOG = synthetic_catalog(
    np.random.default_rng(0), models=4, blocks_per_model=3, families=2, shared=0.5, mean_block_bytes=30e6
)
SMALL = Scenario(replace(FINDINGS, num_nodes=2, num_users=4, num_slots=4, capacity_bytes=()), CATALOG)
SCENARIOS = {"findings": SMALL, "other": Scenario(replace(SMALL.config, num_users=5), CATALOG)}
SIZE = ["--worlds", "3", "--seeds", "2", "--shifted-worlds", "2", "--bound-worlds", "1", "--workers", "1"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "shifted_scenarios", lambda: SCENARIOS)
    monkeypatch.setattr(report, "ewma_settings", lambda plain=False: lookup.ewma_settings(plain)[:2])
    monkeypatch.setattr(lookup, "TUNING_WORLDS", 2)
    report.scenario_of.cache_clear()


def _run(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    assert report.main([*SIZE, "--out", str(out)]) == 0
    return json.loads(out.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["ewma-greedy", "learned", "lru"])
def test_looked_up_costs_are_those_of_the_played_world(name: str) -> None:
    world, entry = SMALL.world(5), find_scheme(name)
    played = rollout(world, entry, np.random.default_rng(1))
    looked_up = lookup.play_by_tables(world, entry, np.random.default_rng(1))

    assert looked_up.cost_s == pytest.approx(played.mean_cost_s, rel=1e-9)


def test_costs_that_are_not_additive_are_refused() -> None:
    world = Scenario(replace(SMALL.config, timing="pipelined"), CATALOG).world(0)
    with pytest.raises(ValueError, match="additive"):
        lookup.play_by_tables(world, find_scheme("lru"), np.random.default_rng(0))


def test_an_interrupted_comparison_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = _run(tmp_path / "whole.json"), tmp_path / "cut.json"
    play, left = report.play_part, iter(range(4))

    def interrupted(part: report.Part) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return play(part)

    monkeypatch.setattr(report, "play_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.main([*SIZE, "--out", str(out)])
    kept = json.loads(out.read_text())
    assert set(kept["scenarios"]) == {"findings"}
    assert len(kept["worlds"]["other"]) == 1
    monkeypatch.setattr(report, "play_part", play)

    again = _run(out)

    for name in SCENARIOS:
        assert again["scenarios"][name]["reduction"] == whole["scenarios"][name]["reduction"]
    assert not again["worlds"]
    assert "| other |" in out.with_suffix(".md").read_text()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    _run(tmp_path / "a.json")
    with pytest.raises(StaleResultsError, match=r"made by other seeds \(\[2, 2\], not \[3, 2\]\)"):
        report.main([*SIZE, "--seeds", "3", "--out", str(tmp_path / "a.json")])


def test_training_seeds_take_turns(tmp_path: Path) -> None:
    shipped = SHIPPED / "augur.safetensors"
    weights = ["--weights", str(shipped), str(shipped)]
    assert report.main([*SIZE, *weights, "--only", "findings", "--out", str(tmp_path / "a.json")]) == 0
    row = json.loads((tmp_path / "a.json").read_text())["scenarios"]["findings"]

    assert len(row["learned_s_by_training_seed"]) == 2
    assert np.mean(row["learned_s_by_training_seed"]) == pytest.approx(row["learned_s"])
