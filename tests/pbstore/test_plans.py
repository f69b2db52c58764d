"""A dry run is the run: what a plan says is what then happens, measured on the disk."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.upkeep.collect import GcReport
from pbstore.disk.upkeep.plans import Plan
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.errors import EvictGoalError, PBStoreError, PlanOutdatedError
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

VERBS: dict[str, Callable[[DiskBlockStore], Plan]] = {
    "gc": lambda store: store.plan.gc(),
    "forget": lambda store: store.plan.forget(),
    "evict": lambda store: store.plan.evict(store.used_bytes // 2),
    "evict largest": lambda store: store.plan.evict(1, "largest"),
    "heat": lambda store: store.plan.heat(store.models()[-1]),
    "cool": lambda store: store.plan.cool(store.models()[0]),
    "balance": lambda store: store.plan.balance(200_000),
}


def random_store(folder: Path, seed: int) -> DiskBlockStore:
    """A few families with removed models, loose blocks and dead bytes."""
    rng = np.random.default_rng(seed)
    store = open_store(folder / "store", pack_bytes=int(rng.integers(50_000, 400_000)), durable=False)
    for family in range(2):
        rows = int(rng.integers(60, 700))
        base = base_tensors(10 * seed + family, rows=rows)
        members = {f"org/base{family}": base}
        for child in range(int(rng.integers(1, 4))):
            names = ("embed.weight", "layer.weight", "layer.bias")[: int(rng.integers(1, 4))]
            members[f"org/child{family}{child}"] = tuned(base, names, seed=child + 1)
        for name, tensors in members.items():
            path = write_model(folder / name, tensors, vocab__txt=rng.bytes(50))
            store.add(path, name, form="hot" if rng.random() < 0.4 else "cold")
    for name in store.models():
        for _ in range(int(rng.integers(0, 4))):
            store.disk.touch(name)
    for name in rng.permutation(store.models())[:2]:
        store.remove(str(name), trash=bool(rng.random() < 0.5))
    store.put(rng.bytes(30_000))
    return store


def files_of(store: DiskBlockStore) -> dict[str, bytes]:
    store.disk.disk_use()
    return {name: data for name, data in folder_content(store.path).items() if "sqlite-" not in name}


def assert_same(planned: Any, done: Any) -> None:  # noqa: ANN401
    """Equal, but for a block of the disk for each file that changes: where it keeps its list of extents."""
    spare = 4096 * (2 + getattr(done, "packs", 3))
    for part in ("total_bytes", "packs_bytes", "index_bytes"):
        assert abs(getattr(planned.after, part) - getattr(done.after, part)) <= spare
    measured = {"before": done.before, "after": done.after, "dry_run": False}
    if isinstance(done, GcReport):
        assert done.freed_bytes == done.before.total_bytes - done.after.total_bytes
        measured["freed_bytes"] = done.freed_bytes
    assert planned.before == done.before
    assert replace(planned, **measured) == done


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_changes_nothing_and_then_comes_true(tmp_path: Path, verb: str, seed: int) -> None:
    with random_store(tmp_path, seed) as store:
        before = files_of(store)
        plan = VERBS[verb](store)

        assert files_of(store) == before
        start = store.disk.disk_use()
        done = plan.apply()
        assert_same(plan.report, done)
        assert (done.before, done.after) == (start, store.disk.disk_use())
        assert done.after.total_bytes == store.disk.disk_bytes() == store.savings().disk_bytes
        assert store.verify().ok
        assert reference_problems(store.disk) == []
        for name in store.models():
            store.checkout(name, tmp_path / "out" / name)
            assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[DiskBlockStore]:
    base = base_tensors()
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", base), "org/base")
        store.add(write_model(tmp_path / "child", tuned(base, tuple(base))), "org/child")
        store.add(write_model(tmp_path / "other", base_tensors(seed=8, width=32)), "org/other")
        yield store


def test_a_gc_that_lets_go_of_a_base_says_so_before(family: DiskBlockStore) -> None:
    family.remove("org/base", trash=False)
    plan = family.plan.gc().report

    assert plan.retired_bases > 0
    assert plan.freed_bytes == plan.before.total_bytes - plan.after.total_bytes > 0
    assert_same(plan, family.gc())


def test_heat_takes_room_and_cool_gives_it_back(family: DiskBlockStore) -> None:
    heated, cooled = family.forms.heat("org/child"), family.forms.cool("org/child")

    assert heated.after.total_bytes > heated.before.total_bytes
    assert cooled.after.total_bytes < cooled.before.total_bytes
    assert cooled.after.total_bytes == family.disk.disk_bytes()


def test_an_outdated_plan_does_nothing(family: DiskBlockStore) -> None:
    plan = family.plan.evict(1)
    family.pin("org/base")
    before = files_of(family)

    with pytest.raises(PlanOutdatedError):
        plan.apply()
    assert files_of(family) == before


def test_what_was_planned_goes_whatever_is_used_since(family: DiskBlockStore) -> None:
    plan = family.plan.evict(1)
    for name in plan.report.models:
        family.disk.touch(name)

    assert plan.apply().models == plan.report.models


def test_a_goal_out_of_reach_changes_nothing(family: DiskBlockStore) -> None:
    family.pin("org/base")
    family.remove("org/other")
    before, used = files_of(family), family.used_bytes

    for attempt in (family.evict, family.plan.evict):
        with pytest.raises(EvictGoalError, match="nothing was removed"):
            attempt(1 << 40)
        assert {p: d for p, d in files_of(family).items() if p.endswith(".pack")} == {
            p: d for p, d in before.items() if p.endswith(".pack")
        }
    assert family.used_bytes == used
    assert family.models() == ("org/base", "org/child")
    assert [item.name for item in family.trash.models()] == ["org/other"]


def damage(store: DiskBlockStore, rng: np.random.Generator) -> None:
    """One block's payload, in the largest pack."""
    location = max(store.disk.locations(), key=lambda one: one.record.stored_bytes)
    with store.disk.readable_pack(location.pack).open("r+b") as file:
        file.seek(location.record.payload_offset + int(rng.integers(location.record.stored_bytes)))
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0x10]))


def leave_strays(store: DiskBlockStore, rng: np.random.Generator) -> None:
    """What killed writers leave: temporary files, a manifest that waits, records behind the newest pack."""
    (store.path / ".tmp-abc").write_bytes(rng.bytes(9_000))
    (store.path / "manifests" / ".tmp-def").write_bytes(rng.bytes(5_000))
    (store.path / "manifests" / f".new-{'0' * 40}.json").write_bytes(b"{}")
    newest = max((store.path / "packs").iterdir())
    newest.write_bytes(newest.read_bytes() + rng.bytes(20_000))
    newest.with_name(f"{int(newest.stem) + 1:08d}.pack").write_bytes(rng.bytes(30_000))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("harm", [damage, leave_strays], ids=["a damaged block", "strays"])
@pytest.mark.parametrize("verb", ["gc", "forget", "evict largest", "cool"])
def test_a_plan_comes_true_in_a_store_that_was_harmed(
    tmp_path: Path, verb: str, harm: Callable[[DiskBlockStore, np.random.Generator], None]
) -> None:
    with random_store(tmp_path, 2) as store:
        harm(store, np.random.default_rng(1))
        before = files_of(store)
        try:
            plan = VERBS[verb](store)
        except PBStoreError as error:
            expected = error
        else:
            assert files_of(store) == before
            assert_same(plan.report, plan.apply())
            return
        assert files_of(store) == before
        with pytest.raises(type(expected)) as caught:
            {"gc": store.gc, "forget": store.trash.forget}.get(
                verb, lambda: store.forms.cool(store.models()[0])
            )()
        assert str(caught.value) == str(expected)


def test_a_plan_of_an_add_is_applied_to_the_store_that_it_was_made_on(tmp_path: Path) -> None:
    base = base_tensors(1, rows=60)
    folder = write_model(tmp_path / "one", base)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", tuned(base, ("layer.weight",), seed=3)), "org/base")
        before = files_of(store)
        plan, late = store.plan.add(folder), store.plan.add(folder)
        assert files_of(store) == before
        done = plan.apply("org/one")
        assert replace(done, name=plan.report.name, commit="") == plan.report
        assert store.models() == ("org/base", "org/one")
        before = files_of(store)
        with pytest.raises(PlanOutdatedError):
            late.apply("org/two")
        assert files_of(store) == before
        assert store.verify().ok


def test_plans_wait_for_no_writer(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one", base_tensors(1, rows=60))
    with open_store(tmp_path / "store", lock_wait_s=0.05) as store, open_store(tmp_path / "store") as other:
        store.add(folder, "org/one")
        with other.disk.writing():
            other.put(b"not yet committed")
            assert store.plan.add(folder).report.new_blocks == 0
            assert store.plan.gc().report.orphan_blocks == 0
            assert store.plan.evict(1).report.models == ("org/one",)
            began = time.monotonic()
            assert store.savings().models == 1
            assert store.disk.disk_bytes() > 0
            assert time.monotonic() - began < 25  # the index waits 30 s where it waits at all
