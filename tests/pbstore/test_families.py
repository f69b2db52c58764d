"""Families follow lineage and content: what any two models may have in common makes no relation."""

import json
from pathlib import Path

import numpy as np
import pytest

from pbstore import open_store
from pbstore.disk.upkeep.little import says_little
from pbstore.disk.upkeep.savings_by_cause import by_model
from tests.pbstore.folders import base_tensors, tuned, write_model

Tensors = dict[str, np.ndarray]


def with_common(tensors: Tensors) -> Tensors:
    """What unrelated models share: zeros, ones, a mask, positions."""
    common = {
        "norm.weight": np.ones(4000, np.float32),
        "norm.bias": np.zeros(4000, np.float32),
        "mask": np.tril(np.ones((40, 40), np.uint8)),
        "positions": np.arange(256, dtype=np.int64),
    }
    return {**tensors, **common}


def adapter(seed: int, base: str) -> tuple[Tensors, dict[str, bytes]]:
    """A fresh adapter: its second factors are zeros, half of its bytes."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(3):
        tensors[f"l{layer}.lora_A.weight"] = rng.normal(size=(8, 64)).astype(np.float32)
        tensors[f"l{layer}.lora_B.weight"] = np.zeros((64, 8), np.float32)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "lora_alpha": 8}
    return tensors, {"adapter_config__json": json.dumps(config).encode()}


def two_lines() -> dict[str, tuple[Tensors, dict[str, bytes], str | None, str]]:
    """Model -> tensors, further files, base given by name, family."""
    found: dict[str, tuple[Tensors, dict[str, bytes], str | None, str]] = {}
    for number, root in enumerate(("org/bert", "org/gpt2")):
        base = base_tensors(seed=number, rows=300 + 100 * number)
        half = {name: array.astype(np.float16) for name, array in base.items()}
        child = tuned(base, tuple(base), seed=3)
        found[root] = (with_common(base), {}, None, root)
        found[f"{root}-child"] = (with_common(child), {}, None, root)
        found[f"{root}-half"] = (with_common(half), {}, None, root)
        found[f"{root}-grandchild"] = (with_common(tuned(child, ("model.layer.weight",), 5)), {}, None, root)
        tensors, files = adapter(number, root)
        found[f"{root}-adapter"] = (tensors, files, root, root)
    return found


@pytest.mark.parametrize("form", ["hot", "cold"])
@pytest.mark.parametrize("order", ["as drawn", "mixed"])
def test_each_model_is_in_the_family_that_it_comes_from(tmp_path: Path, form: str, order: str) -> None:
    models = two_lines()
    names = sorted(models, key=lambda name: name.partition("-")[2]) if order == "mixed" else list(models)
    with open_store(tmp_path / "store", durable=False) as store:
        for name in names:
            tensors, files, base, _ = models[name]
            store.add(write_model(tmp_path / name, tensors, **files), name, base, form=form)
        found = {item.name: item.family for item in by_model(store.disk)}

    expected = {name: family for name, (_, _, _, family) in models.items()}
    if form == "hot":  # raw blocks tell nothing of what they are like: only copies and bindings count
        expected |= {name: name for name in models if name.endswith(("-half", "-child"))}
        expected |= {name: name.replace("-grandchild", "-child") for name in models if "-grandchild" in name}
    assert found == expected


def test_what_says_little_is_known_without_reading_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with open_store(tmp_path / "store", durable=False) as store:
        for size in (1, 8, 64, 100, 5000, 100_000):
            assert says_little(store.disk, store.put(bytes(size)))
            assert says_little(store.disk, store.put(np.full(size, 1.5, np.float32).tobytes()))
        for size in (100, 5000, 100_000):
            assert not says_little(store.disk, store.put(rng.bytes(size)))
            assert not says_little(store.disk, store.put(bytes(size - 1) + b"x"))
