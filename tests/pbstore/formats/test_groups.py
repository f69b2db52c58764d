"""Tiny tensors share blocks: every tensor comes back alone, and versions of a model are cut alike."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pbstore import DiskBlockStore, load_state_dict, open_store
from pbstore.disk.add.identity import hashes_of
from pbstore.formats import groups
from pbstore.formats.split import split_stream
from tests.pbstore.folders import folder_content, safetensors_bytes

COUNT = 3000


def tiny(seed: int = 0, count: int = COUNT) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, 0.05, (count, 64)).astype(np.float32)
    return {f"layers.{i:05d}.scale": torch.from_numpy(drawn[i].copy()) for i in range(count)}


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    return folder


def stored(store: DiskBlockStore) -> int:
    return store.savings().stored_bytes


@pytest.fixture
def store(tmp_path: Path) -> DiskBlockStore:
    return open_store(tmp_path / "store", durable=False)


@pytest.mark.parametrize("form", ["cold", "hot"])
def test_every_tensor_of_a_group_comes_back_alone(store: DiskBlockStore, tmp_path: Path, form: str) -> None:
    folder = write(tmp_path / "m", {**tiny(), "big.weight": torch.arange(70_000.0)})
    report = store.add(folder, "m", form=form)
    assert report.blocks < 8
    loaded, expected = load_state_dict(store, "m"), load_file(folder / "model.safetensors")
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    name = "layers.00007.scale"
    assert torch.equal(load_state_dict(store, "m", [name])[name], expected[name])
    loaded[name].zero_()
    assert torch.equal(loaded["layers.00008.scale"], expected["layers.00008.scale"])
    assert torch.equal(load_state_dict(store, "m")[name], expected[name])
    store.checkout("m", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(folder)
    assert store.verify().ok


def test_a_changed_member_costs_little_and_the_others_are_the_same(
    store: DiskBlockStore, tmp_path: Path
) -> None:
    before = tiny()
    store.add(write(tmp_path / "a", before), "a")
    first = stored(store)
    after = {**before, "layers.01234.scale": before["layers.01234.scale"] + 0.5}
    store.add(write(tmp_path / "b", after), "b")
    assert stored(store) - first < 0.01 * first
    found = store.disk and store.history.diff("a", "b")
    assert [one.name for one in found.tensors] == ["layers.01234.scale"]
    assert found.same_tensors == COUNT - 1
    assert store.explain("b").lineage == {"a": pytest.approx(64 * 4 * COUNT, rel=0.9)}


def test_an_inserted_member_moves_few_groups(tmp_path: Path) -> None:
    before = tiny(count=9000)
    after = {**before, "layers.00100.extra": torch.zeros(64)}
    ids = []
    for number, tensors in enumerate((before, after)):
        data = (write(tmp_path / str(number), tensors) / "model.safetensors").read_bytes()
        pieces = split_stream(BytesIO(data), len(data), "model.safetensors")[1:]
        ids.append({data[piece.offset : piece.offset + piece.length] for piece in pieces})
    assert len(ids[0]) > 3
    assert len(ids[0] & ids[1]) >= len(ids[0]) - 2


def test_a_model_has_the_hash_that_it_has_without_groups(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "m", {**tiny(count=200), "w": torch.arange(5000.0)})
    store.add(folder, "grouped")
    monkeypatch.setattr(groups, "TINY_RUN", 1 << 20)
    store.add(folder, "alone")
    weights = {store.manifest(name).weights for name in ("grouped", "alone")}
    assert len(weights) == 1
    for name in ("grouped", "alone"):
        assert hashes_of(store.disk, name, store.manifest(name))[0] in weights


def test_a_lost_index_knows_groups_again(store: DiskBlockStore, tmp_path: Path) -> None:
    before = tiny()
    store.add(write(tmp_path / "a", before), "a")
    store.close()
    (tmp_path / "store" / "index.sqlite").unlink()
    with open_store(tmp_path / "store", durable=False) as again:
        first = stored(again)
        after = {**before, "layers.00003.scale": before["layers.00003.scale"] * 2}
        again.add(write(tmp_path / "b", after), "b")
        assert stored(again) - first < 0.01 * first


def test_what_is_no_tiny_run_keeps_blocks_of_its_own() -> None:
    rng = np.random.default_rng(0)
    few = {f"t{i:03d}": rng.normal(size=40).astype(np.float32) for i in range(groups.TINY_RUN - 1)}
    mixed = {f"t{i:03d}": rng.normal(size=300 + 30 * (i % 2)).astype(np.float32) for i in range(200)}
    kinds = {f"t{i:03d}": rng.normal(size=40).astype((np.float32, np.float16)[i % 2]) for i in range(200)}
    for tensors in (few, mixed, kinds):
        data = safetensors_bytes(tensors)
        assert len(split_stream(BytesIO(data), len(data), "x.safetensors")) == 1 + len(tensors)


def test_factors_of_an_adapter_share_a_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    factors = {
        f"base_model.model.layers.{i}.{kind}.weight": rng.normal(size=shape).astype(np.float32)
        for i in range(6)
        for kind, shape in {"lora_A": (8, 300), "lora_B": (400, 8)}.items()
    }
    data = safetensors_bytes(factors)
    assert len(split_stream(BytesIO(data), len(data), "x.safetensors")) == 2
