"""Every verb of `pbcast store`: one JSON document on stdout, exit codes, a table for people."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from demo.cli import main
from demo.cli.store_shared import complete_name, human, parse_size
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb with --json and gives the document; the store has a base and its child."""
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    base = base_tensors()
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "child", tuned(base, ("layer.weight",)))

    def verb(*words: object, code: int = 0) -> Any:  # noqa: ANN401
        capsys.readouterr()
        assert main(["store", *map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    verb("add", tmp_path / "base", "--name", "org/base", "--hot")
    verb("add", tmp_path / "child", "--name", "org/child", "--base", "org/base")
    return verb


def test_models_are_listed_and_shown(run: Run) -> None:
    assert [(item["name"], item["form"]) for item in run("ls")] == [
        ("org/base", "hot"),
        ("org/child", "cold"),
    ]
    shown = run("show", "org/child")
    assert shown["base"] == "org/base"
    assert {item["path"] for item in shown["files"]} == {"config.json", "model.safetensors"}


def test_savings_say_what_lies_on_the_disk(run: Run, tmp_path: Path) -> None:
    report = run("savings", "--by", "model", "--picture", tmp_path / "savings.png")

    assert report["raw_bytes"] > report["file_dedup_bytes"] > report["block_dedup_bytes"]
    assert set(report["by"]) == {"org/base", "org/child"}
    assert (tmp_path / "savings.png").stat().st_size > 5000
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert report["disk_bytes"] == sum(path.stat().st_blocks * 512 for path in files)
    assert set(run("savings", "--by", "family")["by"]) == {"org/base"}


def test_checkout_gives_every_byte(run: Run, tmp_path: Path) -> None:
    report = run("checkout", "org/child", tmp_path / "out")

    assert report["files"] == 2
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")
    assert run("checkout", "org/child", tmp_path / "out")["kept_files"] == 2
    (tmp_path / "out" / "config.json").write_text("changed")
    assert main(["store", "checkout", "org/child", str(tmp_path / "out")]) == 1
    refused = run("checkout", "org/child", tmp_path / "out", "--force", code=1)
    assert "replace 1 file in" in refused["error"]["message"]
    assert (tmp_path / "out" / "config.json").read_text() == "changed"
    assert run("checkout", "org/child", tmp_path / "out", "--force", "--yes")["written_bytes"] == 21
    assert run("checkout", "org/child", tmp_path / "out", "--force")["written_bytes"] == 0
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")


def test_plan_and_explain(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "next", tuned(base_tensors(), ("embed.weight",), seed=5))

    plan = run("plan", tmp_path / "next")
    assert plan["fits"]
    assert plan["stored_bytes"] < plan["new_bytes"]
    assert list(run("explain", "org/child")["lineage"]) == ["org/base"]


def test_forms_pins_and_eviction(run: Run) -> None:
    assert run("heat", "org/child")["form"] == "hot"
    assert run("cool", "org/child")["form"] == "cold"
    assert run("pin", "org/base", "--priority", "2") == {"name": "org/base", "pinned": True, "priority": 2.0}
    assert run("evict", "--free", "100", "--dry-run")["models"] == ["org/child"]
    assert "cannot free" in run("evict", "--free", "1MB", "--yes", code=1)["error"]["message"]
    assert run("balance", "--room", "0", "--dry-run")["changes"][0]["name"] == "org/base"
    assert run("ls")[0]["pinned"] is True


def test_verify_repair_remove_and_gc(run: Run, tmp_path: Path) -> None:
    assert run("verify")["ok"]
    (pack,) = (tmp_path / "store" / "packs").glob("*.pack")
    good = pack.read_bytes()
    pack.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    found = run("verify", code=3)
    assert not found["ok"]
    assert found["damaged_models"]
    assert run("repair", code=3)["left"]
    pack.write_bytes(good)
    assert run("repair")["left"] == []
    run("rm", "org/child", "--yes")
    assert run("gc", "--dry-run")["orphan_blocks"] == run("gc")["orphan_blocks"] == 0
    run("forget", "org/child", "--yes")
    assert main(["store", "rm", "org/child", "--yes"]) == 1


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "words",
    [["rm", "org/base"], ["forget", "--all"], ["evict", "--free", "1"], ["gc"]],
    ids=["rm", "forget", "evict", "gc"],
)
def test_nothing_is_lost_where_nobody_can_be_asked(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    if words[0] in ("forget", "gc"):
        run("rm", "org/child", "--yes")
    if words[0] == "gc":
        run("trash", "--days", "0")
    before = folder_content(tmp_path / "store" / "packs"), run("ls"), run("trash")["models"]
    run(*words, "--dry-run")
    assert "--yes" in run(*words, code=1)["error"]["message"]
    assert main(["store", *words]) == 1
    assert "org/" in capsys.readouterr().err

    assert (folder_content(tmp_path / "store" / "packs"), run("ls"), run("trash")["models"]) == before
    run(*words, "--yes")
    assert (run("ls"), run("trash")["models"]) != before[1:]


class Keyboard(StringIO):
    """Somebody at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("yes\n", True), ("n\n", False), ("", False), ("\n", False)]
)
def test_at_a_terminal_the_answer_decides(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(answer))
    monkeypatch.setattr("sys.stderr", told := Keyboard())
    assert main(["store", "rm", "org/base"]) == int(not gone)
    monkeypatch.undo()

    assert "org/child" in told.getvalue()
    assert "Go on? [y/N]" in told.getvalue()


def test_a_removed_model_comes_back(run: Run, tmp_path: Path) -> None:
    found = run("rm", "org/base", "--dry-run")["dependents"]
    assert found == {"bound": ["org/child"], "coded": ["org/child"]}
    assert len(run("ls")) == 2
    run("rm", "org/base", "--yes")
    assert [item["name"] for item in run("trash")["models"]] == ["org/base"]
    assert run("restore", "org/base", "--as", "org/again")["name"] == "org/again"
    run("checkout", "org/again", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "base")


def test_a_report_is_of_the_whole_store(run: Run) -> None:
    for words in (["heat", "org/child"], ["cool", "org/child"], ["balance", "--room", "0"], ["gc", "--yes"]):
        start = run("savings")["disk_bytes"]
        planned, done = run(*words, "--dry-run"), run(*words)
        assert done["before"]["total_bytes"] == start
        assert done["after"]["total_bytes"] == run("savings")["disk_bytes"]
        assert abs(planned["after"]["total_bytes"] - done["after"]["total_bytes"]) <= 2 * 4096


def test_import_of_the_hugging_face_cache(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "hub" / "models--org--new" / "snapshots" / "abc", base_tensors(seed=3))

    assert len(run("import-hf-cache", tmp_path / "hub", "--dry-run")["models"]) == 1
    assert len(run("ls")) == 2
    assert run("import-hf-cache", tmp_path / "hub")["models"][0]["name"] == "org/new"
    assert len(run("ls")) == 3


def test_tables_for_people(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["ls"],
        ["show", "org/base"],
        ["savings", "--by", "model"],
        ["explain", "org/child"],
        ["verify"],
    ):
        assert main(["store", *words]) == 0
        assert "\n" in capsys.readouterr().out
    assert main(["store", "--help"]) == 0
    assert "Exit codes" in capsys.readouterr().out


def test_names_are_completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete_name("org/c") == ["org/child"]
    monkeypatch.setenv("PBCAST_STORE", "no/such/store")
    assert complete_name("") == []


def test_sizes_are_read_and_written() -> None:
    assert [parse_size(text) for text in ("5", "1.5kB", "2MiB", "3 GB")] == [5, 1500, 2 << 20, 3 * 10**9]
    assert [human(size) for size in (5, 1500, 2e9)] == ["5 B", "1.5 kB", "2.0 GB"]
    with pytest.raises(ValueError, match="size such as"):
        parse_size("a lot")


def test_a_plan_needs_no_store_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    write_model(tmp_path / "model", base_tensors(rows=8))
    before = sorted(tmp_path.rglob("*"))
    assert main(["store", "plan", "model"]) == 0
    plan = capsys.readouterr().out
    assert "would be new (store is no store yet)" in plan
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["store", "add", "model", "--name", "me/model"]) == 0
    added = capsys.readouterr().out
    assert plan.splitlines()[1:] == added.splitlines()[1:]
