"""Room for what is small: what the index keeps of a tensor, and what many small models take in all."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.codecs.sketch import MARK_BYTES, Sketch, sketch
from pbstore.codecs.types import TensorSpec
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.test_cold_models import merged

CONFIG = b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8}'


@pytest.mark.parametrize("rows", [16, 60, 64, 100, 500, 1000, 1500, 3000, 20_000])
def test_a_sketch_takes_at_most_a_hundredth(rows: int) -> None:
    spec = TensorSpec("F32", (rows, 64))
    raw = base_tensors(rows=rows)["embed.weight"].tobytes()
    whole = sketch(raw, spec)
    assert whole is not None
    kept = whole.within(len(raw))
    one_mark = 1 + 8 + MARK_BYTES
    assert len(kept.to_bytes()) + MARK_BYTES * len(kept.marks) <= max(one_mark, 0.01 * len(raw) + 1)
    assert set(kept.marks.tolist()) <= set(whole.marks.tolist())
    read = Sketch.from_bytes(kept.to_bytes())
    assert (read.level, read.has_values) == (kept.level, kept.has_values)
    assert read.marks.tolist() == kept.marks.tolist()


@pytest.mark.sampled(4)
@pytest.mark.parametrize("rows", [64, 120, 500, 900, 3000])
@pytest.mark.parametrize("named", [True, False], ids=["base named", "base found"])
def test_fine_tunes_of_small_tensors_are_recognised(tmp_path: Path, rows: int, named: bool) -> None:
    base = {f"{i}.{n}": a for i in range(4) for n, a in base_tensors(seed=i, rows=rows).items()}
    child = tuned(base, tuple(base))
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", base), "org/base")
        report = store.add(write_model(tmp_path / "child", child), "org/child", "org/base" if named else None)
        assert report.codecs.get("delta") == 8
        store.checkout("org/child", tmp_path / "out")
    assert folder_content(tmp_path / "out") == folder_content(tmp_path / "child")


def test_whole_sketches_of_earlier_versions_are_read(tmp_path: Path) -> None:
    base = base_tensors(rows=100)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", base), "org/base")
        path = store.disk.layout.index
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT number, shape FROM tensors WHERE sketch IS NOT NULL").fetchall()
    assert rows
    for number, _ in rows:
        (block,) = connection.execute("SELECT block FROM tensors WHERE number = ?", (number,)).fetchone()
        with open_store(path.parent, read_only=True) as store:
            raw = bytes(store.get(block.hex()))
        shape = (len(raw) // 256, 64)
        whole = sketch(raw, TensorSpec("F32", shape))
        assert whole is not None
        connection.execute("UPDATE tensors SET sketch = ? WHERE number = ?", (whole.to_bytes(), number))
        marks = [(mark, number) for mark in whole.marks.tolist()]
        connection.executemany("INSERT OR IGNORE INTO marks VALUES (?, ?)", marks)
    connection.commit()
    connection.close()
    with open_store(path.parent, durable=False) as store:
        child = write_model(tmp_path / "child", tuned(base, ("embed.weight", "layer.weight")))
        assert store.add(child, "org/child").codecs.get("delta") == 2
        store.remove("org/base", trash=False)
        store.gc()
        assert store.verify().ok


def adapter_tensors(seed: int, hidden: int = 1024, modules: int = 6) -> dict[str, np.ndarray]:
    """Factors as training leaves them."""
    rng, tensors = np.random.default_rng([4, seed]), {}
    for i in range(modules):
        name = f"base_model.model.layers.{i}.self.query"
        down, step = rng.uniform(-1 / 32, 1 / 32, (4, hidden)), rng.normal(0, 2e-3, (2, 4, hidden))
        tensors[f"{name}.lora_A.weight"] = (down + step[0]).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = step[1].reshape(hidden, 4).astype(np.float32)
    return tensors


def add_adapters(store: DiskBlockStore, folder: Path, count: int) -> int:
    """Add adapters; returns their raw bytes."""
    raw = 0
    for seed in range(count):
        write_model(folder, adapter_tensors(seed), adapter_config__json=CONFIG, README__md=b"x" * 5000)
        raw += store.add(folder, f"org/adapter{seed}").raw_bytes
    return raw


@pytest.mark.slow
def test_many_adapters_take_less_than_their_files_and_give_it_back(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", trash_days=0, durable=False) as store:
        empty = store.disk.disk_use()
        raw = add_adapters(store, tmp_path / "adapter", 60)
        full = store.disk.disk_use()
        assert (
            full.total_bytes - empty.total_bytes < 0.89 * raw
        )  # 0.85 from 200 on, where fixed parts count less
        assert full.index_bytes - empty.index_bytes < 0.04 * raw
        for seed in range(0, 60, 2):
            store.remove(f"org/adapter{seed}")
        store.gc()
        half = store.disk.disk_use()
        assert half.index_bytes < 0.65 * full.index_bytes
        assert half.total_bytes - empty.total_bytes < 0.89 * raw / 2
        assert store.verify().ok
        store.checkout("org/adapter1", tmp_path / "out")
        write_model(
            tmp_path / "wanted", adapter_tensors(1), adapter_config__json=CONFIG, README__md=b"x" * 5000
        )
        assert folder_content(tmp_path / "out") == folder_content(tmp_path / "wanted")


def test_merges_of_the_newest_of_many_adapters_are_recognised(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    name = "model.layers.0.proj"
    weight = rng.normal(0, 0.05, (128, 128)).astype(np.float32)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "base", {f"{name}.weight": weight}), "org/base")
        for number in range(80):
            down = rng.normal(0, 0.1, (4, 128)).astype(np.float32)
            up = rng.normal(0, 0.1, (128, 4)).astype(np.float32)
            module = f"base_model.model.{name}"
            factors = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
            folder = write_model(tmp_path / "lora", factors, adapter_config__json=CONFIG)
            store.add(folder, f"org/lora{number}", base="org/base")
        result = write_model(tmp_path / "merged", {f"{name}.weight": merged(weight, down, up, 2.0)})
        assert store.add(result, "org/merged", base="org/base").codecs.get("lora") == 1
        (pairs,) = store.disk.connection.execute("SELECT COUNT(*) FROM pairs").fetchone()
        assert pairs <= 64
        assert store.verify().ok


def test_the_index_is_written_anew_only_where_that_pays(tmp_path: Path) -> None:
    with open_store(tmp_path / "store", trash_days=0, durable=False) as store:
        add_adapters(store, tmp_path / "adapter", 20)
        store.gc()
        packed = store.disk.disk_use().index_bytes
        changes = store.disk.layout.index.read_bytes()
        store.gc()
        assert store.disk.disk_use().index_bytes == packed
        assert store.disk.layout.index.read_bytes()[100:4096] == changes[100:4096]
