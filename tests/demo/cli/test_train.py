import json
from pathlib import Path

import pytest

pytest.importorskip("demo")


@pytest.mark.slow
def test_train_writes_weights_and_explain_uses_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from demo.cli import main

    out = tmp_path / "run"
    small = ["--steps", "5", "--settings", "2", "--worlds", "2", "--out", str(out), "--json"]
    assert main(["train", *small]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["step"] == 5
    assert run["weights"] == str(out / "best.safetensors")
    weights = str(out / "best.safetensors")
    assert main(["explain", "--weights", weights, "--slot", "2", "--node", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["node"] for row in rows} == {1}
    assert main(["explain", "--weights", str(tmp_path / "none.safetensors")]) == 1
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_baselines_are_trained_over_seeds_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from demo.cli import main

    small = [
        "train",
        "vdn",
        "--steps",
        "2",
        "--worlds",
        "2",
        "--out",
        str(tmp_path),
        "--seeds",
        "2",
        "--json",
    ]
    assert main(small) == 0
    first = json.loads(capsys.readouterr().out)["runs"]
    assert [run["seed"] for run in first] == [0, 1]
    assert (tmp_path / "seed-1" / "log.csv").exists()

    assert main(small) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*small, "--resume"]) == 0
    again = json.loads(capsys.readouterr().out)["runs"]
    assert [run["history"] for run in again] == [run["history"] for run in first]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["lru"], "is not trained"),
        (["learned", "--scenario", "default"], "random settings"),
        (["qmix", "--settings", "3"], "--settings is for learned"),
        (["qmix", "--learning-rate", "-1"], "learning_rate > 0"),
    ],
)
def test_what_cannot_be_trained_is_told(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from demo.cli import main

    assert main(["train", *options, "--out", str(tmp_path)]) == 1
    assert told in capsys.readouterr().err
