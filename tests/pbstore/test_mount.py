"""A mounted store: what a checkout would write, read range by range, checked, and nothing can be written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.cli import main
from pbstore import DiskBlockStore, open_store
from pbstore.errors import MountError
from pbstore.mount import StoreTree
from pbstore.mount import fuse as mounting
from pbstore.mount.fuse import Operations
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("org/m", "org/tuned", "alone", "org", "deep/er/name")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    root = tmp_path_factory.mktemp("mount")
    base = base_tensors(rows=30)
    with open_store(root / "store", durable=False) as opened:
        for number, name in enumerate(NAMES):
            folder = write_model(root / "folders" / str(number), tuned(base, ("layer.bias",), seed=number))
            (folder / "sub" / "empty").mkdir(parents=True)
            (folder / "sub" / "run.sh").write_bytes(b"#!/bin/sh\n")
            (folder / "sub" / "run.sh").chmod(0o755)
            (folder / "none.txt").touch()
            opened.add(folder, name)
        opened.history.tag("org/m", "v1")
        opened.add(write_model(root / "later", base_tensors(9, rows=5)), "org/m")
        yield opened


def walked(operations: Operations, path: str = "/") -> dict[str, bytes | None]:
    """All files below a folder, as a program would read them; None for a folder without any."""
    found: dict[str, bytes | None] = {}
    names = [name for name in operations.readdir(path, 0) if name not in (".", "..")]
    for name in names:
        inner = f"{path.rstrip('/')}/{name}"
        status = operations.getattr(inner)
        if status["st_mode"] & 0o040000:
            below = walked(operations, inner)
            found |= below or {inner: None}
            continue
        number = operations.open(inner, os.O_RDONLY)
        parts = [operations.read(inner, 1000, at, number) for at in range(0, status["st_size"] + 1000, 1000)]
        operations.release(inner, number)
        found[inner] = b"".join(parts)
        assert len(found[inner] or b"") == status["st_size"]
    return found


def test_what_is_shown_is_what_a_checkout_writes(store: DiskBlockStore, tmp_path: Path) -> None:
    for name in store.models():
        store.checkout(name, tmp_path / name)
    shown = walked(Operations(StoreTree(store.disk)))
    assert {path: data for path, data in shown.items() if data is not None} == {
        f"/{path}": data for path, data in folder_content(tmp_path).items()
    }
    assert "/alone/sub/empty" in shown
    operations = Operations(StoreTree(store.disk))
    assert operations.getattr("/alone/sub/run.sh")["st_mode"] & 0o111
    assert not operations.getattr("/alone/none.txt")["st_mode"] & 0o111


def test_a_revision_is_found_where_it_is_asked_for(store: DiskBlockStore, tmp_path: Path) -> None:
    operations = Operations(StoreTree(store.disk))
    store.checkout("org/m@v1", tmp_path / "v1")
    shown = walked(operations, "/org/m@v1")
    assert {path: data for path, data in shown.items() if data is not None} == {
        f"/org/m@v1/{path}": data for path, data in folder_content(tmp_path / "v1").items()
    }
    assert "m@v1" not in operations.readdir("/org", 0)
    with pytest.raises(OSError, match="No such file"):
        operations.getattr("/org/m@gone")


@given(offset=st.integers(0, 30_000), size=st.integers(0, 40_000), cache=st.sampled_from([0, 5000, 1 << 20]))
@settings(max_examples=40)
def test_any_part_is_that_of_the_file(store: DiskBlockStore, offset: int, size: int, cache: int) -> None:
    tree = StoreTree(store.disk, cache_bytes=cache)
    data = (store.path.parent / "folders" / "1" / "model.safetensors").read_bytes()
    file = tree.open("org/tuned/model.safetensors")
    assert tree.read(file, offset, size) == data[offset : offset + size]


@pytest.mark.parametrize(
    ("path", "code"),
    [("/none", errno.ENOENT), ("/org/m/none", errno.ENOENT), ("/org/m/config.json/x", errno.ENOENT)],
)
def test_what_is_not_there_is_not_there(store: DiskBlockStore, path: str, code: int) -> None:
    operations = Operations(StoreTree(store.disk))
    for ask in (
        operations.getattr,
        lambda path: operations.readdir(path, 0),
        lambda path: operations.open(path, 0),
    ):
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            ask(path)
        assert caught.value.errno == code


def test_nothing_is_written(store: DiskBlockStore) -> None:
    operations = Operations(StoreTree(store.disk))
    for flags in (os.O_WRONLY, os.O_RDWR):
        with pytest.raises(OSError, match="Read-only"):
            operations.open("/alone/config.json", flags)
    with pytest.raises(OSError, match="Read-only"):
        operations.access("/alone", os.W_OK)
    assert operations.access("/alone", os.R_OK | os.X_OK) == 0
    with pytest.raises(IsADirectoryError):
        operations.open("/alone", os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        operations.readdir("/alone/config.json", 0)


def test_damage_is_an_error_and_never_other_bytes(store: DiskBlockStore, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "store")
    with open_store(tmp_path / "store", durable=False) as opened:
        operations = Operations(StoreTree(opened.disk))
        number = operations.open("/alone/model.safetensors", os.O_RDONLY)
        for pack in opened.disk.layout.packs.iterdir():
            data = bytearray(pack.read_bytes())
            data[len(data) // 4 :] = bytes(byte ^ 0x55 for byte in data[len(data) // 4 :])
            pack.write_bytes(data)
        with pytest.raises(OSError, match="Input/output"):
            operations.read("/alone/model.safetensors", 1 << 20, 0, number)


def test_an_open_file_stays_what_it_was_and_what_others_write_is_seen(tmp_path: Path) -> None:
    folders = [write_model(tmp_path / str(number), base_tensors(number, rows=5)) for number in range(2)]
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(folders[0], "org/m")
        operations = Operations(StoreTree(store.disk, cache_bytes=0))
        path = "/org/m/model.safetensors"
        number = operations.open(path, os.O_RDONLY)
        with open_store(tmp_path / "store", durable=False) as other:
            other.add(folders[1], "org/m")
            other.add(folders[1], "you/n")
            assert (
                operations.read(path, 1 << 20, 0, number) == (folders[0] / "model.safetensors").read_bytes()
            )
            again = operations.open(path, os.O_RDONLY)
            assert operations.read(path, 1 << 20, 0, again) == (folders[1] / "model.safetensors").read_bytes()
            assert operations.readdir("/", 0) == [".", "..", "org", "you"]
            other.history.forget(["org/m"], keep_last=1)
            other.trash.forget()
        with pytest.raises(OSError, match="Stale") as caught:
            operations.read(path, 1 << 20, 0, number)
        assert caught.value.errno == errno.ESTALE


def test_where_it_cannot_be_mounted_one_line_says_why(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PBCAST_STORE", str(store.path))

    def refused(folder: Path) -> str:
        assert main(["store", "mount", str(folder)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    monkeypatch.setattr(mounting, "DEVICE", tmp_path / "no-device")
    assert "needs FUSE" in refused(tmp_path / "empty")
    monkeypatch.setattr(mounting, "DEVICE", tmp_path)
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    assert "pip install 'pbcast[mount]'" in refused(tmp_path / "empty")
    monkeypatch.setattr(mounting, "_library", lambda: None)
    assert "expected an empty folder" in refused(tmp_path / "full")
    assert "expected an empty folder" in refused(tmp_path / "none")
    (store.path / "inside").mkdir()
    assert "in itself" in refused(store.path / "inside")
    (store.path / "inside").rmdir()


TOOL = shutil.which("fusermount3") or shutil.which("fusermount")


def can_mount() -> bool:
    try:
        mounting._library()
    except MountError:
        return False
    return TOOL is not None


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs /dev/fuse, libfuse and mfusepy")
@pytest.mark.parametrize("end", ["unmount", "interrupt", "terminate"])
def test_a_mounted_store_is_read_by_any_program(store: DiskBlockStore, tmp_path: Path, end: str) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    script = "import sys; from demo.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", script, "store", "mount", str(folder), "--store", str(store.path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("5 models at ")
            for name in store.models():
                store.checkout(name, tmp_path / "out" / name)
            assert folder_content(folder) == folder_content(tmp_path / "out")
            for write in (
                lambda: (folder / "x").touch(),
                lambda: (folder / "alone/config.json").write_bytes(b""),
            ):
                with pytest.raises(OSError, match="Read-only"):
                    write()
            if end == "unmount":
                subprocess.run([TOOL, "-u", str(folder)], check=True)
            else:
                process.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGTERM)
            assert process.wait(120) in (0, 130, 143)
        finally:
            process.kill()
            if os.path.ismount(folder):  # or nobody can delete it
                subprocess.run([TOOL, "-uz", str(folder)], check=False)
    assert not os.path.ismount(folder)
    assert list(folder.iterdir()) == []
