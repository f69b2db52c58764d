"""Laws: a store never lies in what it stores, nor under a checkout; what killed checkouts leave goes."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.errors import BadFileError
from pbstore.folders.restore import LEFTOVER
from tests.pbstore.folders import base_tensors, folder_content, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_model(tmp_path / "model", base_tensors(rows=8))
    (folder / "deep").mkdir()
    (folder / "deep" / "more.bin").write_bytes(b"more")
    return folder


@pytest.fixture
def store(model: Path) -> DiskBlockStore:
    """A store in the folder that is stored."""
    return open_store(model / "deep" / "store", durable=False)


def without_store(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in folder_content(folder).items() if "store" not in path.split("/")}


def test_the_store_itself_is_left_out_and_named_each_time(
    store: DiskBlockStore, model: Path, tmp_path: Path
) -> None:
    plan, report = store.plan.add(model).report, store.add(model, "org/model")
    assert plan.skipped == report.skipped == ("deep/store",)
    assert plan.raw_bytes == report.raw_bytes
    assert store.add(model, "org/again").raw_bytes == report.raw_bytes
    store.checkout("org/model", tmp_path / "out")
    assert folder_content(tmp_path / "out") == without_store(model)


def test_links_to_the_store_are_left_out_and_named(
    store: DiskBlockStore, model: Path, tmp_path: Path
) -> None:
    store.add(write_model(tmp_path / "other", base_tensors(seed=1)), "org/other")
    inner = store.path
    (model / "link").symlink_to(inner)
    (model / "parts").symlink_to(inner / "packs")
    (model / "pack").symlink_to(inner / "packs" / "00000001.pack")
    (model / "around").symlink_to(inner.parent)
    report = store.add(model, "org/model")
    assert report.skipped == ("around/store", "deep/store", "link", "pack", "parts")
    store.checkout("org/model", tmp_path / "out")
    assert (tmp_path / "out" / "around" / "more.bin").read_bytes() == b"more"


def spellings(path: Path, tmp_path: Path) -> list[Path]:
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "up").symlink_to(path.parent)
    return [path, tmp_path / "link", tmp_path / "up" / path.name, path / ".." / path.name, Path(f"{path}//.")]


@pytest.mark.parametrize("inner", [".", "packs", "manifests", "new/folder"])
def test_a_folder_in_the_store_is_neither_stored_nor_written_to(
    store: DiskBlockStore, model: Path, tmp_path: Path, inner: str
) -> None:
    store.add(model, "org/model")
    before = folder_content(store.path)
    for spelling in spellings(store.path, tmp_path):
        with pytest.raises(BadFileError, match=r"lies in,? the store"):
            store.checkout("org/model", spelling / inner, force=True)
        if inner != "new/folder":
            with pytest.raises(BadFileError, match=r"lies in,? the store"):
                store.add(spelling / inner, "org/store")
            with pytest.raises(BadFileError, match=r"lies in,? the store"):
                store.plan.add(spelling / inner)
    assert set(folder_content(store.path)) == set(before)


def test_a_checkout_onto_a_folder_that_holds_the_store_is_refused(
    store: DiskBlockStore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(model, "org/model")
    monkeypatch.chdir(model)
    before = folder_content(model)
    for force in (False, True):
        for target in [*spellings(model, tmp_path / f"{force}"), Path(), model / "deep"]:
            with pytest.raises(BadFileError, match=r"the store .* lies in it"):
                store.checkout("org/model", target, force=force)
    assert folder_content(model).keys() == before.keys()


@pytest.fixture(autouse=True)
def _folders_for_links(tmp_path: Path) -> None:
    for name in ("True", "False"):
        (tmp_path / name).mkdir()


def test_a_checkout_through_links_or_into_another_store_is_refused_before_any_write(
    store: DiskBlockStore, model: Path, tmp_path: Path
) -> None:
    store.add(model, "org/model")
    other = tmp_path / "other"
    open_store(other, durable=False).close()
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").symlink_to(store.path)
    for target in (out, other, other / "packs" / "x"):
        for force in (False, True):
            with pytest.raises(BadFileError, match=r"leads out of it|block store"):
                store.checkout("org/model", target, force=force)
    (out / "deep").unlink()
    open_store(out / "deep", durable=False).close()
    with pytest.raises(BadFileError, match="a block store is there"):
        store.checkout("org/model", out)
    assert not [path for path in (*out.rglob("*.json"), *other.rglob("*.json")) if path.name != "STORE.json"]


def in_the_way(kind: str) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        if kind == "a folder at a file's place":
            (out / "model.safetensors").mkdir()
        elif kind == "a file at a folder's place":
            (out / "deep").write_bytes(b"mine")
        else:
            (out / "model.safetensors").write_bytes(b"mine")

    return make


@pytest.mark.parametrize(
    "kind", ["a folder at a file's place", "a file at a folder's place", "other bytes without force"]
)
def test_what_is_in_the_way_is_found_before_any_write(
    store: DiskBlockStore, model: Path, tmp_path: Path, kind: str
) -> None:
    store.add(model, "org/model")
    out = tmp_path / "out"
    out.mkdir()
    in_the_way(kind)(out)
    before = sorted(out.rglob("*")), folder_content(out)
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        store.checkout("org/model", out, force=not kind.startswith("other"))
    assert (sorted(out.rglob("*")), folder_content(out)) == before


KILLED = """
import os, signal, sys
from pbstore import open_store
from pbstore.disk.models import Models
count = [0]
def write_block(self, *arguments, **options):
    count[0] += 1
    if count[0] > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, *arguments, **options)
plain, Models.write_block = Models.write_block, write_block
open_store(sys.argv[1], durable=False).checkout("org/model", sys.argv[2])
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("blocks", [0, 2])
def test_what_killed_checkouts_leave_goes_with_the_next_one(model: Path, tmp_path: Path, blocks: int) -> None:
    out = tmp_path / "out"
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(model, "org/model")
        for _ in range(2):
            command = [sys.executable, "-c", KILLED, tmp_path / "store", out, str(blocks)]
            done = subprocess.run(command, timeout=60, check=False)
            assert done.returncode == -signal.SIGKILL
        assert list(out.rglob(f"{LEFTOVER}*"))
        store.checkout("org/model", out)
    assert folder_content(out) == folder_content(model)


def test_files_of_others_and_of_a_running_checkout_stay(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mine = out / f"{LEFTOVER}mine"
    (model / f"{LEFTOVER}mine").write_bytes(b"part of the model")
    running, linked = out / f"{LEFTOVER}running", out / f"{LEFTOVER}link"
    linked.symlink_to(model / "config.json")
    running.write_bytes(b"half")
    (out / ".tmp-other").write_bytes(b"not ours")
    fd = os.open(running, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(model, "org/model")
        for _ in range(2):
            store.checkout("org/model", out)
            assert mine.read_bytes() == b"part of the model"
            assert running.exists()
            assert linked.is_symlink()
            assert (out / ".tmp-other").exists()
    os.close(fd)


def test_two_files_are_never_written_to_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "twins"
    for name in ("one", "two"):
        (model / name).mkdir(parents=True)
        (model / name / "f").write_bytes(name.encode())
    out = tmp_path / "out"
    (out / "one").mkdir(parents=True)
    (out / "two").symlink_to("one")
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(model, "org/twins")
        for force in (False, True):
            with pytest.raises(FileExistsError, match="the same place"):
                store.checkout("org/twins", out, force=force)
        assert not list((out / "one").iterdir())
        plain = Path.replace

        def folding(path: Path, target: Path) -> Path:
            """As on a file system that takes `one` and `two` for the same name."""
            done = plain(path, target)
            if target.parent.name == "two":
                twin = target.parent.with_name("one") / target.name
                twin.unlink()
                os.link(target, twin)
            return done

        monkeypatch.setattr(Path, "replace", folding)
        with pytest.raises(FileExistsError, match="another name"):
            store.checkout("org/twins", tmp_path / "folded")
