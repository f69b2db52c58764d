"""Laws of scratch folders: one is there as long as its process uses it, and no longer than until the next."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pbstore.folders.scratch import scratch

KILLED = """
import os, signal, sys
from pathlib import Path
from pbstore.folders.scratch import scratch
with scratch(Path(sys.argv[1]), "x-") as folder:
    (folder / "large").write_bytes(b"1" * 100000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    with scratch(tmp_path, "x-") as running:
        done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        (left,) = set(tmp_path.iterdir()) - {running}
        assert (left / "large").exists()
        (tmp_path / "other").mkdir()
        (tmp_path / "x-file").write_bytes(b"mine")
        with scratch(tmp_path, "x-") as again:
            assert {path.name for path in tmp_path.iterdir()} == {running.name, again.name, "other", "x-file"}
    assert {path.name for path in tmp_path.iterdir()} == {"other", "x-file"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to become")
def test_what_other_users_left_stays(tmp_path: Path) -> None:
    (tmp_path / "x-other").mkdir()
    os.chown(tmp_path / "x-other", 65534, 65534)
    with scratch(tmp_path, "x-"):
        pass
    assert (tmp_path / "x-other").exists()


def test_many_at_a_time_never_take_one_another_for_leftovers(tmp_path: Path) -> None:
    bad: list[Path] = []

    def work() -> None:
        for _ in range(30):
            with scratch(tmp_path, "x-") as folder:
                (folder / "mine").write_bytes(b"1")
                if not (folder / "mine").exists():
                    bad.append(folder)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not bad
    assert not list(tmp_path.iterdir())
