"""Loading models of 0.1 to 4 GB, whose tensors are larger than a block: part of `bench_load.py`.

Models of published shapes with random bits as weights, in one file each and in a hot store; every measure is
taken in a process of its own, in turns. The folders are deleted afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "minilm, 0.1 GB": ("BertModel", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
    "mpnet, 0.4 GB": ("MPNetModel", {}),
    "llama-8b, 1 layer, 1 GB": ("LlamaForCausalLM", {**LLAMA, "num_hidden_layers": 1, "dtype": "bfloat16"}),
    "llama-8b, 8 layers, 4 GB": ("LlamaForCausalLM", {**LLAMA, "num_hidden_layers": 8, "dtype": "bfloat16"}),
}
WAYS = ("load_file", "load_state_dict", "from_pretrained", "load_model")
REPEATS = 5


def write(kind: str, settings: dict[str, Any], folder: Path) -> int:
    """A checkpoint of random bits; its bytes."""
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import save_file

    model_class = getattr(transformers, kind)
    config = model_class.config_class(**settings)
    config.architectures = [kind]
    with torch.device("meta"):
        expected = model_class._from_config(config).state_dict()
    rng = np.random.default_rng(0)
    tensors = {
        name: torch.from_numpy(rng.integers(0, 1 << 15, tensor.nbytes // 2, np.uint16))
        .view(tensor.dtype)
        .view(tensor.shape)
        for name, tensor in expected.items()
    }
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return sum(tensor.nbytes for tensor in tensors.values())


def loader(folder: str, store_path: str, way: str) -> Callable[[], Any]:
    """The function that loads in the way of this name."""
    import transformers
    from safetensors.torch import load_file

    from pbstore import load_model, load_state_dict, open_store

    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    kind = getattr(transformers, json.loads(Path(folder, "config.json").read_text())["architectures"][0])
    if way == "load_file":
        return lambda: load_file(f"{folder}/model.safetensors")
    if way == "from_pretrained":
        return lambda: kind.from_pretrained(folder)
    store = open_store(store_path, read_only=True)
    return lambda: (load_state_dict if way == "load_state_dict" else load_model)(store, "m")


def resident() -> dict[str, int]:
    """Resident bytes of this process, and those of them that are pages of no file: copies."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, number = line.split()[:2]
        found[name.rstrip(":")] = int(number) << 10
    return {"rss": found["Rss"], "copied": found["Anonymous"]}


def measure(folder: str, store_path: str, way: str) -> dict[str, float]:
    """Times of a first and of further loads, ms; memory that one adds, before and after all is read, MB."""
    import torch

    torch.set_num_threads(1)
    load = loader(folder, store_path, way)
    before, found = resident(), {}
    start = time.perf_counter()
    loaded = load()
    found["first_ms"] = (time.perf_counter() - start) * 1e3
    after = resident()
    tensors = loaded.values() if isinstance(loaded, dict) else [*loaded.parameters(), *loaded.buffers()]
    start = time.process_time()
    for tensor in tensors:
        tensor.detach().reshape(-1)[:: 2048 // tensor.element_size()].sum()
    found["read_pages_cpu_ms"] = (time.process_time() - start) * 1e3
    read = resident()
    found |= {f"{key}_mb": (after[key] - before[key]) / 1e6 for key in after}
    found |= {f"read_{key}_mb": (read[key] - before[key]) / 1e6 for key in read}
    del loaded, tensors
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        again = load()
        spent.append(time.process_time() - start)
        del again
    found["cpu_ms"] = min(spent) * 1e3
    return found


def warm(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def in_turns(folder: Path, store: Path, rounds: int) -> dict[str, Any]:
    """The best of each measure for each way."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, measured in found.items():
            for path in (folder / "model.safetensors", *sorted((store / "packs").iterdir())):
                warm(path)
            command = [sys.executable, __file__, str(folder), str(store), way]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        way: {key: round(min(one[key] for one in measured), 1) for key in measured[0]}
        for way, measured in found.items()
    }


def run(work: Path, rounds: int) -> dict[str, Any]:
    """Results of all models, by name and way of loading."""
    from pbstore import open_store

    report: dict[str, Any] = {}
    work.mkdir(parents=True, exist_ok=True)
    for name, (kind, settings) in SHAPES.items():
        with tempfile.TemporaryDirectory(dir=work) as place:
            folder, store_path = Path(place, "folder"), Path(place, "store")
            num_bytes = write(kind, settings, folder)
            with open_store(store_path) as store:
                store.add(folder, "m", form="hot")
            report[name] = {"bytes": num_bytes, **in_turns(folder, store_path, rounds)}
    return report


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(measure(*sys.argv[1:])))
