"""Plan, explain, where the bytes went, repair, eviction, the Hugging Face cache."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, IntegrityError, open_store
from pbstore.disk.add import identity
from pbstore.disk.upkeep.heat import plan_balance
from pbstore.disk.upkeep.savings_by_cause import Causes, by_family, by_model
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.errors import EvictGoalError, UnsafeDeletionError
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


@pytest.fixture
def family(tmp_path: Path) -> Iterator[DiskBlockStore]:
    tensors = base_tensors()
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", tensors, vocab__txt=b"a b c"), "org/base")
        child = tuned(tensors, ("layer.weight", "layer.bias"))
        store.add(write_model(tmp_path / "child", child, vocab__txt=b"a b c"), "org/child", base="org/base")
        store.add(write_model(tmp_path / "other", base_tensors(seed=8, width=32)), "org/other")
        yield store


def test_a_plan_costs_what_the_add_then_costs(family: DiskBlockStore, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "next", tuned(base_tensors(), ("embed.weight",), seed=4))
    used = family.used_bytes
    plan = family.plan.add(folder).report

    assert family.used_bytes == used
    assert "plan" not in family.models()
    report = family.add(folder, "org/next")
    assert (plan.new_bytes, plan.stored_bytes, plan.codecs) == (
        report.new_bytes,
        report.stored_bytes,
        report.codecs,
    )
    assert family.used_bytes == used + report.stored_bytes


def test_explain_names_the_base_of_each_tensor(family: DiskBlockStore) -> None:
    story = family.explain("org/child")
    tensors = {tensor.name: tensor for tensor in story.tensors}

    assert tensors["model.layer.weight"].bases == ("org/base:layer.weight",)
    assert tensors["model.embed.weight"].models == 2
    assert list(story.lineage) == ["org/base"]
    assert (story.base, story.base_present) == ("org/base", True)
    family.remove("org/base", trash=False)
    assert not family.explain("org/child").base_present


def test_a_base_is_found_by_content_under_another_name(family: DiskBlockStore, tmp_path: Path) -> None:
    link = family.manifest("org/child").base
    family.add(tmp_path / "base", "mirror/renamed")
    family.remove("org/base", trash=False)

    assert link is not None
    assert identity.find_weights(family.disk, link.weights) == ("mirror/renamed",)


def test_causes_add_up(family: DiskBlockStore) -> None:
    models = by_model(family.disk)
    total = sum((item.causes for item in models), Causes())

    assert total.raw_bytes == family.savings().raw_bytes
    saved = total.same_file + total.same_tensor + total.same_rows + total.delta + total.recipe
    assert saved + total.compression + total.stored_bytes == total.raw_bytes
    assert total.stored_bytes == family.savings().stored_bytes
    assert total.delta > 0
    assert total.same_tensor > 0
    assert total.same_file > 0
    assert {item.name: item.family for item in models} == {
        "org/base": "org/base",
        "org/child": "org/base",
        "org/other": "org/other",
    }
    assert set(by_family(models)) == {"org/base", "org/other"}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_repair_takes_good_copies_from_another_store(family: DiskBlockStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "mirror") as mirror:
        for name in ("base", "child", "other"):
            mirror.add(tmp_path / name, f"org/{name}", form="hot")
        (pack,) = (family.path / "packs").glob("*.pack")
        places = [item.record for item in family.disk.locations()]
        flip(pack, places[1].payload_offset)
        flip(pack, places[-1].offset + 3)
        flip(family.disk.layout.manifest("org/other"), 20)
        assert not family.verify().ok
        report = family.repair(mirror)

    assert report.left == ()
    assert report.mended_blocks >= 2
    assert report.mended_manifests == 1
    assert family.verify().ok
    assert reference_problems(family.disk) == []
    for name in ("base", "child", "other"):
        family.checkout(f"org/{name}", tmp_path / "out" / name)
        assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)


def test_repair_beside_a_damaged_index(family: DiskBlockStore, tmp_path: Path) -> None:
    (pack,) = (family.path / "packs").glob("*.pack")
    location = max(family.disk.locations(), key=lambda item: item.record.raw_bytes)
    family.close()
    flip(pack, location.record.payload_offset)
    for path in family.disk.layout.index.parent.glob(f"{family.disk.layout.index.name}-*"):
        path.unlink()
    family.disk.layout.index.write_bytes(b"no index" * 1000)

    with open_store(tmp_path / "mirror") as mirror, open_store(family.path) as again:
        for name in ("base", "child", "other"):
            mirror.add(tmp_path / name, f"org/{name}", form="hot")
        report = again.repair(mirror)
        assert (report.mended_blocks, report.left) == (1, ())
        assert reference_problems(again.disk) == []
        for name in ("base", "child", "other"):
            again.checkout(f"org/{name}", tmp_path / "out" / name)
            assert folder_content(tmp_path / "out" / name) == folder_content(tmp_path / name)


def test_repair_takes_blocks_from_a_store_that_lost_a_manifest(
    family: DiskBlockStore, tmp_path: Path
) -> None:
    (pack,) = (family.path / "packs").glob("*.pack")
    flip(pack, next(family.disk.locations()).record.payload_offset)
    with open_store(tmp_path / "mirror") as mirror:
        for name in ("base", "child", "other"):
            mirror.add(tmp_path / name, f"org/{name}")
        mirror.disk.layout.manifest("org/other").unlink()
        report = family.repair(mirror)

    assert (report.mended_blocks, report.mended_manifests, report.left) == (1, 0, ())


def test_a_store_for_reading_only_is_not_repaired(family: DiskBlockStore) -> None:
    before = folder_content(family.path / "packs")
    with open_store(family.path, read_only=True) as readers, pytest.raises(PermissionError, match="reading"):
        readers.repair()
    assert folder_content(family.path / "packs") == before


def test_repair_alone_says_what_is_left(family: DiskBlockStore) -> None:
    (pack,) = (family.path / "packs").glob("*.pack")
    flip(pack, next(family.disk.locations()).record.payload_offset)

    assert len(family.repair().left) > 0


def test_a_model_with_a_damaged_manifest_can_be_removed(family: DiskBlockStore) -> None:
    flip(family.disk.layout.manifest("org/child"), 20)
    family.remove("org/child", trash=False)
    family.gc()

    assert family.verify().ok
    assert reference_problems(family.disk) == []
    assert family.models() == ("org/base", "org/other")
    total = sum((item.causes for item in by_model(family.disk)), Causes())
    assert family.savings().file_dedup_bytes == total.raw_bytes - total.same_file


def test_a_lost_pack_is_named(family: DiskBlockStore) -> None:
    next((family.path / "packs").glob("*.pack")).unlink()
    with open_store(family.path) as again:
        report = again.verify()

    assert len(report.problems) == report.blocks
    assert "is missing" in report.problems[0]


def test_a_lost_manifest_is_named_and_mended(family: DiskBlockStore, tmp_path: Path) -> None:
    with open_store(tmp_path / "mirror", durable=False) as other:
        other.add(tmp_path / "base", "org/base")
        other.add(tmp_path / "child", "org/child", base="org/base")
        other.add(tmp_path / "other", "org/other")
        path = family.disk.layout.manifest("org/child")
        path.unlink()

        with pytest.raises(IntegrityError, match="manifest of org/child is lost"):
            family.checkout("org/child", tmp_path / "out")
        left = family.repair().left
        assert len(left) == 1
        assert "manifest of org/child is lost" in left[0]
        assert "org/child" in family.models()
        with pytest.raises(UnsafeDeletionError, match="manifest of org/child is lost"):
            family.gc()

        report = family.repair(other)
    assert (report.mended_manifests, report.left) == (1, ())
    family.checkout("org/child", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")
    assert reference_problems(family.disk) == []


def test_models_whose_manifests_are_lost_can_be_removed(family: DiskBlockStore) -> None:
    for name in ("org/child", "org/other"):
        family.disk.layout.manifest(name).unlink()
    family.remove("org/child", trash=False)
    assert family.models() == ("org/base", "org/other")
    family.remove("org/other", trash=False)
    family.gc()

    assert family.verify().ok
    assert reference_problems(family.disk) == []


def test_a_sample_finds_most_of_many_errors(family: DiskBlockStore) -> None:
    (pack,) = (family.path / "packs").glob("*.pack")
    for item in list(family.disk.locations()):
        flip(pack, item.record.payload_offset)
    report = family.verify(sample=0.5, rng=np.random.default_rng(0))

    assert 0 < len(report.problems) < len(family.verify().problems)
    with pytest.raises(ValueError, match="rng"):
        family.verify(sample=0.5)


def test_eviction_spares_pinned_models_and_starts_with_the_longest_unused(family: DiskBlockStore) -> None:
    family.pin("org/base")
    family.disk.touch("org/child")
    plan = family.evict(1, dry_run=True)
    done = family.evict(1)

    assert plan.models == done.models == ("org/other",)
    assert done.freed_bytes == plan.freed_bytes > 0
    with pytest.raises(EvictGoalError, match="nothing was removed"):
        family.evict(1 << 40)
    assert family.models() == ("org/base", "org/child")
    family.pin("org/base", pinned=False)
    assert family.evict(family.used_bytes).models == ("org/base", "org/child")
    assert family.used_bytes == 0


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(6))
def test_an_eviction_takes_no_model_for_nothing(tmp_path: Path, seed: int) -> None:
    """Each that goes held a large block that no staying model holds; pinned ones stay."""
    rng = np.random.default_rng(seed)
    with open_store(tmp_path / "store", durable=False) as store:
        for number in range(12):  # of four parts, so that many models hold the same
            parts = {
                f"part{n}": base_tensors(int(n))["layer.weight"]
                for n in rng.choice(4, rng.integers(1, 4), replace=False)
            }
            store.add(
                write_model(tmp_path / f"m{number}", parts, note__txt=rng.bytes(9)), f"org/m{number:02d}"
            )
        pinned = [str(name) for name in rng.choice(store.models(), 3, replace=False)]
        for name in pinned:
            store.pin(name)
        for name in [name for name in store.models() if name not in pinned][:3]:
            store.remove(name)
        held = {
            name: {i for i in store.manifest(name).block_ids() if store.info(i).raw_bytes > 5000}
            for name in store.models()
        }
        kept = set().union(*(held[name] for name in pinned))
        free = sum(store.info(i).stored_bytes for i in set().union(*held.values()) - kept)
        report = store.evict(int(rng.integers(1, max(free, 1) + 1)))

        staying = set().union(*(held[name] for name in store.models()))
        assert set(pinned) <= set(store.models())
        assert free == 0 or all(held[name] - staying for name in report.models)


def test_twins_go_together_and_only_if_nothing_else_is_enough(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", durable=False) as store:
        for name, seed in (("a/twin", 1), ("b/copy", 3), ("c/twin", 1), ("d/one", 2), ("z/pinned", 3)):
            store.add(write_model(tmp_path / name, base_tensors(seed), readme__md=name.encode()), name)
        store.pin("z/pinned")
        alone = sum(store.info(i).stored_bytes for i in store.manifest("d/one").block_ids())

        assert store.plan.evict(1).report.models == ("d/one",)
        assert store.evict(alone + 1).models == ("d/one", "a/twin", "c/twin")
        assert store.evict(1).models == ("b/copy",)  # for a few bytes only where nothing else is left


def test_a_checkout_counts_as_a_use(family: DiskBlockStore, tmp_path: Path) -> None:
    family.checkout("org/child", tmp_path / "out")
    family.disk.settled_rows()

    assert [row.uses for row in family.disk.model_rows()] == [0, 1, 0]
    assert family.disk.model_row("org/child").used_at > family.disk.model_row("org/child").added_at


def test_priority_comes_before_use(family: DiskBlockStore) -> None:
    family.pin("org/other", pinned=False, priority=5)
    family.disk.touch("org/base")

    assert family.evict(1, dry_run=True).models == ("org/child",)


def test_balance_heats_what_is_used(family: DiskBlockStore) -> None:
    for _ in range(3):
        family.disk.touch("org/child")
    report = family.forms.balance(raw_room_bytes=family.disk.model_row("org/child").raw_bytes)

    assert [(change.name, change.form) for change in report.changes] == [("org/child", "hot")]
    assert family.forms.balance(raw_room_bytes=0).changes[0].form == "cold"
    assert plan_balance(family.disk.settled_rows(), 1 << 40) != []
    assert family.disk.model_row("org/child").uses == 3
    assert family.verify().ok
