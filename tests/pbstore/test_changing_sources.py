"""Laws of sources that change while they are read: one state of the folder is stored, or the add is refused.

The source is changed at every step of reading it, in every way. `states` are those that the folder was in.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from demo.cli import main
from pbstore import DiskBlockStore, SourceChangedError, open_store
from pbstore.errors import BadFileError
from pbstore.folders.source import TRIES, on_step
from tests.pbstore.folders import base_tensors, folder_content, safetensors_bytes

Change = Callable[[Path], None]
State = dict[str, bytes]


def overwrite(folder: Path) -> None:
    """Other bytes in place, with the old size and the old mtime."""
    path = folder / "a.safetensors"
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(-64, 2)
        file.write(os.urandom(64))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def truncate(folder: Path) -> None:
    path = folder / "z.bin"
    os.truncate(path, max(path.stat().st_size - 1000, 0))


def grow(folder: Path) -> None:
    with (folder / "z.bin").open("ab") as file:
        file.write(os.urandom(100))


def swap(folder: Path) -> None:
    """Two shards of one size change names."""
    one, two, third = folder / "a.safetensors", folder / "b.safetensors", folder / ".swap"
    one.rename(third)
    two.rename(one)
    third.rename(two)


def replace(folder: Path) -> None:
    (folder / ".new").write_bytes((folder / "b.safetensors").read_bytes()[:-4] + os.urandom(4))
    (folder / ".new").rename(folder / "b.safetensors")


def add(folder: Path) -> None:
    (folder / "sub" / f"new-{len(list((folder / 'sub').iterdir()))}").write_bytes(b"new")


def remove(folder: Path) -> None:
    sorted(path for path in folder.rglob("*") if path.is_file())[-1].unlink()


CHANGES: list[Change] = [overwrite, truncate, grow, swap, replace, add, remove]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path_factory.mktemp("changing") / "store", durable=False) as opened:
        yield opened


def fresh(folder: Path) -> Path:
    """Two shards of one size, a file and a folder; other bytes each time."""
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b"):
        tensors = base_tensors(seed=int.from_bytes(os.urandom(4)), rows=20)
        (folder / f"{name}.safetensors").write_bytes(safetensors_bytes(tensors))
    (folder / "z.bin").write_bytes(os.urandom(5000))
    (folder / "sub" / "config.json").write_bytes(os.urandom(10))
    return folder


@contextmanager
def changing(folder: Path, change: Change, at: Callable[[int], bool]) -> Iterator[list[State]]:
    """Inside, the folder is changed before the steps of reading that `at` names."""
    states, count = [folder_content(folder)], [0]

    def hook(_: str) -> None:
        if at(count[0]):
            change(folder)
            states.append(folder_content(folder))
        count[0] += 1

    take_away = on_step(hook)
    try:
        yield states
    finally:
        take_away()


def outcome(store: DiskBlockStore, folder: Path, out: Path) -> State | None:
    """What is stored of a folder; None if it is refused, and the store then is as before."""
    before = set(store.block_ids())
    refused = None
    try:
        store.add(folder, "org/model")
    except BadFileError as error:
        refused = str(error)
    if refused is not None:
        assert str(folder) in refused
        assert (store.models(), set(store.block_ids())) == ((), before)
        return None
    store.checkout("org/model", out)
    assert store.manifest("org/model").empty_folders == (("sub",) if not list(out.glob("sub/*")) else ())
    store.remove("org/model")
    return folder_content(out)


def number_of_steps(store: DiskBlockStore, folder: Path) -> int:
    count = []
    take_away = on_step(count.append)
    store.plan.add(fresh(folder))
    take_away()
    return len(count)


@pytest.mark.sampled(10)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_at_any_step_never_gives_a_mixture(
    store: DiskBlockStore, tmp_path: Path, change: Change
) -> None:
    steps = number_of_steps(store, tmp_path / "first")
    assert steps > 20
    for step in range(steps):
        folder = fresh(tmp_path / f"{step}")
        with changing(folder, change, lambda count, step=step: count == step) as states:
            stored = outcome(store, folder, tmp_path / f"out-{step}")
        assert len(states) == 2
        assert stored in states, f"step {step}"
        assert step >= steps - 2 or stored == states[1]  # it is read again, unless all is read


@pytest.mark.parametrize("change", CHANGES[:5], ids=lambda change: change.__name__)
def test_a_source_that_never_rests_is_refused(store: DiskBlockStore, tmp_path: Path, change: Change) -> None:
    for start in (0, 3, 9):
        folder = fresh(tmp_path / f"{start}")
        with changing(folder, change, lambda count, start=start: count >= start) as states:
            stored = outcome(store, folder, tmp_path / f"out-{start}")
        assert stored is None or stored in states
        assert len(states) > 2


def test_a_swap_that_is_taken_back_gives_no_mixture(store: DiskBlockStore, tmp_path: Path) -> None:
    for first in range(0, 20, 2):
        folder = fresh(tmp_path / f"{first}")
        with changing(folder, swap, lambda count, first=first: count in (first, first + 3)) as states:
            stored = outcome(store, folder, tmp_path / f"out-{first}")
        assert stored in states


def test_the_changed_file_is_named_and_the_tries_are_bounded(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = fresh(tmp_path / "model")
    listed = []
    take_away = on_step(lambda name: listed.append(name) if name == "folder" else grow(folder))
    try:
        with pytest.raises(SourceChangedError, match=r"z\.bin: changed while it was read"):
            store.add(folder, "org/model")
    finally:
        take_away()
    assert len(listed) == 2 * TRIES  # a folder and one in it, each time


def test_progress_adds_up_when_a_folder_is_read_again(store: DiskBlockStore, tmp_path: Path) -> None:
    folder = fresh(tmp_path / "model")
    done = []
    with changing(folder, overwrite, lambda count: count == 12):
        store.plan.add(folder, progress=lambda _, size: done.append(size))

    assert min(done) < 0
    assert sum(done) == sum(map(len, folder_content(folder).values()))


def test_a_changed_folder_leaves_nothing_in_the_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbstore.disk.add.adding.COMMIT_BYTES", 50_000)
    folder = fresh(tmp_path / "model")
    arrays = {f"w{i}": np.frombuffer(os.urandom(40_000), np.uint8) for i in range(8)}
    (folder / "y.safetensors").write_bytes(safetensors_bytes(arrays))
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(fresh(tmp_path / "other"), "org/other", form="hot")
        pack = tmp_path / "store" / "packs" / "00000001.pack"
        before = (set(store.block_ids()), pack.stat().st_size)
        with (
            changing(folder, grow, lambda count: count > 20),
            pytest.raises(SourceChangedError),
        ):
            store.add(folder, "org/model", form="hot")

        assert (set(store.block_ids()), pack.stat().st_size) == before
        assert store.savings().orphan_bytes == 0
        assert store.verify().ok
        store.add(folder, "org/model", form="hot")
        store.checkout("org/model", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(folder)


@pytest.mark.slow
def test_a_conversion_and_what_is_beside_it_are_of_one_state(tmp_path: Path) -> None:
    import torch

    def version(folder: Path, number: int) -> None:
        torch.save({"w": torch.full((40,), float(number))}, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(str(number))

    kept = refused = 0
    for step in range(0, 40, 2):
        folder = tmp_path / f"{step}"
        folder.mkdir()
        version(folder, 1)
        with changing(folder, lambda folder: version(folder, 2), lambda count, step=step: count == step):
            words = ["add", folder, "--name", f"m/{step}", "--convert", "--store", folder / "store"]
            code = main(["store", *map(str, words)])
        if code:
            refused += 1
            continue
        kept += 1
        with open_store(folder / "store") as store:
            store.checkout(f"m/{step}", tmp_path / f"out-{step}")
        weights = load_file(tmp_path / f"out-{step}" / "model.safetensors")["w"]
        assert int((tmp_path / f"out-{step}" / "config.json").read_text()) == int(weights[0])
    assert kept
    assert refused
