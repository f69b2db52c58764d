import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.experiments import learners as run
from policy.errors import StaleResultsError
from policy.learn.checkpoint import load_checkpoint
from policy.learn.marl.setups import ABLATIONS, BEST, CHOICES, episodes_in

RESULTS = Path(run.__file__).parent / "results" / "convergence.json"


def _stand_in(job: run.Job) -> tuple[run.Job, list[dict[str, float]], dict[str, Any]]:
    """Learns at once; the second seed is better."""
    curve = [{"env_steps": 10 * i, "cpu_s": 1.0 * i, "cost_s": 50.0 - i - job.seed} for i in range(3)]
    return job, curve, {"about": {"seed": job.seed}, "weights": {"w": np.full(1, job.seed, np.float32)}}


def _refer(results: run.Results) -> None:
    results.done["references_s"] = {"lru": 46.0, "lru, narrow links": 56.0}
    results.done["real_s"] |= {"lru": {"-": [44.0, 46.0]}, "pooled": {"-": [38.0, 42.0]}}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "train", _stand_in)
    monkeypatch.setattr(run, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(run.Results, "refer", _refer)
    monkeypatch.setattr(run, "real_costs_of", lambda job, weights: [38 + 3.8 * job.seed, 42 + 4.2 * job.seed])
    return tmp_path / "convergence.json"


def test_everything_is_trained_over_seeds_and_the_best_seed_ships(out: Path) -> None:
    assert run.main(["--seeds", "2", "--out", str(out)]) == 0
    done = json.loads(out.read_text())

    narrow = {f"maasn-da, discount {discount}, narrow links" for discount in run.DISCOUNTS}
    assert set(done["curves"]) == {*CHOICES, *ABLATIONS, *narrow}
    assert all(set(runs) == {"1", "2"} for runs in done["curves"].values())
    assert load_checkpoint(out.parent / "weights" / "vdn.safetensors").about["seed"] == 2
    table = out.with_suffix(".md").read_text()
    trio, _, narrowed = table.partition("`trio-narrow`")
    row = (
        "| 47.500 | 46.500 | 46.500 | 46.000 to 47.000 | 46.000 | 44.000 to 48.000 | 15.0% (15.0% to 15.0%) |"
    )
    assert f"| vdn | 2 | 20 | 2 {row}" in trio
    assert "| lru | | | | | | 46.000 | | 45.000 |  | 12.5% " in trio
    assert "| maasn-da, discount 0.8 | 2 |" in narrowed
    assert "narrow links" not in table


def test_what_is_finished_is_not_trained_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.main(["--seeds", "1", "--out", str(out), "--only", "vdn"])
    jobs: list[run.Job] = []
    monkeypatch.setattr(run, "train", lambda job: jobs.append(job) or _stand_in(job))
    run.main(["--seeds", "2", "--out", str(out), "--only", "vdn"])

    assert [(job.name, job.seed, job.episodes) for job in jobs] == [("vdn", 2, episodes_in("vdn", 9))]
    with pytest.raises(StaleResultsError, match=r"made by other training_s \(9, not 5.0\)"):
        run.main(["--training-s", "5", "--out", str(out)])


@pytest.mark.slow
def test_a_trained_learner_is_plain_data() -> None:
    setup = next(iter(CHOICES["vdn"].values()))
    job, curve, made = run.train(run.Job(name="vdn", seed=1, setup=setup, episodes=1))

    assert [point["env_steps"] for point in curve] == [0, 24 * 24]
    assert made["about"]["seed"] == job.seed == 1
    json.dumps([curve, made["about"]])


def test_the_best_settings_are_those_of_the_committed_results() -> None:
    tried = json.loads(RESULTS.read_text())["tried_s"]

    assert {name: min(costs, key=costs.__getitem__) for name, costs in tried.items()} == BEST
