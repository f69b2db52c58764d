"""Every command and snippet of the tutorials works, in order, on small models."""

import json
import os
from pathlib import Path

import pytest

from pbstore import open_store
from tests.demo.docs.models import write_models
from tests.demo.docs.pages import PAGES, ROOT, Runner, blocks_of, runs

QUICK = {
    "run": ["--slots", "2", "--worlds", "1", "--workers", "1"],
    "evaluate": ["--fresh", "--workers", "1"],
    "experiment": ["--workers", "1"],
}
PORT = str(20_000 + os.getpid() % 10_000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ("whole-model", "rendezvous", "learned", "learned+raw-form")
    monkeypatch.setattr("demo.jobs.run.row_names", lambda: rows)


@pytest.mark.slow
@runs("demo/docs/pages/engineer.md")
def test_an_engineer_stores_serves_and_pulls(folder: Path) -> None:
    write_models(folder)
    runner = Runner({"8765": PORT})
    runner.run(blocks_of(PAGES / "engineer.md"))
    assert len(runner.done) > 12
    for name in ("my-base", "my-finetune"):
        there = folder / ("base-again" if name == "my-base" else "out")
        for path in (folder / name).iterdir():
            assert (there / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
@runs("demo/docs/pages/researcher.md")
def test_a_researcher_writes_and_compares_a_scheme(folder: Path) -> None:
    runner = Runner(shorter=QUICK)
    runner.run(blocks_of(PAGES / "researcher.md"))
    assert len(runner.done) > 4
    assert (folder / "out" / "loading.pdf").is_file()
    assert (folder / "ladder.pdf").stat().st_size > 5_000
    assert "my_scheme.py:ENTRY" in (folder / "ladder.csv").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("few_rows")
@runs("demo/docs/pages/broadcast.md")
def test_two_finetunes_are_broadcast(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(folder)
    rows = [f"{10 * slot + 1},{user},me/finetune" for slot in range(24) for user in range(12)]
    (folder / "requests.csv").write_text("\n".join(["time_s,user,model", *rows]) + "\n")
    runner = Runner(shorter={**QUICK, "evaluate": [*QUICK["evaluate"], "--worlds", "1"]})
    monkeypatch.setattr("demo.jobs.sweep.kept_in", lambda folder: tmp_path / "kept")
    runner.run(blocks_of(PAGES / "broadcast.md"))
    assert len(runner.done) > 4
    assert "capacities.svg" in (folder / "out/mine/report.html").read_text()
    assert (folder / "out/mine/figures/capacities-column.pdf").exists()
    for name in ("mine", "trace"):
        report = json.loads((folder / "out" / name / "report.json").read_text())
        assert report["deliveries"]
        assert all(row["inference_equal"] for row in report["deliveries"])


@pytest.mark.slow
@runs("README.md")
def test_the_lines_of_the_readme_work(folder: Path) -> None:
    write_models(folder)
    live = ["--store", "live", "--port", str(int(PORT) + 1)]
    with open_store(folder / "live") as store:
        store.add(folder / "my-base", "me/base")
    runner = Runner({"8765": PORT}, {"serve": ["--port", PORT], "dashboard": live})
    runner.run(blocks_of(ROOT / "README.md"))
    assert (folder / "out" / "config.json").exists()
    assert type(runner.space["model"]).__name__.startswith("Bert")
