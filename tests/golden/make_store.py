"""Makes a small store with every codec. Run once a form; the results are frozen and never made again.

python tests/golden/make_store.py FOLDER
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import open_store
from pbstore.disk.blocks import gather
from tests.pbstore.folders import tuned, write_model

Tensors = dict[str, np.ndarray]


def models() -> dict[str, tuple[Tensors, dict[str, bytes]]]:
    """Tensors and further files of each model, in the order of adding."""
    rng = np.random.default_rng(2026)
    base = {
        "embed.weight": rng.normal(0, 0.05, (500, 32)).astype(np.float32),
        "layers.0.proj.weight": rng.normal(0, 0.05, (64, 64)).astype(np.float32),
        "layers.0.norm.bias": rng.normal(0, 0.05, (64,)).astype(np.float32),
    }
    down = rng.normal(0, 0.1, (4, 64)).astype(np.float32)
    up = rng.normal(0, 0.05, (64, 4)).astype(np.float32)
    module = "layers.0.proj"
    adapter = {
        f"base_model.model.{module}.lora_A.weight": down,
        f"base_model.model.{module}.lora_B.weight": up,
    }
    merged = {**base, f"{module}.weight": (base[f"{module}.weight"] + np.float32(2) * (up @ down))}
    config = json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "org/base"})
    words = " ".join(f"word{i}" for i in range(400)).encode()
    child = tuned(base, tuple(base))
    others = np.random.default_rng(2027)
    group = {
        f"base_model.model.layers.{layer}.proj.{half}.weight": others.normal(0, 0.1, shape).astype(np.float32)
        for layer in range(2)
        for half, shape in (("lora_A", (4, 64)), ("lora_B", (64, 4)))
    }
    first, second, *_ = group.values()
    group_merged = base[f"{module}.weight"] + np.float32(2) * (second @ first)
    return {
        "org/base": (base, {"vocab__txt": words, "empty__txt": b""}),
        "org/tuned": (child, {"vocab__txt": words}),
        "org/tuned-half": ({name: to_bf16(array) for name, array in child.items()}, {}),
        "org/half": ({name: to_bf16(array) for name, array in base.items()}, {}),
        "org/rows": ({**base, "embed.weight": with_rows(base["embed.weight"], rng)}, {}),
        "org/adapter": (adapter, {"adapter_config__json": config.encode()}),
        "org/merged": (merged, {}),
        "org/group": (group, {"adapter_config__json": config.encode()}),
        "org/group-merged": ({**base, f"{module}.weight": group_merged}, {}),
        "org/tiny": ({f"t.{i}": others.normal(0, 1, 40).astype(np.float32) for i in range(70)}, {}),
        "org/hot": ({"w": rng.normal(0, 0.05, (300, 64)).astype(np.float32)}, {}),
        "org/dequantised": ({"w": on_a_grid(rng)}, {"weights__bin": rng.bytes(3000)}),
    }


def to_bf16(array: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def with_rows(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three rows put in."""
    return np.insert(array, [5, 100, 400], rng.normal(0, 0.05, (3, array.shape[1])), axis=0).astype(
        np.float32
    )


def on_a_grid(rng: np.random.Generator) -> np.ndarray:
    """What is left of four-bit weights after de-quantising: 16 values for each run of 32."""
    scale = rng.uniform(0.01, 0.02, (1024, 1)).astype(np.float16).astype(np.float32)
    offset = rng.uniform(-0.2, -0.1, (1024, 1)).astype(np.float16).astype(np.float32)
    steps = rng.integers(0, 16, (1024, 32)).astype(np.float32)
    return (scale * steps + offset).astype(np.float16).reshape(256, 128)


def main() -> None:
    """Write the store and, beside it, the sha256 of every file."""
    target = Path(sys.argv[1])
    gather.FROM = 4  # so that a small store has a sheaf
    sums: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as temporary, open_store(target) as store:
        for name, (tensors, files) in models().items():
            folder = write_model(Path(temporary) / name, tensors, **files)
            store.add(folder, name, form="hot" if name == "org/hot" else "cold", thorough=True)
            sums[name] = {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())
            }
    Path(f"{target}.json").write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
