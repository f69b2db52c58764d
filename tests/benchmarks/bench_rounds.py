"""Rounds of faults drawn by a seed, on every runtime, kept one by one: what was done is not done again.

    python tests/benchmarks/bench_rounds.py --runtime threads [--rounds 100] [--at-once 2] --out FOLDER

A round is three slots on three nodes and three users with three faults (`tests/demo/emulation/faulty.py`): it
is right if nothing wrong is delivered and every request is served in the end. FOLDER has a file of lines for
each runtime and version of the code; only rounds that are not there are lived, until the minutes are over.
"""

import argparse
import gc
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.emulation.faults.script import random_script
from tests.benchmarks.live_family import make_family
from tests.demo.emulation.faulty import NODES, SLOTS, USERS, faulty_round

ROOT = Path(__file__).resolve().parents[2]
LAYER_BYTES = 1 << 14
RAN = ("demo/emulation", "demo/jobs")
"""Folders whose code makes a round what it is."""


def version() -> str:
    """Of the code: rounds of another are not counted."""
    digest = hashlib.sha256()
    for folder in RAN:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def lived(store: Path, folder: Path, seed: int, runtime: str, at_once: int) -> dict[str, Any]:
    """One round."""
    began, said = time.monotonic(), ""
    try:
        told, good = faulty_round(store, folder, seed, runtime, at_once), True
    except Exception as error:
        told, good, said = "", False, f"{type(error).__name__}: {error}"[:500]
    faults = [f"{one.what} {one.place.split()[0]}" for one in random_script(seed, SLOTS, NODES, USERS)]
    return {
        **kept_alive(),
        "seed": seed,
        "good": good,
        "said": said,
        "told": told,
        "faults": faults,
        "seconds": round(time.monotonic() - began, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def kept_alive() -> dict[str, Any]:
    """What this process and its children have, when a round is over."""
    gc.collect()
    every = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        "rss_mb": round(sum(one.memory_info().rss for one in every) / 1e6, 1),
        "descriptors": sum(one.num_fds() for one in every),
        "threads": sum(one.num_threads() for one in every),
        "processes": len(every),
    }


def read(path: Path) -> dict[int, dict[str, Any]]:
    """Rounds that were lived, by seed; a line that a stop has torn is none."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows[row["seed"]] = row
    return rows


def tell(runtime: str, rows: dict[int, dict[str, Any]]) -> None:
    """Print what came of all rounds."""
    failed = {seed: row["said"] for seed, row in sorted(rows.items()) if not row["good"]}
    faults = Counter(fault for row in rows.values() for fault in row["faults"])
    spent = sum(row["seconds"] for row in rows.values())
    print(f"{runtime}, code {version()}: {len(rows)} rounds, {len(failed)} failed; {spent:.0f} s")
    print("  faults: " + ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items())))
    looks = [row for _, row in sorted(rows.items()) if "rss_mb" in row]
    looks = looks[:: max(1, len(looks) // 9)]
    for name in ("rss_mb", "descriptors", "threads", "processes"):
        print(f"  {name} after a round: {', '.join(str(row[name]) for row in looks)}")
    for seed, said in failed.items():
        print(f"  seed {seed}: {said}")


def main() -> None:
    """Live what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runtime", choices=("threads", "processes", "ray"), default="threads")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--at-once", type=int, default=1, help="objects on the air at once at most")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kind = options.runtime if options.at_once == 1 else f"{options.runtime}-{options.at_once}"
    kept, end = options.out / f"{kind}-{version()}.jsonl", time.monotonic() + 60 * options.minutes
    rows = read(kept)
    if options.runtime == "ray":  # one cluster for all rounds: to start one takes longer than a round
        from demo.emulation.runtime.ray_actors import STORE_BYTES, load_ray

        load_ray().init(
            address="local",
            num_cpus=0,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            include_dashboard=False,
            configure_logging=False,
        )
    with tempfile.TemporaryDirectory() as root, kept.open("a") as file:
        store = make_family(Path(root), LAYER_BYTES)
        for seed in range(options.first, options.first + options.rounds):
            if seed in rows or time.monotonic() > end:
                continue
            rows[seed] = lived(store, Path(root) / "out", seed, options.runtime, options.at_once)
            file.write(json.dumps(rows[seed]) + "\n")
            file.flush()
            shutil.rmtree(Path(root) / "out", ignore_errors=True)
    tell(kind, rows)


if __name__ == "__main__":
    main()
