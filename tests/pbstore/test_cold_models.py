"""Cold models are small, hot models are raw, and both are the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pbstore import CapacityError, DiskBlockStore, open_store
from pbstore.disk.add import identity
from pbstore.disk.index.locations import Location
from pbstore.disk.upkeep.verify import reference_problems
from pbstore.formats import groups
from pbstore.hashing import BlockId
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        yield opened


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", base_tensors())


@pytest.fixture
def child(tmp_path: Path) -> Path:
    return write_model(tmp_path / "child", tuned(base_tensors(), ("embed.weight", "layer.weight")))


def assert_same(store: DiskBlockStore, name: str, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out-{name.replace('/', '-')}-{store.used_bytes}"
    store.checkout(name, target)
    assert folder_content(target) == folder_content(folder)


def test_a_fine_tune_is_stored_as_deltas(
    store: DiskBlockStore, base: Path, child: Path, tmp_path: Path
) -> None:
    store.add(base, "org/base")
    report = store.add(child, "org/child")

    assert report.codecs.get("delta", 0) >= 2
    assert report.stored_bytes < 0.8 * report.new_bytes
    assert_same(store, "org/child", child, tmp_path)
    assert store.verify().ok


def test_a_hot_base_that_came_first_is_found_later(store: DiskBlockStore, base: Path, child: Path) -> None:
    store.add(base, "org/base", form="hot")

    assert all(store.disk.view(block_id) is not None for block_id in store.blocks("org/base"))
    assert store.add(child, "org/child").codecs.get("delta", 0) >= 2


def test_a_base_is_found_after_the_index_was_lost(store: DiskBlockStore, base: Path, child: Path) -> None:
    store.add(base, "org/base")
    store.disk.rebuild_index()

    assert store.add(child, "org/child").codecs.get("delta", 0) >= 2


def test_heating_and_cooling_keep_every_byte(
    store: DiskBlockStore, base: Path, child: Path, tmp_path: Path
) -> None:
    store.add(base, "org/base")
    store.add(child, "org/child")
    cold = store.used_bytes
    heated = store.forms.heat("org/child")

    assert heated.changed_blocks >= 2
    assert all(store.info(i).codec == "raw" for i in store.manifest("org/child").block_ids())
    assert store.used_bytes > cold
    assert_same(store, "org/child", child, tmp_path)

    store.forms.cool("org/child")
    assert store.used_bytes <= 1.01 * cold
    assert_same(store, "org/child", child, tmp_path)
    assert_same(store, "org/base", base, tmp_path)
    assert store.verify().ok
    assert reference_problems(store.disk) == []


@pytest.mark.parametrize("by", ["thorough", "cool"])
def test_weights_that_were_quantised_take_their_slow_form_when_asked(
    store: DiskBlockStore, tmp_path: Path, by: str
) -> None:
    rng = np.random.default_rng(0)
    levels, scale = rng.integers(-127, 128, (700, 2, 32)), rng.uniform(0.001, 0.01, (700, 2, 1))
    levels[..., :2] = -127, 127
    weight = (levels * scale.astype(np.float16)).astype(np.float32).reshape(700, 64)
    folder = write_model(tmp_path / "quantised", {"layer.weight": weight})
    quick = store.plan.add(folder).report

    store.add(folder, "org/quantised", thorough=by == "thorough")
    if by == "cool":
        assert "grid" not in store.savings().by_kind
        store.forms.cool("org/quantised")

    assert store.savings().by_kind["grid"]["blocks"] == 1
    assert store.used_bytes < 0.5 * quick.stored_bytes
    assert_same(store, "org/quantised", folder, tmp_path)
    assert store.verify().ok


def test_a_block_that_is_heated_while_it_is_read_keeps_its_memory(
    store: DiskBlockStore, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(base, "org/base")
    blocks = store.manifest("org/base").block_ids()
    block_id = next(one for one in blocks if store.info(one).codec == "planes")
    expected, locate = bytes(store.get(block_id)), store.disk.locate

    def locate_and_heat(wanted: BlockId) -> Location:
        location = locate(wanted)
        monkeypatch.undo()
        store.forms.heat("org/base")
        return location

    monkeypatch.setattr(store.disk, "locate", locate_and_heat)
    raw = store.get(block_id)
    assert store.info(block_id).codec == "raw"
    held = [store.disk.buffers.take(len(raw)) for _ in range(9)]
    for memory in held:  # whichever is used again
        memory[:] = bytes(len(raw))

    assert bytes(raw) == expected


def test_blocks_of_a_hot_model_stay_raw(store: DiskBlockStore, base: Path, tmp_path: Path) -> None:
    store.add(base, "org/base", form="hot")
    store.add(base, "org/twin")
    store.forms.cool("org/twin")

    assert all(store.info(i).codec == "raw" for i in store.manifest("org/base").block_ids())
    store.forms.cool("org/base")
    assert store.used_bytes < store.savings().block_dedup_bytes


def test_adding_a_hot_twin_heats_the_shared_blocks(store: DiskBlockStore, base: Path) -> None:
    store.add(base, "org/cold")
    store.add(base, "org/hot", form="hot")

    assert all(store.info(i).codec == "raw" for i in store.manifest("org/hot").block_ids())


def test_heating_respects_the_capacity(tmp_path: Path, base: Path) -> None:
    with open_store(tmp_path / "small", capacity_bytes=130_000) as store:
        store.add(base, "org/base")
        used = store.used_bytes
        with pytest.raises(CapacityError):
            store.forms.heat("org/base")

        assert store.used_bytes == used
        assert store.disk.model_row("org/base").form == "cold"
        assert store.verify().ok


def test_a_hot_add_that_does_not_fit_leaves_nothing(tmp_path: Path, base: Path) -> None:
    with open_store(tmp_path / "small", capacity_bytes=140_000) as store:
        store.add(base, "org/cold")
        used = store.used_bytes
        twin = write_model(tmp_path / "twin", base_tensors(), note__txt=b"x" * 100)
        with pytest.raises(CapacityError):
            store.add(twin, "org/hot", form="hot")

        assert store.models() == ("org/cold",)
        assert store.used_bytes == used
        store.put(b"next")
        assert store.models() == ("org/cold",)
        assert store.verify().ok


def test_a_bf16_copy_costs_nearly_nothing(store: DiskBlockStore, base: Path, tmp_path: Path) -> None:
    store.add(base, "org/base")
    half = {name: to_bf16(array) for name, array in base_tensors().items()}
    report = store.add(write_model(tmp_path / "half", half), "org/half")

    assert report.stored_bytes < 0.05 * report.new_bytes
    assert_same(store, "org/half", tmp_path / "half", tmp_path)


def to_bf16(array: np.ndarray) -> np.ndarray:
    bits = array.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def merged(weight: np.ndarray, down: np.ndarray, up: np.ndarray, scale: float) -> np.ndarray:
    return (weight + np.float32(scale) * (up @ down)).astype(np.float32)


@pytest.mark.parametrize("grouped", [True, False])
def test_a_merged_adapter_is_recognised(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    monkeypatch.setattr(groups, "FACTOR_RUN", 1 if grouped else 1000)
    rng = np.random.default_rng(3)
    base = {f"layers.{i}.proj.weight": rng.normal(0, 0.05, (128, 128)).astype(np.float32) for i in range(3)}
    adapter, result = {}, {}
    for name, weight in base.items():
        down = rng.normal(0, 0.1, (4, 128)).astype(np.float32)
        up = rng.normal(0, 0.1, (128, 4)).astype(np.float32)
        module = name.removesuffix(".weight")
        adapter[f"base_model.model.{module}.lora_A.weight"] = down
        adapter[f"base_model.model.{module}.lora_B.weight"] = up
        result[name] = merged(weight, down, up, 2.0)
    store.add(write_model(tmp_path / "base", base), "org/base")
    config = b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8}'
    folder = write_model(tmp_path / "lora", adapter, adapter_config__json=config)
    store.add(folder, "org/lora", base="org/base")
    report = store.add(write_model(tmp_path / "merged", result), "org/merged", base="org/base")

    assert report.codecs.get("derive2" if grouped else "lora") == 3
    assert report.stored_bytes < 0.2 * report.new_bytes
    assert_same(store, "org/merged", tmp_path / "merged", tmp_path)


def test_inserted_rows_cost_little(store: DiskBlockStore, tmp_path: Path) -> None:
    tensors = base_tensors(rows=4000)
    store.add(write_model(tmp_path / "base", tensors), "org/base")
    rows = np.random.default_rng(9).normal(0, 0.05, (3, 64)).astype(np.float32)
    longer = {**tensors, "embed.weight": np.insert(tensors["embed.weight"], [10, 500, 3000], rows, axis=0)}
    report = store.add(write_model(tmp_path / "longer", longer), "org/longer")

    assert report.stored_bytes < 0.03 * report.new_bytes
    assert_same(store, "org/longer", tmp_path / "longer", tmp_path)


def test_an_adapter_is_bound_to_its_base_by_content(store: DiskBlockStore, base: Path, child: Path) -> None:
    store.add(base, "org/base")
    store.add(child, "org/child", base="org/base")
    link = store.manifest("org/child").base

    assert link is not None
    assert link.weights == store.manifest("org/base").weights
    assert link.weights != store.manifest("org/child").weights


def test_an_adapter_finds_the_base_that_its_configuration_names(
    store: DiskBlockStore, base: Path, tmp_path: Path
) -> None:
    store.add(base, "org/base")
    config = b'{"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "org/base"}'
    adapter = {"layer.lora_A.weight": np.zeros((2, 64), np.float32)}
    store.add(write_model(tmp_path / "a", adapter, adapter_config__json=config), "org/a")
    config = config.replace(b"org/base", b"org/elsewhere")
    store.add(write_model(tmp_path / "b", adapter, adapter_config__json=config), "org/b")

    link = store.manifest("org/a").base
    assert link is not None
    assert identity.find_weights(store.disk, link.weights) == ("org/base",)
    assert store.manifest("org/b").base is None


def test_the_same_models_give_the_same_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tensors = {f"layers.{i}.w": rng.normal(0, 0.05, (96, 64)).astype(np.float32) for i in range(30)}
    base = write_model(tmp_path / "base", tensors)
    child = write_model(tmp_path / "child", tuned(tensors, tuple(tensors)))
    packs = []
    for number in range(4):
        with open_store(tmp_path / f"store{number}", durable=False) as store:
            store.add(base, "org/base")
            store.add(child, "org/child")
        packs.append((tmp_path / f"store{number}" / "packs" / "00000001.pack").read_bytes())

    assert packs[1:] == packs[:-1]


def test_large_tensors_are_cut_at_rows(
    store: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pbstore.folders import ingest

    real_cut = ingest.cut
    monkeypatch.setattr(ingest, "cut", lambda pieces: real_cut(pieces, 10_000))
    folder = write_model(tmp_path / "m", base_tensors(), tokenizer__json=bytes(range(256)) * 200)
    store.add(folder, "org/m")
    tensors = {tensor.name: tensor for tensor in store.disk.tensors("org/m")}

    assert len(tensors["embed.weight"].pieces) == 16
    assert all(piece.raw_bytes % 256 == 0 for piece in tensors["embed.weight"].pieces)
    assert max(store.info(i).raw_bytes for i in store.block_ids()) <= 10_000
    assert_same(store, "org/m", folder, tmp_path)
