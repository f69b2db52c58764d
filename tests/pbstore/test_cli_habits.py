"""Verbs of people with many models: revisions, patterns, all models under a folder, the cache."""

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from demo.cli import main
from demo.cli.commands import COMMANDS
from demo.cli.names import age, parse_duration
from demo.console import counted
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb with --json and gives the document; `org/m` has three revisions."""
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))

    def verb(*words: object, code: int = 0) -> Any:  # noqa: ANN401
        capsys.readouterr()
        assert main(["store", *map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    base = base_tensors(rows=20)
    for number in range(3):
        write_model(tmp_path / f"v{number}", tuned(base, ("layer.weight",), seed=number))
        verb("add", tmp_path / f"v{number}", "--name", "org/m")
    return verb


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a verb for people and gives what it prints."""

    def verb(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["store", *map(str, words)]) == code
        return capsys.readouterr().out

    return verb


def test_revisions_are_listed_tagged_and_written_out(run: Run, tmp_path: Path) -> None:
    listed = run("log", "org/m")
    assert [item["is_current"] for item in listed] == [True, False, False]
    assert run("tag", "org/m@~2", "first")["tags"] == {"first": listed[2]["commit"]}
    run("checkout", "org/m@first", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "v0")
    assert run("diff", "org/m@first", "org/m")["tensors"][0]["state"] == "changed"
    assert "no revision 'gone'" in run("show", "org/m@gone", code=1)["error"]["message"]
    assert run("tag", "org/m", "first", "--delete")["tags"] == {}


def test_old_revisions_are_forgotten_by_number_and_age(run: Run) -> None:
    tried = run("forget", "--keep-last", "1", "--dry-run")
    done = run("forget", "org/*", "--keep-last", "1")
    assert (len(tried["revisions"]), tried["revisions"]) == (2, done["revisions"])
    assert run("forget", "--keep-within", "1h")["revisions"] == []
    assert [item["name"] for item in run("trash")["models"]] == done["revisions"]
    run("restore", done["revisions"][0])
    assert len(run("log", "org/m")) == 2
    for words in ((), ("--all", "--keep-last", "1"), ("--keep-within", "soon")):
        run("forget", *words, code=1)


def test_a_model_gets_other_names(run: Run) -> None:
    assert run("cp", "org/m@~1", "org/copy")["is_current"]
    assert run("rename", "org/m", "org/other") == {"renamed": "org/m", "name": "org/other", "revisions": 3}
    assert [item["name"] for item in run("ls")] == ["org/copy", "org/other"]
    removed = run("rm", "org/*", "--yes")
    assert [item["removed"] for item in removed["models"]] == ["org/copy", "org/other"]
    assert "no model named 'x/*'" in run("rm", "x/*", "--yes", code=1)["error"]["message"]


def test_all_models_under_a_folder_are_added_by_one_command(
    run: Run, tell: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "v1" / ".git").mkdir()
    (tmp_path / "v1" / ".git" / "HEAD").write_bytes(b"x")
    planned = run("add", tmp_path, "--recursive", "--org", "me", "--dry-run")
    report = run("add", tmp_path, "--recursive", "--org", "me")
    assert [item["name"] for item in planned["models"]] == ["me/v0", "me/v1", "me/v2"]
    assert [item["left_out"] for item in report["models"]] == [[], [".git/"], []]
    assert "3 models: 3 already there" in tell("add", tmp_path, "-r", "--org", "me")
    assert "is already there" in tell("add", tmp_path / "v2", "--name", "org/m")
    assert "is now revision" in tell("add", tmp_path / "v0", "--name", "org/m")
    for words in ((tmp_path, "-r", "--name", "x/y"), (tmp_path / "v0",), (tmp_path / "v0", "--org", "x")):
        run("add", *words, code=1)


def test_models_go_into_a_cache_and_come_back(run: Run, tmp_path: Path) -> None:
    exported = run("export-hf-cache", "org/*", "--to", tmp_path / "hub")
    assert [item["files"] for item in exported] == [2]
    run("rename", "org/m", "org/renamed")
    back = run("import-hf-cache", tmp_path / "hub", "--only", "org/m")
    assert [item["name"] for item in back["models"]] == ["org/m"]
    assert (
        "in the cache" in run("import-hf-cache", tmp_path / "hub", "--only", "x", code=1)["error"]["message"]
    )


@pytest.mark.parametrize("recursive", [False, True])
def test_states_of_a_training_run_are_told_of_and_can_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recursive: bool
) -> None:
    folder = write_model(tmp_path / "runs" / "one", base_tensors(rows=20), optimizer__pt=bytes(9000))
    words = ["-r", "--org", "me"] if recursive else ["--name", "me/one"]
    source = str(folder.parent if recursive else folder)
    for number, more in enumerate(([], ["--exclude", "optimizer"])):
        monkeypatch.setenv("PBCAST_STORE", str(tmp_path / f"store-{number}"))
        assert main(["store", "add", source, *words, *more]) == 0
        told = capsys.readouterr().err
        assert ("optimizer states are 9.0 kB of" in told) == (not more)
        assert ("left out 'optimizer.pt'" in told) == bool(more)
        assert main(["store", "show", "me/one", "--json"]) == 0
        paths = {file["path"] for file in json.loads(capsys.readouterr().out)["files"]}
        assert ("optimizer.pt" in paths) == (not more)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 30 * 86400), ("12h", 43200), ("2w", 14 * 86400), ("0s", 0)]
)
def test_times_have_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    for bad in ("", "d", "5", "-1d", "nand"):
        with pytest.raises(ValueError, match="expected a time"):
            parse_duration(bad)
    assert [age(one) for one in (5, 90, 7200, 3 * 86400)] == ["5 s", "2 min", "2 h", "3 d"]


def commands() -> dict[tuple[str, ...], Any]:
    """Each command by its words, as its module declares it."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(words: tuple[str, ...], command: Any) -> None:  # noqa: ANN401
        found[words] = command
        for name, one in getattr(command, "commands", {}).items():
            walk((*words, name), one)

    for name, known in COMMANDS.items():
        walk((name,), typer.main.get_command(import_module(known.module).app))
    return found


def test_no_help_loses_what_stands_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    told = 0
    for words, command in commands().items():
        texts = [command.help, *(getattr(one, "help", None) for one in command.params)]
        brackets = [part for text in texts if text for part in re.findall(r"\[\w+\]", text)]
        if brackets:
            told += 1
            capsys.readouterr()
            assert main([*words, "--help"]) == 0
            text = capsys.readouterr().out
            assert all(part in text for part in brackets), words
    assert told > 0


def test_a_folder_of_many_models_that_is_added_as_one_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_model(tmp_path / "models" / name, base_tensors(rows=4))
    store = ["--store", str(tmp_path / "store")]
    assert main(["store", "add", str(tmp_path / "models"), "--name", "org/all", *store]) == 0
    assert "seems to hold 2 models, stored as one (a, b): see --recursive" in capsys.readouterr().err
    run_with_steps = write_model(tmp_path / "run", base_tensors(rows=4))
    write_model(run_with_steps / "checkpoint-1", base_tensors(rows=4))
    for folder in ("models/a", "run"):
        assert main(["store", "add", str(tmp_path / folder), "--name", "org/one", *store]) == 0
        assert "seems to hold" not in capsys.readouterr().err


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_one_is_one(number: int, said: str) -> None:
    assert counted(number, "file") == said
