"""Ctrl-C in a command ends in one line and exit code 130; SIGTERM and SIGHUP end it and its workers, too."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main(sys.argv[1:]))"]
PATIENCE_S = 120.0


@contextmanager
def evaluating(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A long evaluation in two workers that has finished its first world, and where its stderr goes."""
    arguments = ["evaluate", "--scenario", "findings", "--schemes", "planner,m-pso", "--worlds", "64"]
    told = folder / "stderr"
    with (
        told.open("w") as stderr,
        subprocess.Popen(
            [*COMMAND, *arguments, "--cache", str(folder), "--fresh", "--bound-worlds", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # tests may run under nohup
        ) as process,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while "worlds: 1/" not in told.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process, told


@pytest.mark.slow
def test_interrupting_an_evaluation_is_one_line(tmp_path: Path) -> None:
    with evaluating(tmp_path) as (process, told):
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: parent and workers alike
        out, _ = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "Traceback" not in told.read_text()
    assert told.read_text().endswith("pbcast: interrupted; what was finished is kept\n")
    assert out == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGHUP, signal.SIGKILL))],
)
def test_however_a_command_ends_its_workers_end_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with evaluating(tmp_path) as (process, told):
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)  # to the command alone, as a supervisor does
        process.communicate(timeout=PATIENCE_S)
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)

    assert len(workers) >= 2
    assert not alive
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert told.read_text().endswith(f"pbcast: ended by {number.name}; what was finished is kept\n")


@pytest.mark.slow
def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    with evaluating(tmp_path) as (process, told):
        worker = max(psutil.Process(process.pid).children(), key=lambda one: one.memory_info().rss)
        worker.kill()
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 1
    assert "Traceback" not in told.read_text()
    assert "a worker process was killed" in told.read_text()
