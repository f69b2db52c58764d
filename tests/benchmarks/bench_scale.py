"""How the store's costs grow: many small models over few bases.

    python tests/benchmarks/bench_scale.py [--quick] [--models N] [--adapters N] [--bases N] [--folder DIR]

Metadata at scale, small payloads: every model has real safetensors files of a few kilobytes; the first
ones are bases, then come models that change two tensors of a base, then adapters bound to one. At each tenth
of the way it times adding, opening, look-ups, a list of all models, savings, savings by family and a dry
gc, and at the end the removal and return of one model and of a hundred, forgetting, the removal of a tenth of
the models, a real gc, and a lost index. Times are CPU seconds of this process, so that a busy machine or a
slow disk does not show; the wall milliseconds of an add stand beside them. `--store DIR` times the end alone,
on a copy of a store that was kept with `--keep`.
"""

import argparse
import json
import math
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import DiskBlockStore, open_store
from pbstore.disk.upkeep.listing import listing
from pbstore.disk.upkeep.savings_by_cause import by_family, by_model
from tests.pbstore.folders import safetensors_bytes, write_model

RESULTS = Path(__file__).parent / "results"
LOOKUPS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Costs at one size of the store; times in CPU milliseconds, look-ups in microseconds."""

    models: int
    blocks: int
    add_ms: float
    add_wall_ms: float
    block_us: float
    manifest_us: float
    open_ms: float
    ls_ms: float
    savings_ms: float
    family_ms: float
    gc_plan_ms: float
    raw_mb: float
    stored_mb: float
    index_mb: float
    disk_mb: float
    disk_of_raw: float
    rss_mb: float


def tensors_of(base: int) -> dict[str, np.ndarray]:
    """Twelve small tensors, the same for the same base."""
    rng = np.random.default_rng([7, base])
    return {f"layers.{i}.weight": rng.normal(0, 0.05, (24, 32)).astype(np.float32) for i in range(12)}


def model_tensors(number: int, num_bases: int) -> dict[str, np.ndarray]:
    """A base for the first models, then children with two changed tensors."""
    tensors = tensors_of(number % num_bases)
    if number >= num_bases:
        rng = np.random.default_rng([8, number])
        for i in rng.choice(12, 2, replace=False):
            name = f"layers.{i}.weight"
            tensors[name] = tensors[name] + rng.normal(0, 1e-4, tensors[name].shape).astype(np.float32)
    return tensors


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def write_adapter(folder: Path, number: int, num_bases: int) -> Path:
    """A LoRA of rank 4 on two layers, bound to its base by name."""
    rng = np.random.default_rng([9, number])
    shapes = {"lora_A": (4, 32), "lora_B": (24, 4)}
    tensors = {
        f"base_model.model.layers.{i}.{kind}.weight": rng.normal(0, 0.05, shape).astype(np.float32)
        for i in rng.choice(12, 2, replace=False)
        for kind, shape in shapes.items()
    }
    folder.mkdir(exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
    base = number % num_bases
    config = {"peft_type": "LORA", "r": 4, "base_model_name_or_path": f"family{base}/m{base}"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def add_models(
    store: DiskBlockStore, root: Path, numbers: range, num_models: int, num_bases: int
) -> tuple[float, float]:
    """Add models, adapters from `num_models` on; CPU and wall seconds of the adds alone."""
    cpu = wall = 0.0
    for number in numbers:
        if number < num_models:
            folder = write_model(root / "model", model_tensors(number, num_bases))
        else:
            folder = write_adapter(root / "adapter", number, num_bases)
        name = f"family{number % num_bases}/m{number}"
        spent = timed(lambda name=name, folder=folder: store.add(folder, name))
        cpu, wall = cpu + spent[0], wall + spent[1]
    return cpu, wall


def measure(
    store: DiskBlockStore, added: int, add_cpu: float, add_wall: float, rng: np.random.Generator
) -> Row:
    """Time everything once at the present size."""
    names = store.models()
    some = [names[i] for i in rng.integers(0, len(names), LOOKUPS)]
    ids = [store.manifest(name).block_ids()[-1] for name in some]
    block = timed(lambda: [store.info(i) for i in ids])[0]
    manifest = timed(lambda: [store.manifest(name) for name in some])[0]
    savings_s = timed(store.savings)[0]
    ls_s = timed(lambda: listing(store.disk))[0]
    family_s = timed(lambda: by_family(by_model(store.disk)))[0]
    open_s = timed(lambda: open_store(store.path).close())[0]
    gc_s = timed(lambda: store.gc(dry_run=True))[0]
    report = store.savings()
    return Row(
        models=len(names),
        blocks=report.blocks,
        add_ms=1e3 * add_cpu / added,
        add_wall_ms=1e3 * add_wall / added,
        block_us=1e6 * block / LOOKUPS,
        manifest_us=1e6 * manifest / LOOKUPS,
        open_ms=1e3 * open_s,
        ls_ms=1e3 * ls_s,
        savings_ms=1e3 * savings_s,
        family_ms=1e3 * family_s,
        gc_plan_ms=1e3 * gc_s,
        raw_mb=report.raw_bytes / 1e6,
        stored_mb=report.stored_bytes / 1e6,
        index_mb=store.disk.layout.index.stat().st_size / 1e6,
        disk_mb=report.disk_bytes / 1e6,
        disk_of_raw=report.disk_bytes / report.raw_bytes,
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def removals(store: DiskBlockStore) -> dict[str, float]:
    """CPU milliseconds of taking models away and back, for each model where there are several."""
    names = store.models()
    first, many = names[-1], list(names[-101:-1])
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "dependents": (lambda: store.trash.dependents_of(names[0]), 1),
        "rm one": (lambda: store.remove(first), 1),
        "restore one": (lambda: store.trash.restore(first), 1),
        "rm 100": (lambda: store.trash.put(many), 100),
        "restore 50": (lambda: [store.trash.restore(name) for name in many[:50]], 50),
        "forget one": (lambda: store.trash.forget(many[50:51]), 1),
        "forget 49": (lambda: store.trash.forget(many[51:]), 1),
        "gc": (store.gc, 1),
        "dry gc": (lambda: store.gc(dry_run=True), 1),
        "snapshot": (store.disk.take_snapshot, 1),
    }
    return {label: 1e3 * timed(call)[0] / count for label, (call, count) in calls.items()}


def lost_index(path: Path) -> dict[str, float]:
    """CPU milliseconds in which a lost index comes back, from its snapshot and from the packs."""
    found = {}
    for label in ("index from snapshot", "index from packs"):
        (path / "index.sqlite").unlink()
        found[label] = 1e3 * timed(lambda: open_store(path).close())[0]
        (path / "index.snapshot").unlink(missing_ok=True)
    return found


def end_alone(path: Path, root: Path) -> dict[str, object]:
    """Time the removals on a copy of a store."""
    shutil.copytree(path, root / "store")
    with open_store(root / "store") as store:
        models = len(store.models())
        found = removals(store)
    return {"models": models, "removals_ms": found | lost_index(root / "store")}


def exponent(rows: list[Row], field: str) -> float:
    """Slope of a cost over the number of models, both logarithmic: 0 is flat, 1 is linear."""
    x = np.log([row.models for row in rows])
    y = np.log([max(1e-9, getattr(row, field)) for row in rows])
    return float(np.polyfit(x, y, 1)[0])


def run(
    num_models: int, num_adapters: int, num_bases: int, root: Path, keep: Path | None = None
) -> dict[str, object]:
    """Grow a store step by step, then shrink it."""
    rng = np.random.default_rng(0)
    total = num_models + num_adapters
    step = math.ceil(total / 10)
    rows: list[Row] = []
    with open_store(root / "store") as store:
        for start in range(0, total, step):
            numbers = range(start, min(total, start + step))
            cpu, wall = add_models(store, root, numbers, num_models, num_bases)
            rows.append(measure(store, len(numbers), cpu, wall, rng))
            print_row(rows[-1], header=len(rows) == 1)
        if keep is not None:
            shutil.copytree(store.path, keep)
        end = removals(store)
        gone = store.models()[::10]
        remove = timed(lambda: [store.remove(name, trash=False) for name in gone])
        gc = timed(store.gc)
        left = store.verify(sample=0.02, rng=rng)
        store.disk.take_snapshot()
    end |= lost_index(root / "store")
    costs = ("add_ms", "block_us", "manifest_us", "open_ms", "ls_ms", "savings_ms", "family_ms", "gc_plan_ms")
    slopes = {field: exponent(rows, field) for field in costs}
    return {
        "command": " ".join(["bench_scale.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "rows": [asdict(row) for row in rows],
        "growth_exponents": slopes,
        "removed_models": len(gone),
        "remove_ms": 1e3 * remove[0] / len(gone),
        "gc_s": gc[0],
        "removals_ms": end,
        "verified": left.ok,
    }


def print_row(row: Row, header: bool) -> None:
    """One line of the table."""
    cells = asdict(row)
    if header:
        print(" ".join(f"{name:>12}" for name in cells))
    print(
        " ".join(f"{value:12.0f}" if value > 99 else f"{value:12.2f}" for value in cells.values()), flush=True
    )


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1,000 models over 20 bases")
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--adapters", type=int, default=0)
    parser.add_argument("--bases", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    parser.add_argument("--keep", type=Path, help="keep a copy of the whole store there")
    parser.add_argument("--store", type=Path, help="time only the removals, on a copy of this store")
    arguments = parser.parse_args()
    own = (arguments.models, arguments.adapters, arguments.bases)
    size = (1000, 0, 20) if arguments.quick else own
    root = Path(tempfile.mkdtemp(prefix="bench-scale-", dir=arguments.folder))
    try:
        if arguments.store is not None:
            print(json.dumps(end_alone(arguments.store, root), indent=1))
            return
        result = run(*size, root, arguments.keep)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))
    RESULTS.mkdir(exist_ok=True)
    kind = "scale_quick" if arguments.quick else "scale_adapters" if arguments.adapters else "scale"
    name = f"{kind}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
