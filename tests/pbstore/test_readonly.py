"""Reading needs no writing: every verb that reads works where the store cannot be written to."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.cli import main
from pbstore import DiskBlockStore, load_state_dict, open_store
from pbstore.disk.index import readonly
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

VERBS = (
    ["ls"],
    ["show", "org/child"],
    ["savings"],
    ["savings", "--by", "family"],
    ["verify"],
    ["explain", "org/child"],
    ["plan", "{next}"],
    ["checkout", "org/child", "{out}"],
    ["trash"],
    ["gc", "--dry-run"],
    ["evict", "--free", "1", "--dry-run"],
    ["rm", "org/base", "--dry-run"],
    ["forget", "--all", "--dry-run"],
    ["heat", "org/child", "--dry-run"],
    ["cool", "org/base", "--dry-run"],
    ["balance", "--room", "0", "--dry-run"],
)
WRITERS = (
    ["add", "{next}", "--name", "org/next"],
    ["rm", "org/child", "--yes"],
    ["gc", "--yes"],
    ["pin", "org/base"],
    ["heat", "org/child"],
    ["restore", "org/old"],
    ["repair"],
)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[DiskBlockStore]:
    """An open store whose last commits are in the index's log only."""
    base = base_tensors(rows=80)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", base), "org/base", form="hot")
        store.add(write_model(tmp_path / "old", base_tensors(seed=4, rows=60)), "org/old")
        store.remove("org/old")
        store.disk.touch("org/base")
        store.add(write_model(tmp_path / "child", tuned(base, tuple(base))), "org/child", base="org/base")
        write_model(tmp_path / "next", tuned(base, ("layer.weight",), seed=7))
        yield store


def everything(path: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.fixture(params=["closed", "killed", "open"])
def barred(
    request: pytest.FixtureRequest, family: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store that was closed, left by a killed writer, or is open elsewhere; nobody here may write."""
    if request.param == "killed":
        shutil.copytree(family.path, tmp_path / "copy")
        (tmp_path / "copy" / "index.sqlite-shm").unlink()
    if request.param != "open":
        family.close()
    path = tmp_path / "copy" if request.param == "killed" else family.path
    assert (path / "index.sqlite-wal").exists() == (request.param != "closed")
    real_access, real_open = os.access, os.open

    def access(target: Any, mode: int, **more: Any) -> bool:  # noqa: ANN401
        return not (mode & os.W_OK and Path(target).is_relative_to(path)) and real_access(
            target, mode, **more
        )

    def open_file(target: Any, flags: int, *more: Any, **named: Any) -> int:  # noqa: ANN401
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes and Path(os.fsdecode(target)).is_relative_to(path):
            raise OSError(30, "Read-only file system", str(target))
        return real_open(target, flags, *more, **named)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setenv("PBCAST_STORE", str(path))
    return path


def words_of(verb: list[str], folder: Path) -> list[str]:
    return [word.format(next=folder / "next", out=folder / "out") for word in verb]


def test_every_reading_verb_reads(barred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(barred)
    for verb in VERBS:
        assert main(["store", *words_of(verb, tmp_path), "--json"]) == 0, verb
        json.loads(capsys.readouterr().out)
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")
    with open_store(barred) as store:
        assert store.disk.read_only
        assert store.models() == ("org/base", "org/child")
        assert [row.uses for row in store.disk.settled_rows()] == [1, 0]
        assert set(load_state_dict(store, "org/base")) == set(base_tensors())
    after = everything(barred)
    for name in ("index.sqlite-shm",):  # readers of a log that is in use note there that they read
        before.pop(name, None), after.pop(name, None)
    assert after == before


def test_every_writing_verb_says_so_in_one_line(
    barred: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(barred)
    for verb in WRITERS:
        capsys.readouterr()
        assert main(["store", *words_of(verb, tmp_path)]) == 1, verb
        assert "reading only" in capsys.readouterr().err.splitlines()[-1]
    assert {name: data for name, data in everything(barred).items() if "-shm" not in name} == {
        name: data for name, data in before.items() if "-shm" not in name
    }


def test_settings_stay_where_nothing_can_be_written(barred: Path) -> None:
    with pytest.raises(PermissionError, match="settings"):
        open_store(barred, capacity_bytes=5)


def test_what_others_write_is_seen(family: DiskBlockStore, tmp_path: Path) -> None:
    with open_store(family.path, read_only=True) as reader:
        assert reader.models() == ("org/base", "org/child")
        family.add(tmp_path / "next", "org/next")
        assert "org/next" in reader.models()
        family.close()
        assert "org/next" in reader.models()
        with open_store(family.path) as again:
            again.remove("org/child")
            again.disk.disk_use()
        assert reader.models() == ("org/base", "org/next")
        reader.checkout("org/next", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "next")


def test_a_log_without_its_index_is_carried_out_in_a_copy(family: DiskBlockStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(family.path, copy)
    (copy / "index.sqlite-shm").unlink()
    before = everything(copy)
    connection, stamp = readonly._open_copy(copy / "index.sqlite")

    assert stamp == readonly.stamp_of(copy / "index.sqlite")
    assert connection.execute("SELECT COUNT(*) FROM models").fetchone() == (3,)
    connection.close()
    assert everything(copy) == before


MOUNTED = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" "$1" || exit 77
! touch "$1/x" 2>/dev/null || exit 77
exec "$2" -c "$3" "$4"
"""
CHILD = """
import json, sys
from demo.cli import main
codes = [main(["store", *words, "--json"]) for words in json.loads(sys.argv[1])]
sys.exit(0 if not any(codes) else 1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "killed", "open"])
def test_every_reading_verb_reads_on_a_read_only_mount(
    family: DiskBlockStore, tmp_path: Path, state: str
) -> None:
    path = family.path
    if state == "killed":
        path = tmp_path / "copy"
        shutil.copytree(family.path, path)
        (path / "index.sqlite-shm").unlink()
    elif state == "closed":
        family.close()
    verbs = json.dumps([words_of(verb, tmp_path) for verb in VERBS])
    words = ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(path), sys.executable, CHILD, verbs]
    done = subprocess.run(
        words, env={**os.environ, "PBCAST_STORE": str(path)}, capture_output=True, text=True, timeout=120
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stderr
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")
