"""A full disk is an error that changes nothing, and never a wall: what frees room works with no byte free."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, IntegrityError, open_store
from pbstore.disk.files import fsio
from pbstore.disk.index import database
from pbstore.disk.upkeep.plans import Plan
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.test_plans import assert_same

opened = partial(open_store, trash_days=0)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors(rows=60)
    return {
        "org/base": write_model(tmp_path / "base", base),
        "org/child": write_model(tmp_path / "child", tuned(base, ("layer.weight",))),
        "org/other": write_model(tmp_path / "other", base_tensors(seed=5, rows=40)),
    }


def life(store: DiskBlockStore, folders: dict[str, Path]) -> Iterator[tuple[Callable[[], object], str, bool]]:
    """What writes to a store, one call after another: the call, its model, whether that is there then."""
    for name, folder in folders.items():
        yield (lambda name=name, folder=folder: store.add(folder, name), name, True)
    yield (lambda: store.forms.heat("org/child"), "org/child", True)
    yield (lambda: store.remove("org/base"), "org/base", False)
    yield (lambda: store.gc(), "org/base", False)
    yield (lambda: store.forms.cool("org/child"), "org/child", True)
    yield (lambda: store.evict(1, "largest"), "", False)


def assert_whole(store: DiskBlockStore, folders: dict[str, Path], tmp_path: Path) -> None:
    assert store.verify().problems == ()
    for name in store.models():
        store.checkout(name, tmp_path / "out" / name, force=True)
        assert folder_content(tmp_path / "out" / name) == folder_content(folders[name])


class Filling:
    """A disk that is full at one durable step, and has room again afterwards."""

    def __init__(self, full_at: int) -> None:
        self.full_at, self.steps = full_at, 0

    def __call__(self, name: str) -> None:
        self.steps += 1
        if self.steps == self.full_at and name != "unlink":  # taking away needs no room
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_disk_that_fills_at_any_step_wedges_nothing(
    folders: dict[str, Path], tmp_path: Path, stride: int
) -> None:
    for full_at in range(1, 1000, stride):
        disk, errors = Filling(full_at), []
        with opened(tmp_path / f"store{full_at}", durable=False) as store:
            take_away = fsio.on_step(disk)
            try:
                for call, name, there in life(store, folders):
                    try:
                        call()
                    except OSError as error:
                        errors.append(error.errno)
                        call()  # there is room again
                    assert not name or (name in store.models()) == there
            finally:
                take_away()
            assert errors in ([], [errno.ENOSPC])
            assert_whole(store, folders, tmp_path)
        if disk.steps < full_at:
            break
    assert full_at > 50


def put_until_full(store: DiskBlockStore) -> None:
    with store.disk.writing():
        for number in range(40):
            store.put(np.random.default_rng(number).bytes(2000))
        store.put(bytes(50_000))


def test_what_does_not_fit_leaves_no_byte_in_the_packs(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev

    def full(fd: int, parts: list[memoryview], offset: int) -> int:
        if sum(map(len, parts)) > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, parts, offset)

    with opened(tmp_path / "store", pack_bytes=20_000) as store:
        store.add(folders["org/other"], "org/other", form="hot")
        before = {path: path.stat().st_size for path in store.disk.layout.packs.iterdir()}
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(OSError, match="No space"):
            put_until_full(store)
        monkeypatch.undo()
        after = {
            path: path.stat().st_size for path in store.disk.layout.packs.iterdir() if path.stat().st_size
        }
        assert after == before
        assert_whole(store, folders, tmp_path)


def test_an_add_that_fails_late_gives_back_what_it_committed(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbstore.disk.add.adding.COMMIT_BYTES", 5000)
    with opened(tmp_path / "store") as store:
        store.add(folders["org/base"], "org/base")
        used, disk = store.used_bytes, sum(p.stat().st_blocks for p in store.disk.layout.packs.iterdir())

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(store.disk, "file_manifest", refuse)
        with pytest.raises(OSError, match="No space"):
            store.add(folders["org/other"], "org/other")
        assert store.used_bytes == used
        assert sum(p.stat().st_blocks for p in store.disk.layout.packs.iterdir()) <= disk + 8
        monkeypatch.undo()
        assert_whole(store, folders, tmp_path)


def test_a_full_index_is_not_a_damaged_one(folders: dict[str, Path], tmp_path: Path) -> None:
    with opened(tmp_path / "store", durable=False) as store:
        store.add(folders["org/base"], "org/base")
        (pages,) = store.disk.connection.execute("PRAGMA page_count").fetchone()
        store.disk.connection.execute(f"PRAGMA max_page_count = {pages}")
        tensors = {f"t{i:04d}": np.full(257, i, np.float32) for i in range(1500)}  # each is a block
        with pytest.raises(OSError, match="no space left") as caught:
            store.add(write_model(tmp_path / "many", tensors), "org/many")
        assert caught.value.errno == errno.ENOSPC
        assert not isinstance(caught.value, IntegrityError)
        store.disk.connection.execute("PRAGMA max_page_count = 1000000")
        assert_whole(store, folders, tmp_path)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_FULL])
def test_a_disk_without_room_for_passing_files_is_full(code: int) -> None:
    from pbstore.disk.index.sqlite import named

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert fsio.is_no_room(named(error))


def test_holes_come_where_nothing_lives_and_nobody_reads(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "store") as store, opened(tmp_path / "store") as reader:
        for name, folder in folders.items():
            store.add(folder, name, form="hot")
        block_id = max(store.manifest("org/other").block_ids(), key=lambda i: store.info(i).raw_bytes)
        view = reader.disk.view(block_id)
        assert view is not None
        held = bytes(view)
        store.remove("org/other")
        monkeypatch.setattr(store.disk, "has_room", lambda _: False)
        store.gc()
        assert bytes(view) == held  # somebody has it: no hole
        (pack,) = store.disk.layout.packs.iterdir()
        before = pack.stat().st_blocks
        del view
        reader.close()
        store.put(b"orphan")
        store.gc()
        assert pack.stat().st_blocks < before
        monkeypatch.undo()
        assert_whole(store, folders, tmp_path)
        (tmp_path / "store" / "index.sqlite").unlink()
    with opened(tmp_path / "store") as again:  # nothing comes back from a hole
        assert not again.has(block_id)
        assert_whole(again, folders, tmp_path)


def test_the_reserve_is_freed_before_the_disk_is_full_and_comes_back(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "store") as store:
        store.add(folders["org/base"], "org/base")
        assert store.disk.layout.reserve.stat().st_blocks * 512 >= database.size_bytes(store.disk.connection)
        with monkeypatch.context() as patch:
            patch.setattr(fsio, "free_bytes", lambda _: 1000)
            with pytest.raises(OSError, match="nearly full") as caught:
                store.add(folders["org/other"], "org/other")
            assert caught.value.errno == errno.ENOSPC
            assert not store.disk.layout.reserve.exists()
            store.remove("org/base")
            assert store.gc().orphan_blocks
        store.add(folders["org/other"], "org/other")
        assert store.disk.layout.reserve.exists()
        assert_whole(store, folders, tmp_path)


def test_what_was_heated_or_cooled_gives_its_old_form_back_on_a_full_disk(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old record is dead beside the live one, which a collection looks at in the same pack."""
    with open_store(tmp_path / "store") as store:
        store.add(folders["org/base"], "org/base")
        store.forms.heat("org/base")
        monkeypatch.setattr(fsio, "free_bytes", lambda _: 1000)
        store.disk.layout.reserve.unlink()  # as whoever opened the store when the disk was full left it
        plan = store.plan.gc()
        done = plan.apply()
        assert_same(plan.report, done)
        assert done.before.packs_bytes - done.after.packs_bytes > 8000
        assert_whole(store, folders, tmp_path)


def test_what_is_removed_on_a_full_disk_is_no_damage(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with opened(tmp_path / "store") as store:
        for name, folder in folders.items():
            store.add(folder, name)
        with monkeypatch.context() as patch:
            patch.setattr(fsio, "free_bytes", lambda _: 1000)
            store.remove("org/other")
            assert_whole(store, folders, tmp_path)
        assert store.gc().orphan_blocks
        assert_whole(store, folders, tmp_path)
    assert not caplog.records


PLANS: dict[str, Callable[[DiskBlockStore], Plan]] = {
    "gc": lambda store: store.plan.gc(),
    "forget": lambda store: store.plan.forget(),
    "evict": lambda store: store.plan.evict(1),
    "evict more": lambda store: store.plan.evict(store.used_bytes // 2, "largest"),
}


@pytest.mark.parametrize("verb", PLANS)
def test_a_plan_on_a_full_disk_is_the_run(
    verb: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holes in packs are counted before, and no reserve comes back where there is no room for one."""
    with open_store(tmp_path / "store") as store:
        for name, folder in folders.items():
            store.add(folder, name)
        store.remove("org/other")
        store.put(bytes(range(256)) * 100)
        monkeypatch.setattr(fsio, "free_bytes", lambda _: 1000)
        store.disk.layout.reserve.unlink()  # as whoever opened the store when the disk was full left it
        plan = PLANS[verb](store)
        assert_same(plan.report, plan.apply())
        assert_whole(store, folders, tmp_path)


def test_an_error_of_the_disk_names_its_file() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        for write in (lambda: fsio.write_all(fd, [b"x"], 0), lambda: fsio.write_at(fd, b"x", 0)):
            with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
                write()
    finally:
        os.close(fd)


def test_a_checkout_to_a_full_disk_names_the_file(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_store(tmp_path / "store", durable=False) as store:
        store.add(folders["org/base"], "org/base")
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/out/.*\.(json|safetensors|txt)'"):
            store.checkout("org/base", tmp_path / "out")


IN_SMALL_DISK = """
import os, shutil, sys
from pathlib import Path
import subprocess
root, tmp, python_path = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.path.insert(0, python_path)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(root)], check=True)
from tests.pbstore.test_full_disk import fill_and_free
fill_and_free(root, tmp)
"""


def fill_and_free(root: Path, tmp_path: Path) -> None:
    """On a disk of 6 MB: fill it with models and to the last byte, then read, remove and collect."""
    folders = {}
    with open_store(root / "store") as store:
        with suppress(OSError):
            for seed in range(100):
                name = f"org/m{seed:02d}"
                folders[name] = write_model(tmp_path / name, base_tensors(seed=seed, rows=900))
                store.add(folders[name], name, form="hot")
        names = store.models()
        assert names
        assert len(names) < len(folders)  # the last did not fit
        folders = {name: folders[name] for name in names}
    filler = (root / "filler").open("wb", buffering=0)
    with suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))
    assert fsio.free_bytes(root) == 0

    def use(what: Callable[[DiskBlockStore], object]) -> None:
        with open_store(root / "store") as store:
            what(store)

    use(lambda store: store.models() == names or pytest.fail("models"))
    use(lambda store: store.checkout(names[0], tmp_path / "out"))
    assert folder_content(tmp_path / "out") == folder_content(folders[names[0]])
    use(lambda store: store.remove(names[1]))
    use(lambda store: store.trash.forget([names[1]]))
    freed = fsio.free_bytes(root)
    assert freed >= 150_000, freed  # a hole: there was no room for a copy
    filler.write(bytes(freed))
    use(lambda store: store.evict(1))
    freed = fsio.free_bytes(root)
    assert freed >= 150_000, freed
    filler.close()
    (root / "filler").unlink()
    with open_store(root / "store") as store:
        store.gc()
        left = store.models()
        assert len(left) == len(names) - 2
        store.add(folders[names[1]], names[1])
        assert store.disk.layout.reserve.exists()
        assert_whole(store, folders, tmp_path)
    shutil.rmtree(root / "store")
    forget_many_blocks(root, tmp_path)


def forget_many_blocks(root: Path, tmp_path: Path) -> None:
    """Let go of a model with more rows in the index than the reserve holds."""
    rng = np.random.default_rng(0)
    tensors = {f"t{i}": rng.normal(0, 0.05, (17, 16)).astype(np.float32) for i in range(1200)}
    with open_store(root / "many" / "store") as store:
        store.add(write_model(tmp_path / "many", tensors), "org/many")
        store.add(write_model(tmp_path / "few", base_tensors(rows=60)), "org/few")
        assert database.size_bytes(store.disk.connection) > store.disk.layout.reserve.stat().st_size
    with (root / "filler").open("wb", buffering=0) as filler:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))
        with open_store(root / "many" / "store") as store:
            store.remove("org/many")
            gone = store.trash.forget(["org/many"]).orphan_blocks
            assert gone >= 1200, gone
            assert store.verify().problems == ()
            assert store.models() == ("org/few",)
    (root / "filler").unlink()


def test_a_disk_without_a_free_byte(tmp_path: Path) -> None:
    """On a real small file system, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path / "disk")]
    try:
        allowed = subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        allowed = False
    if not allowed:
        pytest.skip("no private mounts here")
    python_path = str(Path(__file__).parents[2])
    command = ["unshare", "-rm", sys.executable, "-c", IN_SMALL_DISK]
    command += [str(tmp_path / "disk"), str(tmp_path), python_path]
    done = subprocess.run(command, capture_output=True, timeout=120, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
