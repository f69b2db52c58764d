"""A live edge for half an hour: memory, descriptors, threads, processes and disk, minute by minute.

    python tests/benchmarks/bench_soak.py [--minutes 30] [--pace 0.01] [--runtime threads] [--json FILE]

A store of made-up models on three nodes, four users who ask nearly every slot, slot after slot, with 2 % loss
on the air. The pace slows links and air down, so that it takes little of the processor. Counted over the
process and all its children; descriptors by what they are. FILE is written anew after every look.
"""

import argparse
import gc
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.jobs.emulate import emulate
from demo.jobs.emulate_config import EmulateConfig
from tests.benchmarks.live_family import make_family, slow_network

LAYER_BYTES = 1 << 14
KINDS = {
    "index": r"index\.sqlite",
    "hashes": r"hashes\.sqlite",
    "packs": r"\.pack$",
    "sockets": r"^socket:",
    "pipes and events": r"^(pipe|anon_inode):",
}


class Look:
    """What a process and its children have."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._process, self._began = folder, psutil.Process(), time.monotonic()
        self.slot = self.deliveries = 0
        self.rows: list[dict[str, Any]] = []

    def hear(self, event: object) -> None:
        """Take an event of the run."""
        self.slot = max(self.slot, getattr(event, "slot", 0))
        self.deliveries += type(event).__name__ == "Delivered"

    def take(self) -> dict[str, Any]:
        """Look, and keep what was seen."""
        gc.collect()
        every = [self._process, *self._process.children(recursive=True)]
        spent = [one.cpu_times() for one in every]
        row = {
            "minute": round((time.monotonic() - self._began) / 60, 2),
            "slots": self.slot + 1,
            "deliveries": self.deliveries,
            "rss_mb": round(sum(one.memory_info().rss for one in every) / 1e6, 1),
            "descriptors": sum(one.num_fds() for one in every),
            "kinds": dict(sum((kinds_of(one.pid) for one in every), Counter[str]())),
            "threads": sum(one.num_threads() for one in every),
            "processes": len(every),
            "disk_mb": round(disk_bytes(self._folder) / 1e6, 1),
            "cpu_s": round(sum(one.user + one.system for one in spent), 1),
            "load": round(os.getloadavg()[0], 1),
        }
        self.rows.append(row)
        return row


def kinds_of(pid: int) -> Counter[str]:
    """Descriptors of a process by what they are."""
    found: Counter[str] = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        found[next((kind for kind, mark in KINDS.items() if re.search(mark, target)), "others")] += 1
    return found


def disk_bytes(folder: Path) -> int:
    """Bytes on the disk below a folder, without the log."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.suffix != ".jsonl" else 0
        except OSError:
            continue
    return total


def left_over() -> dict[str, int]:
    """What this process has now."""
    gc.collect()
    one = psutil.Process()
    children = len(one.children(recursive=True))
    return {"descriptors": one.num_fds(), "threads": one.num_threads(), "children": children}


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run, and look once a minute."""
    with tempfile.TemporaryDirectory() as root:
        store, out = make_family(Path(root), LAYER_BYTES), Path(root) / "out"
        before, look, over = left_over(), Look(out / "network"), threading.Event()

        def watch() -> None:
            while not over.wait(60 * options.every):
                print(json.dumps(look.take()), flush=True)
                keep(options, look.rows)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        config = EmulateConfig(
            run=slow_network(store, 1),
            clients=0,
            minutes=options.minutes,
            pace=options.pace,
            runtime=options.runtime,
            loss=0.02,
        )
        report = emulate(config, out, progress=False, listener=look.hear)
        over.set()
        watcher.join()
    return {
        "rows": look.rows,
        "good": report.good,
        "deliveries": len(report.deliveries),
        "before": before,
        "after": left_over(),
    }


def keep(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Write what was seen so far."""
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=1.0, help="minutes between looks")
    parser.add_argument("--pace", type=float, default=0.01)
    parser.add_argument("--runtime", choices=("threads", "processes"), default="threads")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = soak(options)
    print(json.dumps({name: result[name] for name in result if name != "rows"}))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
