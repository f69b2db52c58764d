"""Every long phase moves on a terminal, and no line of a pipe is written over."""

import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.cli import main
from demo.console import busy
from tests.pbstore.folders import base_tensors, write_model

MOVES = "\x1b[2K"
"""What a line begins with that takes the place of the last."""
EDGE = ["--store", "store", "--nodes", "2", "--users", "2", "--capacity", "100%"]


@contextmanager
def terminal() -> Iterator[list[str]]:
    """Standard error is a terminal; in the end the list holds what came there."""
    ours, theirs = pty.openpty()
    told: list[str] = []
    parts: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                parts.append(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "80")
        with os.fdopen(theirs, "w") as stderr:
            patch.setattr(sys, "stderr", stderr)
            reader.start()
            yield told
    reader.join()
    os.close(ours)
    told.append(b"".join(parts).decode())


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PBCAST_STORE", raising=False)
    monkeypatch.setenv("PBCAST_CACHE", str(tmp_path / "cache"))
    write_model(tmp_path / "model", base_tensors(rows=8))
    write_model(tmp_path / "other", base_tensors(rows=16))
    assert main(["store", "add", "model", "--name", "me/model"]) == 0
    capsys.readouterr()


QUICK = [
    ["store", "add", "other", "--name", "me/other"],
    ["store", "add", "--recursive", "other", "--org", "us"],
    ["store", "plan", "other"],
    ["store", "checkout", "me/model", "out"],
    ["store", "verify"],
    ["store", "scrub"],
    ["store", "export", "all.pbcast"],
    ["store", "heat", "me/model"],
    ["store", "cool", "me/model"],
    ["store", "savings"],
    ["store", "repair"],
    ["store", "gc", "--yes"],
    ["store", "gc", "--dry-run"],
    ["store", "balance", "--dry-run"],
    ["store", "evict", "--free", "1kB", "--yes"],
    ["store", "forget", "--all", "--yes"],
]
LONG = [
    ["train", "qmix", "--steps", "2", "--worlds", "2", "--out", "trained"],
    ["evaluate", "--schemes", "lru", "--worlds", "2", "--bound-worlds", "0", "--fresh", "--workers", "1"],
    ["emulate", *EDGE, "--slots", "1", "--clients", "0", "--out", "live"],
    [
        "run",
        *EDGE,
        "--slots",
        "1",
        "--emulated-slots",
        "1",
        "--worlds",
        "1",
        "--workers",
        "1",
        "--out",
        "run",
    ],
]


def moves(words: list[str]) -> None:
    with terminal() as told:
        assert main(words) == 0
    assert MOVES in told[0], f"nothing moved: {told[0]!r}"


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_what_may_take_long_moves_on_a_terminal(words: list[str]) -> None:
    moves(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", LONG, ids=lambda words: words[0])
def test_what_takes_long_moves_on_a_terminal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    moves(words)
    if words[0] == "emulate":
        moves(["report", "live"])
    in_a_pipe(["report", "live"] if words[0] == "emulate" else [*words, "--json"], capsys)


def in_a_pipe(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    again = ["--resume"] if words[0] == "train" else []
    assert main([*words, *again]) == 0
    told = capsys.readouterr()
    assert not {"\r", "\x1b"} & set(told.out + told.err)


@pytest.mark.parametrize("words", [QUICK[0], QUICK[4], QUICK[11]], ids=" ".join)
def test_a_pipe_gets_whole_lines(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    in_a_pipe(words, capsys)


def test_one_thing_moves_at_a_time() -> None:
    with terminal() as told, busy("outer") as step:
        step(1, 2)
        with busy("inner") as inner:
            inner(1, 1)
    assert "outer" in told[0]
    assert "inner" not in told[0]
