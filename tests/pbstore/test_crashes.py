"""A writer may die at any moment: what was acknowledged is there, and the store verifies."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import Parent, Proposal
from pbstore.disk.add import relatives
from pbstore.disk.blocks import writer
from pbstore.disk.files import fsio
from pbstore.disk.files.layout import Layout
from pbstore.disk.index import intents
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.thoroughness import one_step_in

fork = multiprocessing.get_context("fork")
DIED = 9


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    base = base_tensors(rows=60)
    return {
        "org/base": write_model(tmp_path / "base", base, tokenizer__json=b"{}"),
        "org/child": write_model(tmp_path / "child", tuned(base, ("layer.weight",)), tokenizer__json=b"{}"),
        "org/other": write_model(tmp_path / "other", base_tensors(seed=5, rows=40)),
    }


def life(store: DiskBlockStore, folders: dict[str, Path], done: Callable[[str], None]) -> None:
    """A bit of everything that writes; `done` is told what was acknowledged."""
    store.add(folders["org/base"], "org/base")
    done("+org/base")
    store.add(folders["org/child"], "org/child", base="org/base")
    done("+org/child")
    done("?org/base")
    store.remove("org/base", trash=False)
    done("-org/base")
    store.gc()
    store.add(folders["org/other"], "org/other")
    done("+org/other")
    done("?org/child")
    store.remove("org/child", trash=False)
    done("-org/child")
    store.gc()


def run_until(
    path: Path,
    folders: dict[str, Path],
    journal: Path,
    stop_at: int,
    tear: bool,
    live: Callable[[DiskBlockStore, dict[str, Path], Callable[[str], None]], None] = life,
) -> None:
    steps = 0

    def count(name: str) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            if tear:
                tear_tail(path)
            os._exit(DIED)

    fsio.on_step(count)
    with journal.open("a", buffering=1) as log, open_store(path) as store:
        live(store, folders, lambda event: print(event, file=log))
    os._exit(0)


def tear_tail(path: Path) -> None:
    """What a power cut may leave of bytes and names that were written but not forced to the disk."""
    import sqlite3

    if not (path / "index.sqlite").exists():
        return
    connection = sqlite3.connect(path / "index.sqlite")
    ends = dict(connection.execute("SELECT number, end FROM packs").fetchall())
    intent = intents.get_intent(connection)
    filed = {file for (file,) in connection.execute("SELECT file FROM models").fetchall()}
    filed |= set(intent.place if intent else ())  # tags have no row
    connection.close()
    for placed in (path / "manifests" / name for name in (intent.place if intent else ())):
        if placed.exists() and not Layout.waiting(placed).exists():
            placed.replace(Layout.waiting(placed))
    for placed, waiting in Layout(path).waiting_manifests().items():
        if placed.name not in filed:
            waiting.write_bytes(waiting.read_bytes()[:50])
    for pack in (path / "packs").glob("*.pack"):
        end = ends.get(int(pack.stem), 0)
        with pack.open("r+b") as file:
            file.seek(0, 2)
            size = file.tell()
            if size > end:
                file.seek(end)
                file.write(random.Random(0).randbytes(size - end))


def expected_models(journal: Path) -> tuple[set[str], set[str]]:
    """Models that must be there, and models whose removal was asked for but not acknowledged."""
    sure: set[str] = set()
    unsure: set[str] = set()
    for line in journal.read_text().split() if journal.exists() else []:
        name = line[1:]
        if line[0] == "+":
            sure.add(name)
        else:
            sure.discard(name)
            (unsure.add if line[0] == "?" else unsure.discard)(name)
    return sure, unsure


def assert_whole(path: Path, folders: dict[str, Path], sure: set[str], tmp_path: Path) -> None:
    with open_store(path) as store:
        with store.disk.writing():
            pass
        report = store.verify()
        assert report.ok, report.problems
        assert reference_problems(store.disk) == []
        assert sure <= set(store.models())
        for name in store.models():
            target = tmp_path / f"out-{time.monotonic_ns()}"
            store.checkout(name, target)
            assert folder_content(target) == folder_content(folders[name])
        store.gc()
        assert store.verify().ok
        assert not [*path.rglob(".tmp-*"), *path.rglob(".new-*")]
        (path / "index.sqlite").unlink()
    with open_store(path) as store:
        assert store.verify().ok
        assert sure <= set(store.models())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("stride", [7, pytest.param(one_step_in(3), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("tear", "lose_index"),
    [(False, False), (True, False), (True, True)],
    ids=["killed", "power cut", "power cut and lost index"],
)
def test_death_at_every_durable_step(
    folders: dict[str, Path], tmp_path: Path, tear: bool, lose_index: bool, stride: int
) -> None:
    for step in range(1 + 3 * tear, 1000, stride):
        path, journal = tmp_path / f"store{step}", tmp_path / f"journal{step}"
        child = fork.Process(target=run_until, args=(path, folders, journal, step, tear))
        child.start()
        child.join(60)
        sure, unsure = expected_models(journal)
        if child.exitcode == 0:
            break
        assert child.exitcode == DIED
        if lose_index:
            for file in path.glob("index.sqlite*"):
                file.unlink()
        if path.exists():
            assert_whole(path, folders, sure - unsure, tmp_path)
    assert step > 30


def test_a_model_is_read_before_its_manifest_is_in_place(folders: dict[str, Path], tmp_path: Path) -> None:
    path, seen = tmp_path / "store", []

    def look(step: str) -> None:
        if step == "rename" and (path / "index.sqlite").exists():
            with open_store(path) as reader:
                reader.checkout("org/base", tmp_path / "out")
            seen.append(folder_content(tmp_path / "out"))

    take_away = fsio.on_step(look)
    try:
        with open_store(path) as store:
            store.add(folders["org/base"], "org/base")
    finally:
        take_away()
    assert seen == [folder_content(folders["org/base"])]


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_an_error_of_the_disk_leaves_nothing_of_an_add(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folders["org/base"], "org/base")

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(writer, "EARLY_BYTES", 1000)
        monkeypatch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output"):
            store.add(folders["org/other"], "org/other")
        monkeypatch.undo()
        assert store.models() == ("org/base",)
        assert not list(path.rglob(".new-*"))
    assert_whole(path, folders, {"org/base"}, tmp_path)


def test_steps_of_one_transaction_are_carried_out_together(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folders["org/base"], "org/base")
        store.add(folders["org/other"], "org/other")
        with store.disk.writing():
            store.add(folders["org/child"], "org/child")
            store.gc()
            store.remove("org/base", trash=False)
            store.remove("org/other", trash=False)
            store.add(folders["org/base"], "org/base")
            store.add(folders["org/other"], "org/new")
            store.remove("org/new", trash=False)
        assert store.models() == ("org/base", "org/child")
        assert {file.name for file in (path / "manifests").iterdir()} == {
            store.disk.layout.manifest(name).name for name in store.models()
        }
    assert_whole(path, folders, {"org/base", "org/child"}, tmp_path)


def test_an_add_that_evicts_keeps_its_own_blocks(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(tmp_path / "trial") as trial:
        trial.add(folders["org/base"], "org/base")
        room = trial.used_bytes
    with open_store(path, capacity_bytes=room + 2000) as store:
        store.add(folders["org/base"], "org/base")
        store.disk.on_full = lambda missing: store.evict(missing) and None
        with store.disk.writing() as tx:
            store.add(folders["org/other"], "org/other")
            assert not tx.spared
        assert store.models() == ("org/other",)
        assert store.verify().ok
    assert_whole(path, folders, {"org/other"}, tmp_path)


LAST_SHAPE = (64, 64)
"""Of the last tensor with rows of `org/other`."""


def test_room_is_made_though_a_parent_is_just_being_read(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is faster: what is read while room is wanted may be let go of a moment later."""
    reading, full = threading.Event(), threading.Event()
    looked_at: list[int] = []

    def search(case: Case, parents: Sequence[Parent], *_: object) -> list[Proposal]:
        if parents and case.spec.shape == LAST_SHAPE:
            reading.set()
            full.wait(30)
        return []

    def evict(missing: int) -> None:
        try:
            if not full.is_set():
                reading.wait(30)
                looked_at.append(len(tx.looked_at))
            store.evict(missing)
        finally:
            full.set()

    monkeypatch.setattr(relatives, "search", search)
    with open_store(tmp_path / "trial") as trial:
        trial.add(folders["org/base"], "org/base")
        room = trial.used_bytes
    with open_store(tmp_path / "store", capacity_bytes=room + 2000) as store:
        store.add(folders["org/base"], "org/base")
        with store.disk.writing() as tx:
            store.disk.on_full = evict
            store.add(folders["org/other"], "org/other")
        assert looked_at[0] > 0
        assert store.models() == ("org/other",)
        assert store.verify().ok


def test_records_behind_a_damaged_start_of_a_pack_are_found_again(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folders["org/base"], "org/base")
    with (path / "packs" / "00000001.pack").open("r+b") as file:
        file.write(bytes(64))
    (path / "index.sqlite").unlink()
    with open_store(path) as store:
        store.add(folders["org/other"], "org/other")
    (path / "index.sqlite").unlink()
    assert_whole(path, folders, {"org/base", "org/other"}, tmp_path)


def test_a_store_that_lost_its_newest_pack_takes_models_and_is_mended(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "store"
    with open_store(path) as store, open_store(tmp_path / "mirror") as other:
        for one in (store, other):
            one.add(folders["org/base"], "org/base")
        (path / "packs" / "00000001.pack").unlink()
        store.close()
        with open_store(path) as again:
            again.add(folders["org/other"], "org/other", form="hot")
            assert not again.verify().ok
            assert again.repair(other).left == ()
    assert_whole(path, folders, {"org/base", "org/other"}, tmp_path)


def add_for_ever(path: Path, folders: dict[str, Path], journal: Path) -> None:
    with journal.open("a", buffering=1) as log, open_store(path) as store:
        for name in folders:
            if name not in store.models():
                store.add(folders[name], name)
                print(f"+{name}", file=log)
        for _ in range(10_000):
            store.put(os.urandom(3000))


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_random_kills(folders: dict[str, Path], tmp_path: Path, rounds: int) -> None:
    rng = np.random.default_rng(0)
    path, journal = tmp_path / "store", tmp_path / "journal"
    for _ in range(rounds):
        child = fork.Process(target=add_for_ever, args=(path, folders, journal))
        child.start()
        time.sleep(float(rng.uniform(0.01, 0.2)))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        if not path.exists():
            continue
        with open_store(path, lock_wait_s=1) as store:
            assert store.verify().ok
            store.put(b"the lock is free")
            assert expected_models(journal)[0] <= set(store.models())
    assert_whole(path, folders, expected_models(journal)[0], tmp_path)


def fill(path: Path, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    with open_store(path) as store:
        for number in range(count):
            store.put(rng.bytes(2000))
            store.put(b"shared %d" % number)


def test_two_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filling = [fork.Process(target=fill, args=(path, seed, 25)) for seed in range(3)]
    for process in filling:
        process.start()
    for process in filling:
        process.join(60)
    with open_store(path) as store:
        assert [process.exitcode for process in filling] == [0, 0, 0]
        assert len(list(store.block_ids())) == 3 * 25 + 25
        assert store.verify().ok


def test_readers_see_whole_models_while_one_writes(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folders["org/base"], "org/base")
        filling = fork.Process(target=fill, args=(path, 1, 60))
        filling.start()
        while filling.is_alive():
            assert store.models() == ("org/base",)
            assert len([store.get(i) for i in store.blocks("org/base")]) > 0
        filling.join()
        assert filling.exitcode == 0


def test_no_room_on_the_disk(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.add(folders["org/base"], "org/base")
        real = os.pwritev

        def full(fd: int, parts: list[memoryview], offset: int) -> int:
            if offset > 20_000:
                raise OSError(28, "No space left on device")
            return real(fd, parts, offset)

        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(OSError, match="No space"):
            store.add(folders["org/other"], "org/other")
        monkeypatch.undo()
        assert store.models() == ("org/base",)
    assert_whole(path, folders, {"org/base"}, tmp_path)
