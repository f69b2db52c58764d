"""Models to and from an object store, beside plain puts and gets of the same files by the same client.

    python tests/benchmarks/bench_origin.py [--where ceph|file] [--mb 96]

A base and three fine-tunes of it, in which a tenth of the tensors differ a little, on Ceph's RADOS gateway
that the benchmark starts itself (`make origin-tools`), or in a folder. Wall seconds, medians of three
rounds, each into a place of its own; the peer is obstore's own multipart put and get of whole files.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import obstore

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pbstore import DiskBlockStore, open_store
from pbstore.serve.fetch import copies
from pbstore.serve.origin.objects import open_objects
from tests.pbstore.folders import write_model
from tests.pbstore.serve.origin.ceph import ceph, why_not
from tests.pbstore.serve.origin.kit import environment

NAMES = ("org/base", "org/tuned-1", "org/tuned-2", "org/tuned-3")
TENSORS = 20
ROUNDS = 3


def family(root: Path, megabytes: int) -> DiskBlockStore:
    rng = np.random.default_rng(7)
    rows = megabytes * 1_000_000 // (TENSORS * 4 * 1024)
    base = {f"layer.{n}.weight": rng.normal(0, 0.05, (rows, 1024)).astype(np.float32) for n in range(TENSORS)}
    store = open_store(root / "store", durable=False)
    for number, name in enumerate(NAMES):
        tensors = dict(base)
        for at in range(2 * (number - 1), 2 * number) if number else ():
            step = rng.normal(0, 1e-4, (rows, 1024)).astype(np.float32)
            tensors[f"layer.{at}.weight"] = base[f"layer.{at}.weight"] + step
        store.add(write_model(root / "models" / name, tensors), name=name)
    return store


@contextmanager
def place(where: str, root: Path) -> Iterator[str]:
    """URL of an empty place for each round, with `{}` for its number."""
    if where == "file":
        yield f"file://{root}/place-{{}}"
        return
    if reason := why_not():
        raise SystemExit(reason)
    (root / "ceph").mkdir()
    with ceph(root / "ceph") as cluster, environment(**cluster.environment):
        cluster.make_bucket("bucket")
        yield "s3://bucket/{}"


def timed(what: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def plain(root: Path, url: str, put: bool) -> None:
    bucket = open_objects(url)._bucket
    for file in sorted((root / "models").rglob("*.safetensors")):
        key = f"plain/{file.relative_to(root / 'models').as_posix()}"
        if put:
            obstore.put(bucket, key, file)
        else:
            for part in obstore.get(bucket, key).stream():
                len(part)


def pull(url: str, folder: Path) -> None:
    with open_store(folder, durable=False) as store:
        copies.sync(store, url, copies.PULL)


def rounds(root: Path, store: DiskBlockStore, url: str) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(ROUNDS):
        at = url.format(number)
        steps = {
            "push": lambda at=at: copies.sync(store, at, copies.PUSH),
            "pull": lambda at=at, n=number: pull(at, root / f"pulled-{n}"),
            "put": lambda at=at: plain(root, at, put=True),
            "get": lambda at=at: plain(root, at, put=False),
        }
        for name, step in steps.items():
            found.setdefault(name, []).append(timed(step))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", choices=("ceph", "file"), default="ceph")
    parser.add_argument(
        "--mb", type=int, default=96, help="size of each of four models; all rounds lie in memory"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bo") as folder:
        root = Path(folder)
        with family(root, options.mb) as store, place(options.where, root) as url:
            raw = sum(store.manifest(name).raw_bytes for name in NAMES)
            found = rounds(root, store, url)
            held = sum(one.size_bytes for one in open_objects(url.format(0)).list("packs/"))
            plain_held = sum(one.size_bytes for one in open_objects(url.format(0)).list("plain/"))
            stored = store.used_bytes
    print(f"{options.where}, {os.cpu_count()} cores, {raw / 1e6:.0f} MB in {len(NAMES)} models")
    result = {
        name: {
            "wall_s": median(wall for wall, _ in times),
            "cpu_s": median(cpu for _, cpu in times),
            "raw_mb_s": raw / 1e6 / median(wall for wall, _ in times),
        }
        for name, times in found.items()
    }
    for name, row in result.items():
        rate = f"{row['raw_mb_s']:7.0f} MB/s of raw files"
        print(f"{name:5} {row['wall_s']:6.2f} s  {row['cpu_s']:6.2f} CPU-s  {rate}")
    print(
        f"held: {held / 1e6:.1f} MB in packs ({stored / 1e6:.1f} in the store), {plain_held / 1e6:.1f} plain"
    )
    print(json.dumps({"raw_bytes": raw, "packs_bytes": held, "plain_bytes": plain_held, **result}))


if __name__ == "__main__":
    main()
