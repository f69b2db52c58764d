"""Loading a cold model of 4 GB beside reading its stored bytes: part of `bench_load.py`.

The model has the shape of Llama-8B with 8 layers, in bfloat16. Its weights are those of MiniLM, cast, taken
from everywhere in it and each time scaled by another number: real distributions of exponents and noise in
the mantissas, and no two blocks alike. Each measure is taken in a process of its own, the page cache dropped
before it; the ways take turns, since neither the disk nor the machine is the same twice.

    read             the stored bytes, from the disk, into the same memory again and again
    new pages        one write to each page of as much new memory as the model takes: what any loader needs
    decode           each block, hashed, into the same memory again and again; payloads are in the page cache
    load_state_dict  all tensors
    past the cache   the same, payloads read without a trace in the page cache (RWF_DONTCACHE, Linux 6.14)
    load_model       a ready model
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import DiskBlockStore, load_model, load_state_dict, open_store
from pbstore.blocks import PIECE_BYTES
from pbstore.checkpoint.into import Filling
from pbstore.codecs.scratch import new_pages
from pbstore.coding import check_hash
from pbstore.disk.files.pack import Record
from pbstore.disk.files.reader import PackReader

if TYPE_CHECKING:
    import numpy.typing as npt

LAYERS = 8
WAYS = ("read", "new pages", "decode", "load_state_dict", "past the cache", "load_model")
_REST_S = 6.0
"""Some machines hand memory back to their host a few seconds after it was freed: every way begins so."""
_DONTCACHE = 0x80
"""Flag of preadv2, see its manual page."""
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


def take_pages(num_bytes: int) -> memoryview:
    """New memory, each page written to."""
    memory = new_pages(num_bytes)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1
    return memory


def decode_all(store: DiskBlockStore) -> None:
    """Decode and hash all blocks of the model, by one thread."""
    out = take_pages(PIECE_BYTES)
    for block_id in dict.fromkeys(store.manifest("m").block_ids()):
        room = out[: store.info(block_id).raw_bytes]
        check_hash(block_id, store.disk.get_unchecked(block_id, out=room))


def past_the_cache(reader: PackReader, number: int, record: Record, out: memoryview) -> None:
    """`PackReader.read_into`, without leaving pages in the page cache."""
    done, file = 0, reader.open(number)
    while done < record.stored_bytes:
        part = out[done : done + (4 << 20)]
        done += os.preadv(file.fd, [part], record.payload_offset + done, _DONTCACHE)


def measure(store_path: str, way: str) -> dict[str, float]:
    """One way, once, in this process: times, and memory at its highest, MB."""
    import torch
    from transformers import LlamaForCausalLM  # noqa: F401 - its import is no part of what is measured

    from pbstore.checkpoint import assemble  # noqa: F401

    torch.set_num_threads(1)
    store = open_store(store_path, read_only=True)
    drop_from_cache(Path(store_path))
    if way == "decode":
        read_stored(Path(store_path))
    if way == "past the cache":
        PackReader.read_into = past_the_cache  # type: ignore[method-assign]
        Filling._ask_for = lambda self, block_id: None  # type: ignore[method-assign]
    raw_bytes = store.disk.model_row("m").raw_bytes
    call: dict[str, Callable[[], object]] = {
        "read": lambda: read_stored(Path(store_path)),
        "new pages": lambda: take_pages(raw_bytes),
        "decode": lambda: decode_all(store),
        "load_model": lambda: load_model(store, "m"),
    }
    time.sleep(_REST_S)
    Path("/proc/self/clear_refs").write_text("5")  # memory at its highest is what there is now
    before = _kib("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    call.get(way, lambda: load_state_dict(store, "m"))()
    seconds, spent = time.perf_counter() - start, time.process_time() - cpu
    return {"s": seconds, "cpu_s": spent, "more_rss_mb": (_kib("VmHWM") - before) * 1.024e-3}


def _kib(name: str) -> int:
    """A line of this process's status, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def run(source: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Medians over rounds, and ratios to the read of the same round, and to it and the new pages."""
    store_path = prepare(source, work / "bench-load-cold")
    with open_store(store_path, read_only=True) as store:
        sizes = {"mb": store.disk.model_row("m").raw_bytes / 1e6, "stored_mb": store.used_bytes / 1e6}
    loads = [os.getloadavg()[0]]
    found = in_turns(store_path, rounds)
    loads.append(os.getloadavg()[0])
    about = {"rounds": rounds, "cores": os.cpu_count(), "load_averages": loads}
    return {**{name: round(size, 1) for name, size in sizes.items()}, **found, **about}


def prepare(source: Path, place: Path, layers: int = LAYERS) -> Path:
    """The store with the model, made once."""
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        write(real_weights(source), place / "folder", layers)
        with open_store(place / "store") as store:
            store.add(place / "folder", "m")
        shutil.rmtree(place / "folder")
        (place / "done").touch()
    return place / "store"


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
        for one, read, pages in zip(measured, found["read"], found["new pages"], strict=True):
            one["to_read"] = one["s"] / read["s"]
            one["to_read_and_pages"] = one["s"] / (read["s"] + pages["s"])
    return {
        way: {key: round(statistics.median(one[key] for one in measured), 2) for key in measured[0]}
        for way, measured in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
