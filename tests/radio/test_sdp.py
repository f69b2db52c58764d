"""Laws of `pbcast radio --sdp`: its price comes first, and it ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cli.app import main
from demo.jobs import broadcast_sdp as radio_sdp
from demo.jobs.broadcast_sdp import sdp_cost

_PBCAST = "import sys; from demo.cli.app import main; sys.exit(main())"
ROOT = Path(radio_sdp.__file__).parents[2]


@pytest.fixture
def running(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """`pbcast radio --csi-error 0.1 --sdp` in the default scenario, which takes many minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PBCAST, "radio", "--csi-error", "0.1", "--sdp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.kill()
    process.communicate()


def solver_of(process: "subprocess.Popen[str]", within_s: float = 300.0) -> int:
    """The process that solves."""
    until = time.monotonic() + within_s
    while time.monotonic() < until and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and b"broadcast_sdp" in Path(f"/proc/{children[0]}/cmdline").read_bytes():
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("no solver was started")


def gone(pid: int, within_s: float = 120.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_stops_the_convex_solver_at_once(running: "subprocess.Popen[str]") -> None:
    assert running.stderr is not None
    said = running.stderr.readline()
    solver = solver_of(running)
    time.sleep(2.0)  # deep in native code, or on the way there
    running.send_signal(signal.SIGINT)
    told = time.monotonic()

    code = running.wait(timeout=120)

    assert time.monotonic() - told < 30.0  # the solver takes minutes
    assert said.startswith("--sdp takes about ")
    assert "Ctrl-C stops it" in said
    assert code == 130
    assert gone(solver)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_the_solver_dies_with_its_command(running: "subprocess.Popen[str]") -> None:
    solver = solver_of(running)
    time.sleep(1.5)  # past its first statements

    running.kill()
    running.wait(timeout=120)

    assert gone(solver)


@pytest.mark.slow
def test_the_price_is_said_before_and_the_answer_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.toml"
    path.write_text("[radio]\nnum_nodes = 2\nnum_antennas = 2\nnum_users = 3\n")

    assert main(["radio", str(path), "--sdp", "--csi-error", "0.1", "--json"]) == 0

    shown = capsys.readouterr()
    assert shown.err.startswith("--sdp takes about 1 s and 1")
    rows = {row["name"]: row for row in json.loads(shown.out)["solvers"]}
    full, sdp = rows["robust full rank"], rows["robust SDP + randomisation"]
    assert sdp["status"] == "ok"
    assert sdp["guaranteed_db"] <= full["guaranteed_db"] + 0.01
    assert sdp["cpu_ms"] > 0


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.toml"
    path.write_text("[radio]\nnum_nodes = 16\nnum_antennas = 16\nnum_users = 4\n")

    assert main(["radio", str(path), "--sdp", "--csi-error", "0.1"]) == 1

    error = capsys.readouterr().err
    assert "it takes about" in error
    assert "this machine has" in error
    assert error.count("\n") == 1


def test_the_price_grows_as_measured() -> None:
    """CPU s and MB above the interpreter's 126, 2-core x86-64: (users, antennas, robust)."""
    measured = {
        (12, 32, False): (2.7, 230),
        (12, 8, True): (0.5, 37),
        (6, 16, True): (6.1, 276),
        (12, 32, True): (1000, 8000),
    }

    for (users, antennas, robust), (seconds, megabytes) in measured.items():
        cost = sdp_cost(users, antennas, robust=robust)
        assert seconds / 4 <= cost.seconds <= 4 * seconds
        assert megabytes / 4 <= (cost.memory_bytes - 1.26e8) / 1e6 <= 4 * megabytes
