"""Room is given back: by gc, by compaction under a capacity, by letting go of bases, by eviction."""

import shutil
from concurrent.futures import wait
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from pbstore import CapacityError, EvictGoalError, open_store
from pbstore.disk.add import adding
from pbstore.disk.blocks import recount
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


def test_gc_plans_first_and_then_frees(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", pack_bytes=50_000) as store:
        for seed in range(4):
            store.add(write_model(tmp_path / f"m{seed}", base_tensors(seed)), f"org/m{seed}", form="hot")
        full = store.disk.disk_bytes()
        for seed in (0, 2, 3):
            store.remove(f"org/m{seed}", trash=False)
        plan = store.gc(dry_run=True)

        assert plan.orphan_blocks > 0
        assert store.disk.disk_bytes() >= 0.9 * full
        done = store.gc()
        assert (done.orphan_blocks, done.freed_bytes) == (plan.orphan_blocks, plan.freed_bytes)
        assert store.disk.disk_bytes() < 0.5 * full
        assert store.gc(dry_run=True).orphan_blocks == 0
        assert store.verify().ok
        store.checkout("org/m1", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "m1")


@pytest.mark.parametrize("children", [1, 4])
def test_a_base_that_no_model_names_is_let_go(tmp_path: Path, children: int) -> None:
    tensors = base_tensors()
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", tensors), "org/base")
        for seed in range(children):
            child = tuned(tensors, ("embed.weight", "layer.weight", "layer.bias"), seed + 1)
            store.add(write_model(tmp_path / f"c{seed}", child), f"org/c{seed}")
        before = store.used_bytes
        store.remove("org/base", trash=False)
        report = store.gc()

        assert report.retired_bases > 0
        assert store.used_bytes < before
        assert store.gc(dry_run=True).orphan_blocks == 0
        assert store.verify().ok
        assert reference_problems(store.disk) == []
        for seed in range(children):
            store.checkout(f"org/c{seed}", tmp_path / f"out{seed}")
            assert folder_content(tmp_path / f"out{seed}") == folder_content(tmp_path / f"c{seed}")


def test_a_base_that_saves_more_than_it_costs_is_kept(tmp_path: Path) -> None:
    base = base_tensors(rows=2000)
    half = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in base.items()}
    row = {"one.weight": base["embed.weight"][:50].copy()}
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "row", row), "org/row")
        store.add(write_model(tmp_path / "base", base), "org/base")
        store.add(write_model(tmp_path / "half", half), "org/half")
        store.remove("org/row", trash=False)
        before = store.used_bytes
        store.gc()

        assert store.used_bytes <= before
        assert store.verify().ok


def test_a_full_store_writes_its_packs_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    capacity = 8_000_000
    with open_store(tmp_path / "node", capacity_bytes=capacity) as store:
        held = []
        for _ in range(60):
            if len(held) == 7:
                store.delete_block(held.pop(0))
            held.append(store.put(rng.bytes(1_000_000)))
            assert store.used_bytes <= capacity
            packs = sum(path.stat().st_size for path in (tmp_path / "node" / "packs").iterdir())
            assert packs <= capacity + max(capacity // 8, 4 << 20) + 1_000_000
        assert store.verify().ok
        assert len(held) == store.verify().blocks


def test_a_reader_survives_the_collection_of_its_pack(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", pack_bytes=100_000) as store, open_store(tmp_path / "store") as other:
        for seed in range(3):
            store.add(write_model(tmp_path / f"m{seed}", base_tensors(seed)), f"org/m{seed}", form="hot")
        views = {i: other.disk.view(i) for i in other.blocks("org/m1")}
        copies = {i: bytes(view) for i, view in views.items() if view is not None}
        store.remove("org/m0", trash=False)
        store.remove("org/m2", trash=False)
        store.gc()

        assert {i: bytes(view) for i, view in views.items() if view is not None} == copies
        assert all(bytes(other.get(i)) == copy for i, copy in copies.items())


def test_on_full_may_make_room(tmp_path: Path) -> None:
    with open_store(tmp_path / "node", capacity_bytes=3000) as store:
        oldest = [store.put(bytes([n]) * 1000) for n in range(3)]

        def evict(missing_bytes: int) -> None:
            while missing_bytes > 0:
                missing_bytes -= store.info(oldest[0]).stored_bytes
                store.delete_block(oldest.pop(0))

        store.disk.on_full = evict
        newest = store.put(b"x" * 1500)

        assert set(store.block_ids()) == {oldest[0], newest}
        with pytest.raises((CapacityError, IndexError)):
            store.put(b"y" * 5000)
        assert store.has(newest)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("in_trash", [False, True])
def test_room_can_be_made_however_far_ahead_an_encoder_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_trash: bool, nested: bool
) -> None:
    """Blocks that were looked at as bases stay while they may be needed; no model is refused for that."""
    folders = [write_model(tmp_path / f"m{seed}", base_tensors(seed, rows=60)) for seed in range(2)]
    take = adding._Queue.take

    def late(self: adding._Queue) -> object:
        wait([job.result for job in self.jobs])
        return take(self)

    monkeypatch.setattr(adding._Queue, "take", late)
    with open_store(tmp_path / "trial") as trial:
        trial.add(folders[0], "org/first")
        room = trial.used_bytes
    with open_store(tmp_path / "store", capacity_bytes=room + 2000) as store:
        store.add(folders[0], "org/first")
        if in_trash:
            store.remove("org/first")
        else:
            store.disk.on_full = lambda missing: store.evict(missing) and None
        with store.disk.writing() if nested else nullcontext():
            report = store.add(folders[1], "org/second")

        assert store.models() == ("org/second",)
        assert report.new_bytes + report.shared_bytes == report.raw_bytes
        assert store.verify().ok
        with pytest.raises(CapacityError):
            store.add(write_model(tmp_path / "large", base_tensors(2, rows=900)), "org/large")
        assert store.verify().ok


@pytest.mark.parametrize("pack_bytes", [20_000, 1 << 30])
def test_an_eviction_that_fails_changes_nothing_in_the_transaction_around_it(
    tmp_path: Path, pack_bytes: int
) -> None:
    """Who catches its error and goes on has lost no model, and what he wrote before stays."""
    path, base = tmp_path / "store", base_tensors(rows=60)
    with open_store(path, pack_bytes=pack_bytes) as store:
        store.add(write_model(tmp_path / "base", base), "org/base")
        for seed in range(1, 4):
            folder = write_model(tmp_path / f"m{seed}", tuned(base, tuple(base), seed))
            store.add(folder, f"org/m{seed}", base="org/base")
        store.remove("org/base")
        store.pin("org/m3")
        before = sorted(store.block_ids()), store.models(), store.used_bytes
        with store.disk.writing():
            block = store.put(b"before" * 1000)
            with pytest.raises(EvictGoalError):  # it lets all go, and stores anew what needed the base
                store.evict(1 << 30)
            store.add(write_model(tmp_path / "other", base_tensors(seed=9, rows=60)), "org/other")
            with pytest.raises(EvictGoalError):
                store.evict(1 << 30)
        names = (*before[1], "org/other")
        assert store.models() == names
        assert {*before[0], block} <= set(store.block_ids())
        assert [one.name for one in store.trash.models()] == ["org/base"]
        for copy in (path, tmp_path / "again"):  # also by an index that is built from packs and manifests
            with open_store(copy) as again:
                assert again.models() == names
                again.trash.restore("org/base")
                assert again.verify().ok
                assert again.remove("org/base") is None
            if copy == path:
                shutil.copytree(path, tmp_path / "again")
                (tmp_path / "again" / "index.sqlite").unlink()


@pytest.mark.slow
def test_manifests_are_read_once_in_a_gc_and_not_again_to_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a counter's word: the process has compared all of it, and nobody else wrote since."""
    reads: list[str] = []
    count = recount.count
    monkeypatch.setattr(recount, "count", lambda blocks: reads.append("all") or count(blocks))
    with open_store(tmp_path / "store") as store:
        for seed in range(16):
            store.add(write_model(tmp_path / "model", base_tensors(seed=seed)), f"me/m{seed}")
        for seed in range(4):
            store.remove(f"me/m{seed}")
        assert store.trash.forget().packs == 1
        assert reads == ["all"]
        store.remove("me/m4")
        report = store.trash.forget()
        assert (report.orphan_blocks > 0, report.packs) == (True, 0)  # too little to write a pack anew
        assert reads == ["all"]
        with open_store(tmp_path / "store") as other:
            other.remove("me/m5")
        assert store.trash.forget().orphan_blocks
        assert reads == ["all"] * 2
        store.gc()
        assert reads == ["all"] * 3
        assert store.verify().ok


def test_room_between_small_blocks_is_no_waste(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scalars = {f"scale{i}": rng.normal(size=4).astype(np.float32) for i in range(2000)}
    folder = write_model(tmp_path / "scales", scalars)
    with open_store(tmp_path / "store") as store:
        store.add(folder, "org/scales")
        store.add(write_model(tmp_path / "other", base_tensors()), "org/other")
        assert store.gc(dry_run=True).packs == 0

        store.remove("org/scales", trash=False)
        assert store.gc().packs == 1
        assert store.gc(dry_run=True).packs == 0
        store.checkout("org/other", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "other")


def test_one_collection_frees_what_the_next_would(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with open_store(tmp_path / "store") as store:
        store.add(write_model(tmp_path / "other", base_tensors(rows=12_000)), "org/other", form="hot")
        with store.disk.writing():
            for _ in range(3000):
                store.put(rng.bytes(16))
        assert store.gc().packs == 1
        assert store.gc(dry_run=True).packs == 0
