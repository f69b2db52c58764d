"""Room for what is small: many low-rank adapters over one base, and where their bytes go.

    python tests/benchmarks/bench_small.py [--only adapters|tiny] [--adapters N ...] [--shapes HxL ...]
        [--rank R] [--tensors N] [--folder DIR]

PEFT saves one adapter of a BERT of random weights; the others have the same files and other weights, drawn
as training leaves them: A uniform as PEFT starts it plus a small step, B a small step from zero.
`disk` is what `du` counts; `raw` is the sum of the files' lengths. Then half of the adapters are removed and
collected. The base is in the store but not in the figures.

`tiny` is a model of many tensors of 128 bytes, and a version of it in which one has changed.
"""

import argparse
import json
import logging
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import DiskBlockStore, open_store

RESULTS = Path(__file__).parent / "results"
SHARES = (200, 2000)


def make_base(folder: Path, hidden: int, layers: int, rank: int) -> tuple[Path, Path]:
    """A small BERT and one adapter of it, as `save_pretrained` writes both."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertModel

    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=2 * hidden,
        vocab_size=1000, max_position_embeddings=64,
    )  # fmt: skip
    base = BertModel(config)
    base.save_pretrained(folder / "base")
    base = BertModel.from_pretrained(folder / "base")
    adapter = get_peft_model(base, LoraConfig(r=rank, lora_alpha=8, target_modules=["query", "value"]))
    adapter.save_pretrained(folder / "adapter")
    return folder / "base", folder / "adapter"


def vary(folder: Path, number: int) -> None:
    """Give an adapter's folder the weights of another one; the header stays."""
    from safetensors.numpy import load_file

    path = folder / "adapter_model.safetensors"
    text = path.read_bytes()
    header = text[: 8 + int.from_bytes(text[:8], "little")]
    rng, data = np.random.default_rng([3, number]), b""
    order = sorted(
        (item for item in json.loads(header[8:]).items() if item[0] != "__metadata__"),
        key=lambda item: item[1]["data_offsets"],
    )
    tensors = load_file(path)
    for name, _ in order:
        array = tensors[name]
        step = rng.normal(0, 2e-3, array.shape)
        bound = 1 / np.sqrt(array.shape[1])
        start = rng.uniform(-bound, bound, array.shape) if "lora_A" in name else 0.0
        data += (start + step).astype(np.float32).tobytes()
    path.write_bytes(header + data)


def folder_bytes(folder: Path) -> int:
    """Sum of the lengths of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parts(store: DiskBlockStore) -> dict[str, int]:
    """Bytes on the disk by part of the store."""
    store.disk.disk_use()
    found: Counter[str] = Counter()
    for path in store.path.rglob("*"):
        if path.is_file() and path.name not in ("index.sqlite-wal", "index.sqlite-shm"):
            part = path.parent.name if path.parent != store.path else path.name
            found[part] += path.stat().st_blocks * 512
    return dict(found)


def tables(store: DiskBlockStore) -> dict[str, int]:
    """Bytes of the index by table, where SQLite can tell."""
    try:
        rows = store.disk.connection.execute(
            "SELECT name, SUM(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"
        )
        return {str(name): int(size) for name, size in rows.fetchall()}
    except Exception as error:
        return {f"unknown ({error})": 0}


def grow(store: DiskBlockStore, folder: Path, numbers: Iterable[int]) -> dict[str, float]:
    """Add adapters; their raw bytes, and CPU seconds with the making of them."""
    cpu, raw = time.process_time(), 0
    for number in numbers:
        vary(folder, number)
        store.add(folder, f"org/adapter{number}", base="org/base")
        raw += folder_bytes(folder)
    cpu = time.process_time() - cpu
    return {"raw": raw, "cpu_s": cpu}


def share(store: DiskBlockStore, raw: float, start: dict[str, int]) -> dict[str, object]:
    """Disk over raw, in all and by part."""
    now = {part: size - start.get(part, 0) for part, size in parts(store).items()}
    return {"disk_over_raw": sum(now.values()) / raw, "parts": {p: round(s / raw, 4) for p, s in now.items()}}


def run(root: Path, adapters: int, hidden: int, layers: int, rank: int) -> dict[str, object]:
    """Add, measure, remove half, measure."""
    base, adapter = make_base(root, hidden, layers, rank)
    result: dict[str, object] = {"hidden": hidden, "layers": layers, "adapters": adapters}
    result["adapter_bytes"] = folder_bytes(adapter)
    with open_store(root / "store", trash_days=0, durable=False) as store:
        store.add(base, "org/base")
        start = parts(store)
        added = grow(store, adapter, range(adapters))
    with open_store(root / "store", durable=False) as store:
        result["added"] = {**added, **share(store, added["raw"], start)}
        result["tables"] = tables(store)
        for number in range(0, adapters, 2):
            store.remove(f"org/adapter{number}")
        store.gc()
        result["half removed"] = share(store, added["raw"] / 2, start)
        result["verified"] = store.verify(sample=0.02, rng=np.random.default_rng(0)).ok
    return result


def tiny_model(folder: Path, count: int, changed: int | None = None) -> Path:
    """A model of tensors of 32 floats, drawn from one seed; one of them is another if asked for."""
    from safetensors.numpy import save_file

    drawn = np.random.default_rng(5).normal(0, 0.05, (count, 32)).astype(np.float32)
    if changed is not None:
        drawn[changed] += 1
    folder.mkdir()
    names = (f"model.layers.{i // 100}.experts.{i % 100}.w" for i in range(count))
    save_file(dict(zip(names, drawn, strict=True)), folder / "model.safetensors")
    return folder


def run_tiny(root: Path, count: int) -> dict[str, object]:
    """Add, add a version, write out, load; CPU seconds and bytes on the disk."""
    from safetensors.torch import load_file

    from pbstore import load_state_dict

    first, second = tiny_model(root / "first", count), tiny_model(root / "second", count, count // 3)
    result: dict[str, object] = {"tensors": count, "raw": folder_bytes(first)}
    with open_store(root / "store", durable=False) as store:
        start = sum(parts(store).values())
        for name, folder in (("first", first), ("second", second)):
            cpu = time.process_time()
            report = store.add(folder, f"org/{name}")
            found = {"cpu_s": time.process_time() - cpu, "blocks": report.blocks}
            now = parts(store)
            result[name] = {**found, "disk": sum(now.values()) - start, "parts": now}
            start = sum(now.values())
        calls = {
            "checkout_s": lambda: store.checkout("org/second", root / "out"),
            "load_s": lambda: load_state_dict(store, "org/second"),
            "load_file_s": lambda: load_file(second / "model.safetensors"),
        }
        for label, call in calls.items():
            cpu = time.process_time()
            call()
            result[label] = time.process_time() - cpu
        result["exact"] = (root / "out" / "model.safetensors").read_bytes() == (
            second / "model.safetensors"
        ).read_bytes()
        result["verified"] = store.verify().ok
    return result


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("adapters", "tiny"), help="default: both")
    parser.add_argument("--tensors", type=int, default=60_000, help="of the model of tiny ones")
    parser.add_argument("--adapters", type=int, nargs="+", default=SHARES)
    parser.add_argument("--shapes", nargs="+", default=["384x6", "1024x4"], help="factors of 6 and 16 KB")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    arguments = parser.parse_args()
    jobs: dict[str, list[Callable[[Path], dict[str, object]]]] = {"runs": [], "tiny": []}
    if arguments.only != "tiny":
        for shape, adapters in product(arguments.shapes, arguments.adapters):
            hidden, layers = map(int, shape.split("x"))
            jobs["runs"].append(
                partial(run, adapters=adapters, hidden=hidden, layers=layers, rank=arguments.rank)
            )
    if arguments.only != "adapters":
        jobs["tiny"].append(partial(run_tiny, count=arguments.tensors))
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    command = " ".join(["bench_small.py", *sys.argv[1:]])
    for part, calls in jobs.items():
        if calls:
            results = [in_folder(call, arguments.folder) for call in calls]
            write(part, {"command": command, "machine": machine, part: results})


def in_folder(call: Callable[[Path], dict[str, object]], beside: Path | None) -> dict[str, object]:
    """Measure in a folder that goes, and print."""
    root = Path(tempfile.mkdtemp(prefix="bench-small-", dir=beside))
    try:
        result = call(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(result, indent=1), flush=True)
    return result


def write(part: str, result: dict[str, object]) -> None:
    """Put a part of the results in its place; the other part stays."""
    RESULTS.mkdir(exist_ok=True)
    name = "small.json" if part == "runs" else "small_tiny.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
