"""Loading a cold model of 4 GB beside reading its stored bytes: part of `bench_load.py`.

The model has the shape of Llama-8B with 8 layers, in bfloat16. Its weights are those of MiniLM, cast, taken
from everywhere in it and each time scaled by another number: real distributions of exponents and noise in
the mantissas, and no two blocks alike. Each measure is taken in a process of its own, the page cache dropped
before it; reading and loading alternate, since the disk's rate is not the same twice.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LAYERS = 8
WAYS = ("read", "load_state_dict", "load_model")
_PART = 1 << 24
"""Elements that are made at a time."""


def real_weights(folder: Path) -> npt.NDArray[np.float32]:
    """All float32 weights of a model, one behind the other."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    return np.concatenate([tensor.reshape(-1) for tensor in tensors.values() if tensor.dtype == np.float32])


def write(weights: npt.NDArray[np.float32], folder: Path, layers: int) -> int:
    """A checkpoint in one file; its bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_hidden_layers=layers,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    with torch.device("meta"):
        shapes = {name: tuple(one.shape) for name, one in LlamaForCausalLM(config).state_dict().items()}
    folder.mkdir()
    config.save_pretrained(folder)
    header, end = {}, 0
    for name, shape in shapes.items():
        length = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (end, end + length)}
        end += length
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for part in _parts(weights, end // 2):
            file.write(part)
    return end


def _parts(weights: npt.NDArray[np.float32], count: int) -> Iterator[bytes]:
    rng, around = np.random.default_rng(0), np.resize(weights, len(weights) + _PART)
    while count:
        take = min(count, _PART)
        start = int(rng.integers(len(weights)))
        part = around[start : start + take] * np.float32(rng.uniform(0.5, 2))
        yield (part.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        count -= take


def drop_from_cache(store: Path) -> None:
    """Let the next read of each pack come from the disk."""
    for path in sorted((store / "packs").iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_stored(store: Path) -> int:
    """Read all payloads in the order in which they lie, into the same memory again and again."""
    memory, done = bytearray(8 << 20), 0
    for path in sorted((store / "packs").iterdir()):
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := file.readinto(memory):
                done += count
    return done


def measure(store_path: str, way: str) -> dict[str, float]:
    """One way, once, in this process: times, and memory at its highest, MB."""
    import torch
    from transformers import LlamaForCausalLM  # noqa: F401 - its import is no part of what is measured

    import pbstore.codecs  # noqa: F401
    from pbstore import load_model, load_state_dict, open_store
    from pbstore.checkpoint import assemble, model  # noqa: F401

    torch.set_num_threads(1)
    store = open_store(store_path, read_only=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    drop_from_cache(Path(store_path))
    start, cpu = time.perf_counter(), time.process_time()
    if way == "read":
        read_stored(Path(store_path))
    elif way == "load_state_dict":
        load_state_dict(store, "m")
    else:
        load_model(store, "m")
    seconds, spent = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"s": seconds, "cpu_s": spent, "more_rss_mb": (peak - before) * 1.024}


def run(source: Path, work: Path, rounds: int, layers: int = LAYERS) -> dict[str, Any]:
    """Medians over rounds, and the ratio of each way to the read beside it."""
    from pbstore import open_store

    with tempfile.TemporaryDirectory(dir=work) as place:
        folder, store_path = Path(place, "folder"), Path(place, "store")
        num_bytes = write(real_weights(source), folder, layers)
        with open_store(store_path) as store:
            store.add(folder, "m")
            stored = store.used_bytes
        for path in folder.iterdir():
            path.unlink()
        return {"mb": num_bytes / 1e6, "stored_mb": stored / 1e6, **in_turns(store_path, rounds)}


def in_turns(store_path: Path, rounds: int) -> dict[str, Any]:
    """See `run`."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, measured in found.items():
            command = [sys.executable, __file__, str(store_path), way]
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {way}: {measured[-1]}", flush=True)
    for measured in found.values():
        for one, read in zip(measured, found["read"], strict=True):
            one["to_read"] = one["s"] / read["s"]
    return {
        way: {key: round(statistics.median(one[key] for one in measured), 2) for key in measured[0]}
        for way, measured in found.items()
    }


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    print(json.dumps(measure(*sys.argv[1:])))
