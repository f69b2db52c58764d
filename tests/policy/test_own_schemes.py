"""Schemes, catalogs and worlds of one's own play beside others, and are kept only where that is safe."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import policy.schemes.own as own
from policy.config import FINDINGS
from policy.errors import SchemeError
from policy.evaluation import evaluate
from policy.examples.my_scheme import ENTRY
from policy.scenario import Scenario
from policy.schemes import find_scheme, parts_of
from policy.world.synthetic import synthetic_catalog

EXAMPLE = Path(own.__file__).parents[1] / "examples" / "my_scheme.py"
NAME = f"{EXAMPLE}:ENTRY"


def small() -> Scenario:
    catalog = synthetic_catalog(
        np.random.default_rng(0), models=4, blocks_per_model=4, families=2, shared=0.5, mean_block_bytes=1e6
    )
    return Scenario(replace(FINDINGS, num_slots=4, capacity_bytes=(), capacity_share=0.3), catalog)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_and_an_entry_play_alike_and_beside_others(tmp_path: Path, workers: int) -> None:
    result = evaluate(
        small(), ["lru", NAME, ENTRY], worlds=2, bound_worlds=0, workers=workers, folder=tmp_path
    )

    np.testing.assert_array_equal(result.costs[NAME], result.costs[ENTRY.name])
    assert result.costs[NAME].tolist() != result.costs["lru"].tolist()
    assert len(list(tmp_path.glob("*.jsonl"))) == 3


def test_settings_and_ablations_apply_to_a_file(tmp_path: Path) -> None:
    assert parts_of("a/b+c.py:ENTRY:memory=0.5+no-comp") == ("a/b+c.py:ENTRY", "memory=0.5", ["no-comp"])
    assert not find_scheme(f"{NAME}:memory=0.5+no-comp").rules.comp
    costs = evaluate(small(), [NAME, f"{NAME}:memory=0.1", f"{NAME}+no-comp"], worlds=2, bound_worlds=0).costs
    assert len({float(cost.mean()) for cost in costs.values()}) > 1
    with pytest.raises(SchemeError, match="has settings memory, got 'weight'"):
        find_scheme(f"{NAME}:weight=0.5")


@pytest.mark.slow
def test_an_edited_file_is_played_anew(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("KEEP = 1e-3\n")
    text = (
        EXAMPLE.read_text()
        .replace("1e-3", "KEEP")
        .replace("import numpy", "from part import KEEP\nimport numpy")
    )
    (tmp_path / "mine.py").write_text(text)
    code = (
        "from tests.policy.test_own_schemes import small; from policy.evaluation import *;"
        f"r = evaluate(small(), [{str(tmp_path / 'mine.py')!r} + ':ENTRY'], worlds=1, bound_worlds=0,"
        f" folder=__import__('pathlib').Path({str(tmp_path / 'kept')!r})); print(r.settings['code_sha256'])"
    )

    def run() -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    first = run()
    assert run() == first
    assert len(list((tmp_path / "kept").iterdir())) == 1
    (tmp_path / "part.py").write_text("KEEP = 10.0\n")
    assert run() != first
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_an_entry_whose_code_nothing_can_name_is_played_and_not_kept(tmp_path: Path) -> None:
    entry = replace(ENTRY, name="secret", start=lambda scenario, rng: ENTRY.start(scenario, rng))
    result = evaluate(small(), [entry, "lru"], worlds=1, bound_worlds=0, folder=tmp_path)

    assert result.settings["code_sha256"]["secret"] is None
    assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["lru"]
    with pytest.raises(ValueError, match="two schemes are called 'lru'"):
        evaluate(small(), ["lru", replace(ENTRY, name="lru")], worlds=1)


def test_an_installed_package_offers_schemes_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "nearby": EntryPoint("nearby", "policy.examples.my_scheme:ENTRY", own.GROUP),
        "gone": EntryPoint("gone", "policy.examples.nowhere:ENTRY", own.GROUP),
        "wrong": EntryPoint("wrong", "policy.examples.my_scheme:NeededNearby", own.GROUP),
    }
    monkeypatch.setattr(
        own, "entry_points", lambda group, name=None: [p for n, p in points.items() if name in (None, n)]
    )

    assert find_scheme("nearby+no-comp").start is ENTRY.start
    with pytest.raises(SchemeError, match="cannot be imported"):
        find_scheme("gone")
    with pytest.raises(SchemeError, match="is no SchemeEntry"):
        find_scheme("wrong")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nowhere.py:ENTRY", "no such file: nowhere.py"),
        (f"{EXAMPLE}:NOTHING", "has no 'NOTHING'"),
        ("BAD.py:ENTRY", "cannot be run: ZeroDivisionError"),
        ("lrv", "did you mean 'lru'"),
    ],
)
def test_what_is_no_scheme_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("BAD.py").write_text("1 / 0\n")
    with pytest.raises(SchemeError, match=says):
        find_scheme(name)


def test_the_command_line_takes_a_scheme_and_a_trace_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from demo.cli import main

    catalog, trace, scenario = (tmp_path / name for name in ("c.npz", "t.csv", "s.toml"))
    small().catalog.save(catalog)
    rows = "".join(f"{1_700_000_000_000 + 5000 * i},u{i % 5},{i % 4}\n" for i in range(40))
    trace.write_text("ts,user,what\n" + rows)
    scenario.write_text('base = "findings"\nnum_slots = 5\ncapacity_bytes = []\ncapacity_share = 0.3\n')
    command = ["evaluate", "--scenario", str(scenario), "--catalog", str(catalog), "--schemes", f"lru,{NAME}"]
    file = ["--trace", str(trace), "--trace-time", "ms", "--trace-columns", "time=ts,model=what"]
    more = [
        "--worlds",
        "4",
        "--bound-worlds",
        "1",
        "--workers",
        "1",
        "--json",
        "--cache",
        str(tmp_path / "kept"),
    ]

    assert main([*command, *file, *more]) == 0
    document = json.loads(capsys.readouterr().out)
    about = document["settings"]["trace"]
    assert (about["requests"], about["kept"] + about["dropped"], about["worlds"]) == (40, 40, 4)
    assert set(document["schemes"]) == {"lru", NAME}
    assert len(list((tmp_path / "kept").glob("*.jsonl"))) >= 2  # a trace is named by its content
    assert main([*command, *file, *more[:-3], "--cache", str(tmp_path / "kept")]) == 0
    assert "trace of 40 requests: " in capsys.readouterr().out
    assert main([*command, *file, *more, "--first-world", "1"]) == 1
    assert "4 worlds of 5; 5 were asked for" in capsys.readouterr().err
    assert main([*command, *file[:-2], *more]) == 1
    assert "t.csv, row 1: no time in column 'time_s'" in capsys.readouterr().err


def test_a_learner_of_ones_own_is_trained_resumed_and_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from demo.cli import main
    from policy.learn.checkpoint import OWN

    monkeypatch.setenv(OWN, "")  # set by --weights
    learner = EXAMPLE.with_name("my_learner.py")
    scenario = tmp_path / "s.toml"
    scenario.write_text('base = "findings"\nnum_slots = 4\n')
    train = ["train", f"{learner}:Regression", "--out", str(tmp_path / "mine"), "--worlds", "2"]
    train += ["--scenario", str(scenario), "--json"]

    assert main([*train, "--steps", "1"]) == 0
    assert main([*train, "--steps", "2", "--resume"]) == 0
    capsys.readouterr()
    play = ["evaluate", "--weights", str(tmp_path / "mine" / "best.safetensors"), "--json", "--fresh"]
    play += ["--scenario", str(scenario), "--worlds", "1", "--bound-worlds", "0"]
    assert main([*play, "--schemes", f"lru,{learner}:ENTRY"]) == 0
    assert f"{learner}:ENTRY" in json.loads(capsys.readouterr().out)["schemes"]
    assert main(["train", f"{learner}:ENTRY"]) == 1
    assert "ENTRY is no Learner" in capsys.readouterr().err
