"""What one sees first: the version, what was probably meant, plain errors, lines broken between words."""

import itertools
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from demo.cli import main
from demo.cli.app import said_plainly
from demo.cli.commands import COMMANDS, EXTRAS
from demo.console import at_words
from pbstore.serve.origin.objects import _first_line
from tests.pbstore.folders import base_tensors, write_model

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PBCAST_STORE", raising=False)

    def run(*words: str) -> tuple[int, str]:
        code = main(words)
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_the_version_is_told(run: Run) -> None:
    code, told = run("--version")
    assert code == 0
    assert re.fullmatch(r"pbcast \d+\.\d+\S*\n", told)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["storr", "ls"], "'store'"),
        (["store", "lss"], "'ls'"),
        (["store", "show", "me/bass"], "'me/base'"),
        (["store", "plan", "./bas"], "base"),
        (["evaluate", "--scenario", "defaults"], "'default'"),
        (["run", "--scheme", "learnedd"], "'learned'"),
    ],
)
def test_what_was_meant_is_named(run: Run, tmp_path: Path, words: list[str], meant: str) -> None:
    write_model(tmp_path / "base", base_tensors(rows=8))
    assert run("store", "add", "base", "--name", "me/base")[0] == 0
    code, told = run(*words)
    assert code in (1, 2)
    assert f"id you mean {meant}?" in told


def test_a_word_that_is_like_nothing_is_not_guessed_at(run: Run) -> None:
    code, told = run("zzzz")
    assert code == 2
    assert "mean" not in told


def test_a_listed_command_has_the_first_line_of_its_help() -> None:
    for name, home in COMMANDS.items():
        command = typer.main.get_command(import_module(home.module).app)
        assert (command.help or "").strip().split("\n")[0] == home.help, name


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "/x/y: no such file or directory"),
        (PermissionError(13, "Permission denied", b"/x"), "/x: permission denied"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "/a -> /b: invalid cross-device link"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (FileNotFoundError("no block store at x"), "no block store at x"),
        (ValueError("cannot serve at h:80: [Errno 99] Cannot assign"), "cannot serve at h:80: Cannot assign"),
        (ModuleNotFoundError("No module named 'cvxpy'", name="cvxpy.error"), "pip install 'pbcast[radio]'"),
    ],
)
def test_no_error_of_the_system_is_told_raw(error: Exception, said: str) -> None:
    told = said_plainly(error)
    assert told.endswith(said)
    assert "Errno" not in told


def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "radio", None)
    monkeypatch.setattr("demo.cli.app.needs_extra", lambda name: "radio" if name else None)
    code, told = run("radio", "--out", "x")
    assert code == 1
    assert told.endswith("which is not installed: pip install 'pbcast[radio,show]'\n")
    assert "Traceback" not in told


def test_each_module_comes_with_one_extra() -> None:
    modules = [module for brings in EXTRAS.values() for module in brings]
    assert len(modules) == len(set(modules))


@given(line=st.text(alphabet="ab c-:/é日", max_size=200), width=st.integers(20, 100))
def test_lines_break_between_words_only(line: str, width: int) -> None:
    parts = at_words(line, width).split("\n")
    assert [word for part in parts for word in part.split()] == line.split()
    for part in parts:
        assert cell_len(part) <= width or len(part.split()) <= 1 or len(part) <= width


@pytest.mark.parametrize("words", [["train"], ["radio"], ["store", "add"], ["store", "rm"]], ids=" ".join)
def test_help_breaks_lines_where_the_terminal_ends(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out.split("╭─")[0].splitlines()
    for line, after in itertools.pairwise(told[2:]):
        if line.strip() and after.strip():  # a word more would not have had room
            assert cell_len(line.rstrip()) + 1 + cell_len(after.split()[0]) > 78, line


def test_the_list_says_what_share_is_kept(run: Run, tmp_path: Path) -> None:
    """And no share of a small store, whose index alone takes more than its model."""
    write_model(tmp_path / "base", base_tensors(rows=2000))
    said = []
    for name in ("me/base", "me/copy"):
        run("store", "add", "base", "--name", name)
        said.append(run("store", "ls")[1].strip().split("\n")[-1])
    assert re.fullmatch(r"1 model, \S+ kB in all revisions: \S+ kB on the disk", said[0])
    raw, disk, share = re.fullmatch(
        r"2 models, (\S+) MB .*: (\S+) kB on the disk \((\d+)%\)", said[1]
    ).groups()
    assert int(share) == pytest.approx(float(disk) / float(raw) / 10, abs=6)


def test_what_is_no_log_keeps_no_law(run: Run, tmp_path: Path) -> None:
    (tmp_path / "junk.jsonl").write_text("x")
    code, told = run("replay", "junk.jsonl")
    assert code == 1
    assert "junk.jsonl is no event log" in told


def test_an_archive_names_the_folder_that_is_not_there(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "base", base_tensors(rows=8))
    run("store", "add", "base", "--name", "me/base")
    code, told = run("store", "export", "nowhere/all.pbcast")
    assert code == 1
    assert f"there is no folder {tmp_path}/nowhere" in told
    assert ".tmp" not in told


def test_an_origin_without_credentials_says_what_to_set() -> None:
    error = RuntimeError(
        "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 7 ms"
    )
    assert _first_line(error).endswith("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
