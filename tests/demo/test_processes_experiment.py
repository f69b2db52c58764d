"""The ladder of each request process: played, told with intervals, kept."""

import json
from pathlib import Path

import pytest

from demo.experiments import processes
from policy.process_config import PROCESSES
from policy.scenario import load_scenario
from policy.schemes import find_scheme


def test_every_process_is_played_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cache_root", lambda: tmp_path / "cache")
    scenario = tmp_path / "s.toml"
    scenario.write_text('base = "findings"\nname = "short"\nnum_slots = 2\nnum_users = 3\n')
    options = ["--worlds", "2", "--tune-worlds", "0", "--bound-worlds", "1", "--workers", "1"]
    options += ["--schemes", "lru,ewma-greedy", "--scenario", str(scenario), "--out", str(tmp_path)]

    assert processes.main(["bursts", "shots", *options]) == 0

    kept = json.loads((tmp_path / "processes-short.json").read_text())["processes"]
    told = (tmp_path / "processes-short.md").read_text()
    shown = capsys.readouterr().out
    assert set(kept) == {"bursts", "shots"}
    for name, process in kept.items():
        assert process["settings"]["scenario"]["requests"]["process"] == name
        low, high = process["schemes"]["lru"]["gain"]["ci95"]
        assert low <= process["schemes"]["lru"]["gain"]["reduction"] <= high
        assert process["schemes"]["ewma-greedy"]["gain"] is None
        assert process["bound_s"] > 0
        assert f"{process['schemes']['lru']['cost_s']:.3f}" in told
        assert f"## {name}" in shown


def test_only_the_process_changes() -> None:
    base = load_scenario("findings")
    worlds = {name: processes.with_process(base, name) for name in PROCESSES}

    assert {name: s.config.requests.process for name, s in worlds.items()} == {n: n for n in PROCESSES}
    assert len({repr(s.config.links) + repr(s.capacity_bytes) for s in worlds.values()}) == 1
    assert worlds["ranks"].config.requests == base.config.requests


def test_what_is_played_exists() -> None:
    assert {find_scheme(name).name for name in processes.SCHEMES} == set(processes.SCHEMES)
    assert set(processes.TUNED) <= set(processes.SCHEMES)
    assert processes.REFERENCE in processes.SCHEMES
