"""What each kind of edit adds to a store that holds what it was made of, ours beside its peers.

Run: `python tests/benchmarks/bench_edits.py [--quick] [--only KIND]... [--peer NAME]... [--out FILE]`. The
store holds MiniLM and a fine-tune of it by another author, real weights both. Bytes that the edit adds, and
the speed of the put by the wall clock, in one run; ours is checked out again and compared byte for byte. A
peer that has no difference to any stored model (zipnn) adds what the edit takes by itself. `--quick` takes
ours and tensor dedup. Peers come as in `bench_store.py`; those that cannot be installed are left out with a
line.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_store import PINNED, install_tools, lacking, peers_python
from edit_kinds import KINDS, Sources
from peers import PEERS, same_folders, stored_bytes

from demo.zoo import build_zoo, cache_root

COMPARED = (
    "pbstore cold",
    "pbstore thorough",
    "tensors",
    "xet",
    "lmzip append",
    "casync",
    "borg",
    "restic",
    "zipnn",
)
OURS = "pbstore cold"
QUICK = (OURS, "tensors")
RESULTS = Path(__file__).parent / "results" / "edits.json"
TIE = 1.01
"""Sizes within a hundredth are equal."""


def sources() -> Sources:
    """Folders of the zoo."""
    found = {model.name: model.folder for model in build_zoo("small")}

    def named(part: str) -> Path:
        return next(folder for name, folder in found.items() if part in name)

    return Sources(named("all-MiniLM-L6-v2"), named("sre-embedding-model"), named("minilm-tweets"))


def run(peer: str, action: str, job: dict[str, Any], python: Path) -> float:
    """Seconds of one action in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "HF_HOME": str(Path(job["store"]).with_name("hf")),
    }
    environment["PATH"] = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(job, handle)
        handle.flush()
        command = [str(python), str(Path(__file__).with_name("peers.py")), peer, action, handle.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{peer} could not {action}: exit {done.returncode}")
    return float(json.loads(done.stdout.splitlines()[-1])["wall_s"])


def measured(peer: str, store: Path, name: str, folder: Path, python: Path) -> tuple[int, float]:
    """Bytes that a put adds, and its seconds."""
    before = stored_bytes(store) if store.exists() else 0
    job: dict[str, Any] = {"store": str(store), "out": "", "models": {name: str(folder)}}
    seconds = run(peer, "put", job, python)
    return stored_bytes(store) - before, seconds


def filled(peer: str, store: Path, models: dict[str, Path], python: Path) -> None:
    """A store with some models in it."""
    for name, folder in models.items():
        measured(peer, store, name, folder, python)


def came_back(store: Path, name: str, folder: Path, work: Path, python: Path) -> bool:
    """Whether our store gives every byte again."""
    out = work / "out"
    run(OURS, "get", {"store": str(store), "out": str(out), "models": {name: str(folder)}}, python)
    same = same_folders(folder, out / name)
    shutil.rmtree(out)
    return same


def bench_kind(
    kind: str, made: Sources, peers: list[str], stores: dict[str, Path], work: Path, python: Path
) -> dict[str, Any]:
    """One row: bytes added and megabytes a second, by peer."""
    edit, before = work / "edit", work / "before"
    KINDS[kind].make(made, edit)
    first = KINDS[kind].first
    if first is not None:
        first(made, before)
    raw = stored_bytes(edit)
    row: dict[str, Any] = {"kind": kind, "raw_bytes": raw, "added": {}, "mb_s": {}}
    for peer in peers:
        store = work / "store"
        shutil.copytree(stores[peer], store)
        for side in ("borg", "restic"):  # their caches lie beside their stores
            if (held := stores[peer].with_name(f"{stores[peer].name}-{side}")).exists():
                shutil.copytree(held, work / f"store-{side}")
        try:
            if first is not None:
                measured(peer, store, "before", before, python)
            added, seconds = measured(peer, store, "edit", edit, python)
            row["added"][peer], row["mb_s"][peer] = added, round(raw / 1e6 / seconds, 1)
            if peer == OURS:
                row["exact"] = came_back(store, "edit", edit, work, python)
        except RuntimeError as error:
            row.setdefault("failed", {})[peer] = str(error)
        for path in work.glob("store*"):
            shutil.rmtree(path)
    for path in (edit, before):
        shutil.rmtree(path, ignore_errors=True)
    return row


def behind(row: dict[str, Any]) -> list[str]:
    """Peers that add less than ours, beyond a tie."""
    ours = row["added"].get(OURS)
    if ours is None:
        return list(row["added"])
    others = {peer: size for peer, size in row["added"].items() if not peer.startswith("pbstore")}
    return [peer for peer, size in others.items() if ours > max(TIE * size, size)]


def table(rows: list[dict[str, Any]], peers: list[str]) -> str:
    """Markdown: bytes added in MB, and the speed of ours and of the fastest peer."""
    lines = [f"| kind | raw | {' | '.join(peers)} | MB/s |", "|---" * (len(peers) + 3) + "|"]
    for row in rows:
        cells = []
        for peer in peers:
            added = row["added"].get(peer)
            cells.append("-" if added is None else f"{added / 1e6:.3f}")
        mark = "" if not (ahead := behind(row)) else f" (behind {', '.join(ahead)})"
        cells.append(f"{row['mb_s'].get(OURS, 0):.0f}")
        lines.append(f"| {row['kind']}{mark} | {row['raw_bytes'] / 1e6:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ours and tensor dedup only")
    parser.add_argument("--only", action="append", choices=list(KINDS), help="default: all kinds")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all that are compared")
    parser.add_argument("--work", type=Path, default=None, help="where stores are made")
    parser.add_argument("--out", type=Path, default=None, help=f"JSON file (a full run: {RESULTS})")
    options = parser.parse_args()
    wanted = options.peer or (QUICK if options.quick else COMPARED)
    needs_peers = any(not peer.startswith(("pbstore", "tensors")) for peer in wanted)
    python = peers_python() if needs_peers else Path(sys.executable)
    if needs_peers:
        install_tools()
    path = f"{python.parent}:{__import__('os').environ.get('PATH', '')}"
    peers = [
        peer for peer in wanted if not (reason := lacking(PEERS[peer], path)) or print(f"{peer}: {reason}")
    ]
    made = sources()
    rows: list[dict[str, Any]] = []
    complete = not options.only and not options.peer and not options.quick
    out = options.out or (RESULTS if complete else None)
    with tempfile.TemporaryDirectory(dir=options.work or cache_root()) as folder:
        work = Path(folder)
        stores = {peer: work / "filled" / peer.replace(" ", "-") for peer in peers}
        for peer in list(peers):
            stores[peer].parent.mkdir(exist_ok=True)
            filled(peer, stores[peer], {"base": made.base, "tuned": made.tuned}, python)
        for kind in options.only or list(KINDS):
            start = time.perf_counter()
            rows.append(bench_kind(kind, made, peers, stores, work, python))
            print(
                table(rows[-1:], peers).splitlines()[-1], f"{time.perf_counter() - start:.0f} s", flush=True
            )
            if out is not None:  # after each row: a long run that is ended early has what it has
                meta = {"machine": platform.processor() or platform.machine(), "peers": PINNED}
                out.write_text(json.dumps({**meta, "rows": rows}, indent=1) + "\n")
    print(table(rows, peers))


if __name__ == "__main__":
    main()
