"""Removing can be taken back: a trash that gc respects for some days, and a full store takes from first."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, IntegrityError, ModelExistsError, ModelMissingError, open_store
from pbstore.disk.add import identity
from pbstore.disk.files import fsio
from pbstore.disk.upkeep import trash
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


@pytest.fixture
def family(tmp_path: Path) -> Iterator[DiskBlockStore]:
    base = base_tensors(rows=80)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", base), "org/base", form="hot")
        store.add(write_model(tmp_path / "child", tuned(base, tuple(base))), "org/child", base="org/base")
        yield store


def assert_gives(store: DiskBlockStore, name: str, folder: Path) -> None:
    target = folder.parent / f"out-{time.monotonic_ns()}"
    store.checkout(name, target)
    assert folder_content(target) == folder_content(folder)
    assert store.verify().ok
    assert reference_problems(store.disk) == []


def days_later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = time.time()
    monkeypatch.setattr(trash.time, "time", lambda: now + days * trash.DAY_S)


@pytest.mark.parametrize("name", ["org/base", "org/child"])
def test_a_removed_model_is_restored_as_it_was(family: DiskBlockStore, tmp_path: Path, name: str) -> None:
    row, savings, weights = family.disk.model_row(name), family.savings(), family.manifest(name).weights
    family.disk.touch(name)
    family.disk.settled_rows()
    family.remove(name)

    assert name not in family.models()
    assert not identity.has_weights(family.disk, weights)
    assert identity.find_weights(family.disk, weights) == ()
    with pytest.raises(ModelMissingError):
        family.manifest(name)
    assert [item.name for item in family.trash.models()] == [name]
    assert family.verify().ok
    assert reference_problems(family.disk) == []
    gone = family.savings()
    assert gone.models == savings.models - 1
    assert gone.trash_bytes + gone.stored_bytes == savings.stored_bytes
    family.gc()
    family.trash.restore(name)
    assert family.trash.models() == []
    again = family.disk.model_row(name)
    assert (again.form, again.added_at, again.uses) == (row.form, row.added_at, 1)
    now = family.savings()
    assert (now.raw_bytes, now.file_dedup_bytes, now.block_dedup_bytes, now.trash_bytes) == (
        savings.raw_bytes,
        savings.file_dedup_bytes,
        savings.block_dedup_bytes,
        0,
    )
    assert_gives(family, name, tmp_path / name.removeprefix("org/"))


def test_a_name_in_the_trash_is_free(family: DiskBlockStore, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", base_tensors(seed=5, rows=50))
    family.remove("org/base")
    family.add(other, "org/base")

    with pytest.raises(ModelExistsError):
        family.trash.restore("org/base")
    family.trash.restore("org/base", "org/first")
    assert_gives(family, "org/base", other)
    assert_gives(family, "org/first", tmp_path / "base")


def test_the_newest_of_a_name_is_restored_first(family: DiskBlockStore, tmp_path: Path) -> None:
    folders = [tmp_path / "base"]
    for seed in (5, 6):
        family.remove("org/base")
        folders.append(write_model(tmp_path / f"m{seed}", base_tensors(seed=seed, rows=50)))
        family.add(folders[-1], "org/base")
    family.remove("org/base")

    assert [item.name for item in family.trash.models()] == ["org/base"] * 3
    for number, folder in enumerate(reversed(folders)):
        family.trash.restore("org/base", f"org/back{number}")
        assert_gives(family, f"org/back{number}", folder)
    with pytest.raises(ModelMissingError, match="in the trash"):
        family.trash.restore("org/base")


def test_gc_respects_the_retention(
    family: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.remove("org/base")
    days_later(monkeypatch, 6.9)
    assert family.gc().trashed_models == ()
    family.trash.keep(8)
    days_later(monkeypatch, 0.5)
    assert family.gc(dry_run=True).trashed_models == ()
    family.trash.keep(7)
    assert family.gc(dry_run=True).trashed_models == family.gc().trashed_models == ("org/base",)
    assert family.trash.models() == []
    assert_gives(family, "org/child", tmp_path / "child")


def test_a_clock_that_went_back_keeps_the_trash(
    family: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.remove("org/base")
    days_later(monkeypatch, -20_000)

    assert family.gc().trashed_models == ()
    family.trash.restore("org/base")


def test_the_retention_is_kept_with_the_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", trash_days=2):
        pass
    with open_store(tmp_path / "store") as store:
        assert store.disk.settings.trash_days == 2
        with pytest.raises(ValueError, match="trash_days"):
            store.trash.keep(-1)


def test_forgetting_frees_at_once(family: DiskBlockStore, tmp_path: Path) -> None:
    family.remove("org/base")
    family.remove("org/child")
    with pytest.raises(ModelMissingError, match="org/other"):
        family.trash.forget(["org/base", "org/other"])
    assert len(family.trash.models()) == 2
    report = family.trash.forget(["org/child"])
    assert (report.trashed_models, [item.name for item in family.trash.models()]) == (
        ("org/child",),
        ["org/base"],
    )
    assert family.trash.forget().trashed_models == ("org/base",)
    assert family.used_bytes == 0


def test_a_full_store_takes_from_the_trash_first(tmp_path: Path) -> None:
    first, second = (write_model(tmp_path / f"m{n}", base_tensors(n, rows=300)) for n in range(2))
    with open_store(tmp_path / "store", capacity_bytes=150_000, durable=False) as store:
        store.add(first, "org/first")
        store.remove("org/first")
        store.disk.on_full = lambda missing: pytest.fail("the trash has enough")
        store.add(second, "org/second")

        assert store.trash.models() == []
        assert_gives(store, "org/second", second)


def test_a_full_store_keeps_blocks_that_no_model_names_yet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = write_model(tmp_path / "m", {"w": rng.normal(size=(50, 50)).astype(np.float32)})
    with open_store(tmp_path / "store", capacity_bytes=60_000, durable=False) as store:
        store.add(folder, "org/m", form="hot")
        store.remove("org/m")
        received = [rng.bytes(10_000) for _ in range(6)]
        ids = [store.put(raw) for raw in received]

        assert store.trash.models() == []
        assert [bytes(store.get(block_id)) for block_id in ids] == received


def test_an_eviction_takes_from_the_trash_first(family: DiskBlockStore) -> None:
    family.remove("org/child")
    report = family.evict(1)

    assert (report.models, report.trashed_models) == ((), ("org/child",))


def test_the_trash_outlives_the_index(family: DiskBlockStore, tmp_path: Path) -> None:
    family.remove("org/child")
    removed_at = family.trash.models()[0].removed_at
    family.disk.rebuild_index()

    assert [(item.name, item.removed_at) for item in family.trash.models()] == [("org/child", removed_at)]
    assert reference_problems(family.disk) == []
    family.gc()
    family.trash.restore("org/child")
    assert_gives(family, "org/child", tmp_path / "child")


def test_verify_covers_the_trash(family: DiskBlockStore) -> None:
    family.remove("org/child")
    (path,) = family.disk.layout.trashed_manifests()
    good = path.read_bytes()
    path.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    report = family.verify()

    assert not report.ok
    assert "org/child" in report.problems[0]


def test_a_model_that_cannot_be_restored_is_no_trash(family: DiskBlockStore) -> None:
    family.disk.layout.manifest("org/child").unlink()
    family.remove("org/child")

    assert (family.models(), family.trash.models()) == (("org/base",), [])


class DiedError(BaseException):
    """A stand-in for a kill."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("lose_index", [False, True])
def test_death_at_every_step_of_removing_and_restoring(tmp_path: Path, lose_index: bool, stride: int) -> None:
    folder = write_model(tmp_path / "m", base_tensors(rows=20))
    for stop_at in range(1, 200, stride):
        path, steps = tmp_path / f"store{stop_at}", 0
        with open_store(path) as store:
            store.add(folder, "org/m")

        def count(name: str, stop_at: int = stop_at) -> None:
            nonlocal steps
            steps += 1
            if steps == stop_at:
                os._exit(9)

        child = os.fork()
        if not child:
            fsio.on_step(count)
            with open_store(path) as store:
                store.remove("org/m")
                store.trash.restore("org/m")
                store.remove("org/m")
                store.trash.restore("org/m", "org/again")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if lose_index:
            for file in path.glob("index.sqlite*"):
                file.unlink()
        with open_store(path) as store:
            names = [*store.models(), *(item.name for item in store.trash.models())]
            assert len(names) == 1 or (lose_index and set(names) <= {"org/m", "org/again"})
            if not store.models():
                store.trash.restore(names[0])
            store.gc()
            assert_gives(store, store.models()[0], folder)
            assert not [*path.rglob(".new-*")]
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert stop_at > 10


def test_random_removals_and_restorations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = base_tensors(rows=60)
    folders = {"org/base": write_model(tmp_path / "base", base)}
    for child in range(3):
        tensors = tuned(base, ("layer.weight", "embed.weight"), seed=child + 1)
        folders[f"org/child{child}"] = write_model(tmp_path / f"child{child}", tensors)
    with open_store(tmp_path / "store", durable=False) as store:
        for name, folder in folders.items():
            store.add(folder, name)
        for _ in range(30):
            name = str(rng.choice(list(folders)))
            trashed = {item.name for item in store.trash.models()}
            if name in store.models():
                store.remove(name)
            elif name in trashed:
                store.trash.restore(name)
            if rng.random() < 0.3:
                store.gc()
            if rng.random() < 0.1:
                store.disk.rebuild_index()
            assert {*store.models(), *(item.name for item in store.trash.models())} == set(folders)
        for name in {item.name for item in store.trash.models()}:
            store.trash.restore(name)
        for name, folder in folders.items():
            assert_gives(store, name, folder)


def test_damaged_trash_can_be_let_go_of(family: DiskBlockStore, tmp_path: Path) -> None:
    family.remove("org/child")
    (path,) = family.disk.layout.trashed_manifests()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(IntegrityError):
        family.trash.restore("org/child")
    assert family.trash.forget(["org/child"]).trashed_models == ("org/child",)
    assert family.trash.models() == []
    assert_gives(family, "org/base", tmp_path / "base")


@pytest.mark.parametrize("wanted", [-1, -(1 << 40)])
def test_less_than_nothing_cannot_be_wanted(family: DiskBlockStore, wanted: int) -> None:
    for call in (family.evict, family.plan.evict, family.forms.balance, family.plan.balance):
        with pytest.raises(ValueError, match="must be >= 0"):
            call(wanted)
