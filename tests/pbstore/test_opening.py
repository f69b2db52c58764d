"""Opening: missing and empty folders become stores, others are refused; reading only; forks; a full disk."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, NotAStoreError, StoreLockedError, hash_block, open_store
from tests.pbstore.folders import base_tensors, write_model


def test_missing_and_empty_folders_become_stores(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing/deep", "empty"):
        with open_store(tmp_path / name, capacity_bytes=1000) as store:
            store.put(b"x")
        with open_store(tmp_path / name) as store:
            assert store.capacity_bytes == 1000
            assert store.has(hash_block(b"x"))


def test_a_capacity_can_be_changed(tmp_path: Path) -> None:
    open_store(tmp_path, capacity_bytes=10).close()
    open_store(tmp_path, capacity_bytes=20).close()
    with open_store(tmp_path) as store:
        assert store.capacity_bytes == 20


def test_a_store_that_nobody_closes_ends_quietly(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        store.add(write_model(tmp_path / "model", base_tensors(rows=9)), "org/m")
    code = (
        "import sys; from pbstore import open_store, load_state_dict; store = open_store(sys.argv[1]);"
        "load_state_dict(store, 'org/m'); store.add(sys.argv[2], 'org/n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store", tmp_path / "model"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    with open_store(tmp_path / "store") as store:
        assert store.models() == ("org/m", "org/n")
        assert store.verify().ok


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "file").write_text("no folder")
    for name in ("full", "file"):
        with pytest.raises(NotAStoreError):
            open_store(tmp_path / name)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "[]",
        '{"format": "other"}',
        '{"format": "pbstore", "version": 2}',
        '{"format": "pbstore", "version": 1}',
    ],
)
def test_unknown_settings_are_refused(tmp_path: Path, settings: str) -> None:
    open_store(tmp_path / "store").close()
    (tmp_path / "store" / "STORE.json").write_text(settings)
    with pytest.raises(NotAStoreError):
        open_store(tmp_path / "store")


def test_impossible_settings_are_refused(tmp_path: Path) -> None:
    for wrong in ({"capacity_bytes": -1}, {"pack_bytes": 1}):
        with pytest.raises(ValueError, match="must be"):
            open_store(tmp_path / "store", **wrong)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.models()


def test_reading_only_touches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(write_model(tmp_path / "m", base_tensors(rows=20)), "org/m")
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    with open_store(path, read_only=True) as store:
        store.checkout("org/m", tmp_path / "out")
        assert store.verify().ok
        with pytest.raises(PermissionError):
            store.put(b"x")
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
    with pytest.raises(NotAStoreError):
        open_store(tmp_path / "m", read_only=True)


def child(store: DiskBlockStore) -> None:
    assert bytes(store.get(hash_block(b"parent"))) == b"parent"
    store.put(b"child")
    os._exit(0)


def test_an_open_store_may_be_used_after_a_fork(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.put(b"parent")
        process = multiprocessing.get_context("fork").Process(target=child, args=(store,))
        process.start()
        process.join(30)

        assert process.exitcode == 0
        assert store.has(hash_block(b"child"))


def test_a_second_writer_gives_up_in_the_end(tmp_path: Path) -> None:
    with open_store(tmp_path) as one, open_store(tmp_path, lock_wait_s=0.05) as two, one.disk.writing():
        with pytest.raises(StoreLockedError, match="another process"):
            two.put(b"x")
        assert two.models() == ()


TINY_DISK = """
import sys
from pbstore import open_store
with open_store(sys.argv[1] + "/store") as store:
    store.put(b"kept")
    try:
        for number in range(100):
            store.put(bytes([number]) * 200_000)
    except OSError as error:
        print("full:", error.errno)
    print("ok" if store.verify().ok and len(list(store.block_ids())) > 1 else "bad")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(TINY_DISK)
    shell = 'mount -t tmpfs -o size=3m tmpfs disk && exec "$0" script.py disk'
    command = ["unshare", "-Urm", "sh", "-c", shell, sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no small file system can be made here")

    assert done.stdout.split("\n")[:2] == ["full: 28", "ok"], done.stderr


def test_a_scratch_store_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> None:
        raise AssertionError("fsync in a scratch store")

    with open_store(tmp_path / "store", durable=False) as store:
        monkeypatch.setattr(os, "fsync", refuse)
        store.add(write_model(tmp_path / "m", base_tensors(rows=20)), "org/m")
        store.remove("org/m", trash=False)
        store.gc()
        monkeypatch.undo()
        assert store.verify().ok


def test_threads_that_end_leave_no_connection(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        store.add(write_model(tmp_path / "m", base_tensors(rows=20)), "org/m")
        counts = []
        for number in range(12):
            store.checkout("org/m", tmp_path / str(number))
            counts.append(len(list(Path("/proc/self/fd").iterdir())))

        assert max(counts[4:]) <= max(counts[:4])


def test_settings_are_plain_json(tmp_path: Path) -> None:
    open_store(tmp_path, capacity_bytes=5).close()

    assert json.loads((tmp_path / "STORE.json").read_text())["capacity_bytes"] == 5
