"""Every verb that takes a name takes a pattern, by the same rules, and says the same line if none fits."""

import inspect
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.cli import main
from demo.cli.names import matching
from demo.cli.store import app
from pbstore import ModelMissingError, open_store
from tests.pbstore.folders import base_tensors, folder_content, write_model

Run = Callable[..., Any]
VERBS: dict[str, tuple[object, ...]] = {
    "checkout": ("out",),
    "cool": (),
    "explain": (),
    "export": (),
    "export-hf-cache": ("--to", "hub"),
    "forget": ("--keep-last", "1"),
    "heat": (),
    "log": (),
    "ls": (),
    "pin": (),
    "push": ("--to", "http://127.0.0.1:9"),
    "restore": (),
    "rm": (),
    "show": (),
    "tag": ("v1",),
    "verify": (),
    "audit": (),
}
"""Verb -> its other words."""
OF_ONE = {"add", "cp", "diff", "import-hf-cache", "pull", "rename"}
"""Verbs whose names are of two models, new, or of somewhere else."""
WHERE = {"restore": "in the trash", "audit": "in the audit log"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three models, beside their folders."""
    root = tmp_path_factory.mktemp("patterns")
    with open_store(root / "store", durable=False) as store:
        for number, name in enumerate(("me/a", "me/b", "you/c")):
            store.add(write_model(root / name, base_tensors(number, rows=2, width=2)), name)
    return root


@pytest.fixture
def run(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a verb with --json and gives the document."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("PBCAST_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    def verb(*words: object, code: int = 0) -> Any:  # noqa: ANN401
        capsys.readouterr()
        assert main(["store", *map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return verb


def words_of(verb: str, name: str) -> list[object]:
    return [verb, "file.tar", name] if verb == "export" else [verb, name, *VERBS[verb]]


def test_no_verb_that_takes_a_name_is_left_out() -> None:
    takes = {
        command.name or command.callback.__name__
        for group in (app, *(one.typer_instance for one in app.registered_groups))
        for command in group.registered_commands
        if {"name", "names"} & set(inspect.signature(command.callback).parameters)
    }
    assert takes - OF_ONE <= set(VERBS)
    assert set(VERBS) <= takes


@pytest.mark.sampled(4)
@pytest.mark.parametrize("verb", VERBS)
def test_a_pattern_that_fits_nothing_is_the_same_line_everywhere(run: Run, tmp_path: Path, verb: str) -> None:
    error = run(*words_of(verb, "none/*"), code=1)["error"]
    assert error["message"] == f"no model named 'none/*' {WHERE.get(verb, 'in the store')}"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "file.tar").exists()


def test_several_are_written_beside_each_other(run: Run, tmp_path: Path) -> None:
    assert len(run("checkout", "me/*", tmp_path / "out")["models"]) == 2
    for name in ("me/a", "me/b"):
        assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)
    run("checkout", "you/*", tmp_path / "one")  # a pattern, if it fits one model only
    assert folder_content(tmp_path / "one" / "you/c") == folder_content(tmp_path / "you/c")
    run("checkout", "you/c", tmp_path / "alone")
    assert folder_content(tmp_path / "alone") == folder_content(tmp_path / "you/c")


def test_all_of_a_pattern_are_changed_together(run: Run) -> None:
    assert [item["pinned"] for item in run("pin", "me/*")["models"]] == [True, True]
    assert [item["tags"].keys() for item in run("tag", "*", "v1")["models"]] == [{"v1"}] * 3
    assert run("show", "me/*@v1")["models"][0]["name"] == "me/a"
    run("tag", "me/a", "v1", "--delete")
    run("tag", "*/*", "v1", "--delete", code=1)  # one of them has none
    assert run("tag", "you/c")["tags"]
    run("rm", "me/*", "--yes")
    assert run("restore", "me/*")["models"] == [
        {"restored": "me/a", "name": "me/a"},
        {"restored": "me/b", "name": "me/b"},
    ]
    run("rm", "me/?", "--yes")
    assert run("forget", "me/*", "--yes")["trashed_models"] == ["me/a", "me/b"]
    assert [item["name"] for item in run("ls")] == ["you/c"]


def test_a_name_that_is_not_there_is_told_of_as_a_pattern_is(run: Run) -> None:
    for verb in ("ls", "show", "pin", "verify", "rm"):
        assert "no model named 'zzz/q'" in run(verb, "zzz/q", code=1)["error"]["message"]


def fits(names: list[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern.partition("@")[0]) for name in names)


@given(
    names=st.lists(st.sampled_from(["a/b", "a/c", "b/c", "a/bc"]), unique=True),
    wanted=st.lists(st.sampled_from(["a/*", "*/c", "a/b", "?/b*", "b/c@v1", "a/*@v1", "[ab]/c", "x/*"])),
)
def test_what_is_chosen_fits_and_comes_once(names: list[str], wanted: list[str]) -> None:
    if [one for one in wanted if set("*?[") & set(one) and not fits(names, one)]:
        with pytest.raises(ModelMissingError):
            matching(names, wanted)
        return
    chosen = matching(names, wanted)
    assert len(set(chosen)) == len(chosen)
    assert all(matching([name.partition("@")[0]], [name]) == [name] for name in chosen)
    plain = [one for one in wanted if not set("*?[") & set(one)]
    assert set(plain) <= set(chosen)
