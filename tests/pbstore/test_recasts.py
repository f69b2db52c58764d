"""Casts of models that are differences themselves: two steps, every byte, whatever becomes of their bases."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from pbstore import (
    BlockCorruptError,
    BlockMissingError,
    DiskBlockStore,
    MemoryBlockStore,
    StoredBlock,
    open_store,
)
from pbstore.codecs.casts import bf16_to_f32, f32_to_bf16, f32_to_f16
from pbstore.codecs.sketch import cast_keys
from pbstore.codecs.types import TensorSpec
from pbstore.coding import with_needs
from pbstore.disk.blocks.writer import PackWriter
from pbstore.disk.files.pack import Record
from pbstore.disk.upkeep.verify import reference_problems
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model

NAMES = ("embed.weight", "layer.weight")
SIZE = {"rows": 700, "width": 128}


def cast(tensors: dict[str, np.ndarray], to: str) -> dict[str, np.ndarray]:
    if to == "F32":
        return {
            name: bf16_to_f32(array.ravel()).view(np.float32).reshape(array.shape)
            for name, array in tensors.items()
        }
    if to == "F16":
        return {name: array.astype(np.float16) for name, array in tensors.items()}
    return {
        name: f32_to_bf16(array.ravel().view(np.uint32)).reshape(array.shape)
        for name, array in tensors.items()
    }


class Family:
    """A base, a fine-tune that is stored as its difference, and an exact cast of the fine-tune."""

    def __init__(self, root: Path, source: str = "F32", to: str = "BF16") -> None:
        tensors, child = base_tensors(**SIZE), tuned(base_tensors(**SIZE), NAMES)
        if source == "BF16":
            tensors, child = cast(tensors, source), cast(child, source)
        models = {"base": tensors, "child": child, "copy": cast(child, to)}
        self.folders = {name: write_model(root / name, made) for name, made in models.items()}
        self._root = root

    def check(self, store: DiskBlockStore, *names: str) -> None:
        for number, name in enumerate(names or ("base", "child", "copy")):
            target = self._root / f"out-{number}-{len(list(self._root.iterdir()))}"
            store.checkout(name, target)
            assert folder_content(target) == folder_content(self.folders[name])
        assert store.verify().problems == ()
        assert reference_problems(store.disk) == []


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


@pytest.fixture
def store(tmp_path: Path, family: Family) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        for name, folder in family.folders.items():
            opened.add(folder, name)
        yield opened


def codecs(store: DiskBlockStore, name: str) -> list[str]:
    return [store.info(block_id).codec for block_id in store.manifest(name).block_ids()]


def recasts(store: DiskBlockStore) -> list[str]:
    return [block_id for block_id in store.block_ids() if store.info(block_id).codec == "recast"]


@pytest.mark.parametrize(("source", "to"), [("F32", "BF16"), ("F32", "F16"), ("BF16", "F32")])
def test_a_cast_of_a_fine_tune_costs_nearly_nothing(tmp_path: Path, source: str, to: str) -> None:
    family = Family(tmp_path / "models", source, to)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(family.folders["base"], "base")
        assert store.add(family.folders["child"], "child").codecs["delta"] >= 2
        report = store.add(family.folders["copy"], "copy")

        assert report.codecs["recast"] == 2
        assert report.stored_bytes < 0.02 * report.new_bytes
        assert store.plan.add(family.folders["copy"]).report.stored_bytes == 0
        family.check(store)


def test_a_recast_needs_its_base_and_all_that_this_needs(store: DiskBlockStore) -> None:
    for block_id in recasts(store):
        info = store.info(block_id)
        assert info.bases == info.needs[:1]
        assert info.needs[1:] == store.info(info.needs[0]).needs != ()
    order = store.blocks("copy")
    for place, block_id in enumerate(order):
        assert set(store.info(block_id).needs) <= set(order[:place])


def test_loading_reads_both_steps(store: DiskBlockStore, family: Family) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from pbstore import load_state_dict

    loaded, expected = load_state_dict(store, "copy"), load_file(family.folders["copy"] / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert store.get(recasts(store)[0], workers=2)


def test_the_fine_tune_may_become_hot_and_cold_again(store: DiskBlockStore, family: Family) -> None:
    cold = store.used_bytes
    store.forms.heat("child")
    assert "recast" not in codecs(store, "copy")
    assert codecs(store, "copy").count("cast") == 2
    family.check(store)

    store.forms.cool("child")
    assert len(recasts(store)) == 2
    assert store.used_bytes <= 1.01 * cold
    family.check(store)


@pytest.mark.parametrize("gone", [("base",), ("child",), ("base", "child"), ("child", "base")])
def test_what_a_recast_needs_stays_or_is_replaced(
    store: DiskBlockStore, family: Family, gone: tuple[str, ...]
) -> None:
    for name in gone:
        store.remove(name, trash=False)
        store.gc()
    left = [name for name in family.folders if name not in gone]
    family.check(store, *left)
    for name in left:
        store.remove(name, trash=False)
    store.gc()
    assert store.used_bytes == 0


def test_a_lost_base_moves_its_casts_along(tmp_path: Path, family: Family) -> None:
    """The base goes; a sibling takes its place, and the fine-tune's cast follows the fine-tune."""
    sibling = write_model(tmp_path / "sibling", tuned(base_tensors(**SIZE), NAMES, seed=9))
    with open_store(tmp_path / "other", durable=False) as store:
        store.add(family.folders["base"], "base")
        store.add(sibling, "sibling")
        store.add(family.folders["child"], "child")
        store.add(family.folders["copy"], "copy")
        base = set(store.manifest("base").block_ids())
        store.remove("base", trash=False)
        store.gc()

        assert not any(base & set(store.info(i).needs) for i in store.block_ids() if i not in base)
        family.check(store, "child", "copy")


def test_a_recast_is_found_after_the_index_was_lost(tmp_path: Path, family: Family) -> None:
    with open_store(tmp_path / "other", durable=False) as store:
        for name, folder in family.folders.items():
            store.disk.rebuild_index()
            store.add(folder, name)
        assert len(recasts(store)) == 2

        store.disk.rebuild_index()
        assert len(recasts(store)) == 2
        family.check(store)


def test_recasts_travel_between_stores(store: DiskBlockStore, tmp_path: Path, family: Family) -> None:
    with open_store(tmp_path / "other", durable=False) as other:
        memory = MemoryBlockStore()
        for target in (other, memory):
            for block_id in store.blocks("copy"):
                target.import_block(store.export_block(block_id))
            target.put_manifest(store.manifest("copy"))
            for block_id in store.blocks("copy"):
                assert bytes(target.get(block_id)) == bytes(store.get(block_id))
        family.check(other, "copy")


def test_an_import_lists_what_the_base_needs_here(store: DiskBlockStore, tmp_path: Path) -> None:
    block_id = recasts(store)[0]
    stored = store.export_block(block_id)
    child, base = stored.needs
    with open_store(tmp_path / "other", durable=False) as other:
        with pytest.raises(BlockMissingError):
            other.import_block(stored)
        other.put(store.get(child))
        other.import_block(stored)
        assert (other.info(block_id).codec, other.info(block_id).needs) == ("cast", (child,))
        assert not other.has(base)


def test_a_chain_of_more_steps_is_refused(store: DiskBlockStore, tmp_path: Path) -> None:
    """A difference must not be based on a recast or on another difference, whoever sends it."""
    stored = store.export_block(recasts(store)[0])
    other = MemoryBlockStore()
    for block_id in store.blocks("copy"):
        other.import_block(store.export_block(block_id))
    for codec in ("delta", "cast", "recast"):
        hostile = replace(stored, block_id="ab" * 32, codec=codec, needs=(stored.block_id,))
        with pytest.raises((ValueError, BlockCorruptError)):
            other.import_block(hostile)


@pytest.mark.parametrize(
    "needs", [{"C": "C"}, {"C": "X", "X": "C"}, {"C": "X", "X": "X"}, {"C": "X", "X": "B", "B": "A"}]
)
def test_circles_and_longer_chains_are_refused_before_they_are_decoded(needs: dict[str, str]) -> None:
    reads = []

    def read(block_id: str) -> StoredBlock:
        reads.append(block_id)
        return StoredBlock(
            block_id=block_id, raw_bytes=0, codec="delta", payload=b"", needs=tuple(needs.get(block_id, ""))
        )

    with pytest.raises(BlockCorruptError, match="more than 2 steps"):
        with_needs("C", read)
    assert len(reads) <= 3


def test_removing_everything_but_the_copy_with_a_limit(tmp_path: Path, family: Family) -> None:
    """An add that evicts must leave what its own recasts need."""
    room = 0
    with open_store(tmp_path / "all", durable=False) as store:
        for name, folder in family.folders.items():
            store.add(folder, name)
        room = store.used_bytes
    with open_store(tmp_path / "small", durable=False, capacity_bytes=room - 1) as store:
        store.disk.on_full = lambda missing: store.evict(missing) and None
        for name, folder in family.folders.items():
            store.add(folder, name)
        family.check(store, *store.models())
        assert "copy" in store.models()


def heat_child(store: DiskBlockStore) -> None:
    store.forms.heat("child")


def cool_child(store: DiskBlockStore) -> None:
    store.forms.cool("child")


def drop_base(store: DiskBlockStore) -> None:
    store.remove("base", trash=False)
    store.gc()


def drop_child(store: DiskBlockStore) -> None:
    store.remove("child", trash=False)
    store.gc()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("goes_on", [False, True], ids=["index lost at once", "index lost later"])
@pytest.mark.parametrize("act", [heat_child, cool_child, drop_base, drop_child])
def test_an_index_can_be_built_from_whatever_an_interrupted_step_has_written(
    family: Family, tmp_path: Path, act: Callable[[DiskBlockStore], None], goes_on: bool
) -> None:
    with open_store(tmp_path / "start", durable=False) as store:
        for name, folder in family.folders.items():
            store.add(folder, name)
        if act is cool_child:
            store.forms.heat("child")
    for stop_at in range(1, 100):
        path = tmp_path / f"store-{stop_at}"
        shutil.copytree(tmp_path / "start", path)
        with open_store(path, durable=False) as store, pytest.MonkeyPatch.context() as patch:
            patch.setattr(PackWriter, "append", interrupted(stop_at))
            try:
                act(store)
            except KeyboardInterrupt:
                finished = False
            else:
                finished = True
            patch.undo()
            models = store.models()
            if goes_on:
                store.put(b"the next writer")
        for file in path.glob("index.sqlite*"):
            file.unlink()
        with open_store(path, durable=False) as store:
            assert store.models() == models
            family.check(store, *models)
        shutil.rmtree(path)
        if finished:
            break
    assert stop_at > 2 or act is drop_child


def interrupted(stop_at: int) -> Callable[[PackWriter, StoredBlock], tuple[int, Record]]:
    """`PackWriter.append` that is interrupted behind so many records."""
    append, calls = PackWriter.append, count(1)

    def wrapped(self: PackWriter, block: StoredBlock) -> tuple[int, Record]:
        made = append(self, block)
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        return made

    return wrapped


def test_a_cast_of_a_lost_fine_tune_takes_its_place_as_a_difference(
    store: DiskBlockStore, family: Family
) -> None:
    store.remove("child", trash=False)
    store.gc()
    before = store.used_bytes
    assert store.gc().freed_bytes == 0
    assert store.used_bytes == before
    with open_store(store.path.parent / "alone", durable=False) as other:
        for name in ("base", "copy"):
            other.add(family.folders[name], name)
        assert before <= 1.02 * other.used_bytes


def test_an_exact_base_comes_before_a_fine_tune_that_is_nearly_equal(tmp_path: Path, family: Family) -> None:
    base = base_tensors(**SIZE)
    step = {
        name: np.float32(2e-6) * np.random.default_rng(3).normal(size=a.shape) for name, a in base.items()
    }
    near = {f"model.{name}": (array + step[name]).astype(np.float32) for name, array in base.items()}
    with open_store(tmp_path / "other", durable=False) as store:
        store.add(family.folders["base"], "base")
        store.add(write_model(tmp_path / "near", near), "near")
        store.add(write_model(tmp_path / "half", cast(base, "F16")), "half")
        assert recasts(store) == []


def test_a_damaged_fine_tune_does_not_stop_an_add(
    store: DiskBlockStore, family: Family, tmp_path: Path
) -> None:
    location = store.disk.locate(store.info(recasts(store)[0]).needs[0])
    store.remove("copy", trash=False)
    store.close()
    with (store.path / "packs" / f"{location.pack:08d}.pack").open("r+b") as file:
        file.seek(location.record.payload_offset + 40)
        file.write(b"damage")
    with open_store(store.path, durable=False) as again:
        again.disk.rebuild_index()
        again.gc()
        again.add(family.folders["copy"], "again")
        family.folders["again"] = family.folders["copy"]
        target = tmp_path / "target"
        again.checkout("again", target)
        assert folder_content(target) == folder_content(family.folders["copy"])


def test_a_cast_may_name_a_base_that_is_a_difference_here(store: DiskBlockStore, tmp_path: Path) -> None:
    stored = store.export_block(recasts(store)[0])
    with open_store(tmp_path / "other", durable=False) as other:
        for block_id in reversed(stored.needs):
            other.import_block(store.export_block(block_id))
        other.import_block(replace(stored, codec="cast", needs=stored.needs[:1]))
        assert other.info(stored.block_id).codec == "recast"
        assert other.info(stored.block_id).needs == stored.needs
        assert bytes(other.get(stored.block_id)) == bytes(store.get(stored.block_id))


def test_cast_keys_are_those_of_the_exact_cast() -> None:
    rng = np.random.default_rng(0)
    bits = rng.normal(0, 1, (64, 40)).astype(np.float32).view(np.uint32).ravel()
    special = np.array([0x7FC12345, 0xFF800001, 0x00000001, 0x80000000, 0x7F7FFFFF], np.uint32)
    bits[:: len(bits) // len(special)][: len(special)] = special
    bf16, f16 = f32_to_bf16(bits), f32_to_f16(bits)
    keys = cast_keys(bits.tobytes(), TensorSpec("F32", (64, 40)))

    assert cast_keys(bf16.tobytes(), TensorSpec("BF16", (2560,)))["BF16"] == keys["BF16"]
    assert cast_keys(f16.tobytes(), TensorSpec("F16", (64, 40)))["F16"] == keys["F16"]
    assert cast_keys(bf16_to_f32(bf16).tobytes(), TensorSpec("F32", (64, 40)))["BF16"] == keys["BF16"]
    assert cast_keys(bf16.tobytes(), TensorSpec("BF16", (64, 40)))["F16"] != keys["BF16"] != keys["F16"]
    assert cast_keys(bits[:63].tobytes(), TensorSpec("F32", (63,))) == {}
    assert cast_keys(bits.tobytes(), TensorSpec("I32", (64, 40))) == {}
