"""Every command and snippet of the READMEs and how-tos works, in order, on small models."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from demo.cli import main
from pbstore import open_store
from tests.demo.docs.models import write_models
from tests.demo.docs.pages import ROOT, Runner, blocks_of, runs
from tests.pbstore.serve.stores import family_store

SAMPLE = ROOT / "demo" / "emulation" / "log" / "sample.jsonl"
PORTS = {str(8765 + i): str(20_000 + (os.getpid() + i) % 10_000) for i in range(3)}
EDGE = ["--nodes", "2", "--users", "3", "--clients", "0", "--capacity", "100%"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    monkeypatch.setenv("PBCAST_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def run_page(page: str, **settings: dict[str, str] | dict[str, list[str]]) -> Runner:
    runner = Runner(**settings)  # type: ignore[arg-type]
    runner.run(blocks_of(ROOT / page))
    return runner


def add(folder: str, name: str, store: str = "store") -> None:
    assert main(["store", "add", folder, "--name", name, "--store", store]) == 0


@runs("demo/docs/pages/howto.md")
def test_the_how_tos_work(folder: Path) -> None:
    write_models(folder)
    add("my-base", "me/base", "a")
    add("my-finetune", "me/finetune")
    for name in ("my-base", "my-finetune"):
        shutil.copytree(folder / name, folder / "models" / name)
    run_page("demo/docs/pages/howto.md", names={**PORTS, "s3://models/edge": f"file://{folder}/origin"})
    assert any((folder / "origin").iterdir())


@runs("pbstore/serve/origin/README.md")
def test_an_origin_takes_and_gives(folder: Path) -> None:
    write_models(folder)
    add("my-finetune", "org/finetune")
    names = {**PORTS, "s3://models/edge": f"file://{folder}/origin"}
    run_page("pbstore/serve/origin/README.md", names=names, shorter={"serve": ["--port", "0"]})
    with open_store(folder / "other") as store:
        assert list(store.models()) == ["org/finetune"]


@runs("pbstore/serve/README.md")
def test_a_store_is_served_and_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(folder)
    with family_store(folder) as store:
        store.add(folder / "folders/org/tuned", "org/finetune")
        store.add(folder / "my-base", "org/model")
    (folder / "checkpoints").mkdir()
    (folder / "folders/org/base").rename(folder / "checkpoints/my-finetune")
    monkeypatch.setenv("PBCAST_STORE", str(folder / "copies"))
    names = {"edge:8765": "127.0.0.1:8765", **PORTS, "/tmp/xet.sock": str(folder / "xet.sock")}
    names["~/.cache/pbcast/device"] = str(folder / "cache")
    blocks = blocks_of(ROOT / "pbstore/serve/README.md")
    runner = Runner(names)
    runner.run(blocks)
    assert {line.split()[1] for line in runner.done if line.startswith("hf ")} == {"download", "upload"}
    assert list((folder / "hf").rglob("snapshots/*/model.safetensors"))
    assert list((folder / "cache" / "blocks").iterdir())
    assert type(runner.space["model"]).__name__.startswith("Bert")
    with open_store(folder / "copies") as store:
        assert {"org/model", "org/finetune"} <= set(store.models())


@runs("pbstore/README.md")
def test_the_library_of_the_store_does_what_its_readme_says(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    write_models(folder / "checkpoints")
    (folder / "checkpoints/my-base").rename(folder / "checkpoints/base")
    shutil.copytree(folder / "checkpoints/my-finetune", folder / "checkpoints/my-finetune-2")
    rng = np.random.default_rng(0)
    more = {"more": rng.normal(size=(64, 64)).astype(np.float32)}
    save_file(more, folder / "checkpoints/my-finetune-2/more.safetensors")
    run_page("pbstore/README.md")
    there = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert there == {path.name: path.read_bytes() for path in (folder / "checkpoints/my-finetune").iterdir()}


@runs("policy/README.md")
def test_the_library_of_the_policy_does_what_its_readme_says() -> None:
    assert run_page("policy/README.md").space["episode"]


@runs("demo/emulation/README.md")
def test_an_edge_lives_and_is_told_again(folder: Path) -> None:
    write_models(folder)
    add("my-base", "me/base")
    add("my-finetune", "me/finetune")
    runner = run_page(
        "demo/emulation/README.md", names={"--size small": "--store store"}, shorter={"emulate": EDGE}
    )
    assert len(runner.done) == 2


@runs("demo/emulation/EVENTS.md")
def test_a_log_is_read_as_the_page_says(folder: Path) -> None:
    (folder / "out/emulate").mkdir(parents=True)
    shutil.copy(SAMPLE, folder / "out/emulate/events.jsonl")
    run_page("demo/emulation/EVENTS.md")


@runs("demo/emulation/air/README.md")
def test_a_datagram_is_heard() -> None:
    run_page("demo/emulation/air/README.md", names={"47_000": str(40_000 + os.getpid() % 9_000)})


@runs("demo/docs/pages/dashboard.md")
def test_a_run_is_shown(folder: Path) -> None:
    write_models(folder)
    add("my-base", "me/base")
    add("my-finetune", "me/finetune")
    more = {"emulate": ["--store", "store", *EDGE], "dashboard": ["--port", PORTS["8765"]]}
    run_page("demo/docs/pages/dashboard.md", shorter=more)


@runs("demo/docs/pages/report.md")
def test_a_folder_becomes_a_page(folder: Path) -> None:
    (folder / "out/small").mkdir(parents=True)
    shutil.copy(SAMPLE, folder / "out/small/events.jsonl")
    run_page("demo/docs/pages/report.md")
    assert (folder / "out/small/report.html").stat().st_size > 10_000
