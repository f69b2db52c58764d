"""What each kind of edit adds to a store that holds what it was made of, ours beside its peers.

Run: `python tests/benchmarks/bench_edits.py [--quick] [--only KIND]... [--peer NAME]... [--again]`. The
store holds MiniLM and a fine-tune of it by another author, real weights both. Bytes that the edit adds,
and the megabytes of it that are put in a second, by the wall clock and by a second of processor; ours is
checked out again and compared byte for byte. A peer that has no difference to any stored model (zipnn) adds
what the edit takes by itself. `--quick` takes ours and tensor dedup. Peers come as in `bench_store.py`; those
that cannot be installed are left out with a line.

The file has a cell for each kind and peer, written as soon as it is known: an interrupted run goes on where
it was, and `--again` measures anew what is named. `--table` prints the file and measures nothing.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench_store import PINNED, install_tools, lacking, peers_python
from edit_kinds import KINDS, Sources
from peers import PEERS, same_folders, stored_bytes

from demo.zoo import build_zoo, cache_root

COMPARED = ("pbstore cold", "tensors", "xet", "lmzip append", "casync", "borg", "restic", "zipnn")
OURS = "pbstore cold"
QUICK = (OURS, "tensors")
RESULTS = Path(__file__).parent / "results" / "edits.json"
TIE = 1.01
"""Sizes within a hundredth are equal."""
CLOCK_S = 0.01
"""Processor time is known to no less."""
Row = dict[str, Any]
"""`kind`, `raw_bytes`; by peer `added` in bytes, `mb_s` and `mb_cpu_s`; `exact`; by peer why it `failed`."""


def sources() -> Sources:
    """Folders of the zoo."""
    found = {model.name: model.folder for model in build_zoo("small")}

    def named(part: str) -> Path:
        return next(folder for name, folder in found.items() if part in name)

    return Sources(named("all-MiniLM-L6-v2"), named("sre-embedding-model"), named("minilm-tweets"))


def run(peer: str, action: str, job: dict[str, Any], python: Path) -> dict[str, float]:
    """Costs of one action in a process of its own."""
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
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def put(peer: str, store: Path, name: str, folder: Path, python: Path) -> tuple[int, dict[str, float]]:
    """Bytes that a put adds, and its costs."""
    before = stored_bytes(store) if store.exists() else 0
    job: dict[str, Any] = {"store": str(store), "out": "", "models": {name: str(folder)}}
    costs = run(peer, "put", job, python)
    return stored_bytes(store) - before, costs


def came_back(store: Path, name: str, folder: Path, work: Path, python: Path) -> bool:
    """Whether our store gives every byte again."""
    out = work / "out"
    run(OURS, "get", {"store": str(store), "out": str(out), "models": {name: str(folder)}}, python)
    same = same_folders(folder, out / name)
    shutil.rmtree(out)
    return same


def bench_cell(
    row: Row, peer: str, edit: Path, before: Path | None, filled: Path, work: Path, python: Path
) -> None:
    """Put one edit into a copy of a peer's store."""
    store = work / "store"
    shutil.copytree(filled, store)
    for side in ("borg", "restic"):  # their caches lie beside their stores
        if (held := filled.with_name(f"{filled.name}-{side}")).exists():
            shutil.copytree(held, work / f"store-{side}")
    try:
        if before is not None:
            put(peer, store, "before", before, python)
        added, costs = put(peer, store, "edit", edit, python)
        row["added"][peer] = added
        for key, seconds in (("mb_s", costs["wall_s"]), ("mb_cpu_s", costs["cpu_s"])):
            row[key][peer] = round(row["raw_bytes"] / 1e6 / max(seconds, CLOCK_S), 1)
        if peer == OURS:
            row["exact"] = came_back(store, "edit", edit, work, python)
    except RuntimeError as error:
        row["failed"][peer] = str(error)
    for path in work.glob("store*"):
        shutil.rmtree(path)


def bench_kind(
    row: Row, made: Sources, peers: Sequence[str], stores: dict[str, Path], work: Path, python: Path
) -> Iterable[str]:
    """Fill the cells of one row; each peer when it is done."""
    edit, before = work / "edit", work / "before"
    kind = KINDS[row["kind"]]
    kind.make(made, edit)
    if kind.first is not None:
        kind.first(made, before)
    if row["raw_bytes"] != (raw := stored_bytes(edit)):
        row.update(empty_row(row["kind"]), raw_bytes=raw)  # the edit is another one than it was
    for peer in peers:
        for cells in (row["added"], row["mb_s"], row["mb_cpu_s"], row["failed"]):
            cells.pop(peer, None)
        bench_cell(row, peer, edit, before if kind.first else None, stores[peer], work, python)
        yield peer
    for path in (edit, before):
        shutil.rmtree(path, ignore_errors=True)


def empty_row(kind: str) -> Row:
    """A row without figures."""
    return {"kind": kind, "raw_bytes": 0, "added": {}, "mb_s": {}, "mb_cpu_s": {}, "failed": {}}


def behind(row: dict[str, Any]) -> list[str]:
    """Peers that add less than ours, beyond a tie."""
    ours = row["added"].get(OURS)
    if ours is None:
        return list(row["added"])
    others = {peer: size for peer, size in row["added"].items() if not peer.startswith("pbstore")}
    return [peer for peer, size in others.items() if ours > max(TIE * size, size)]


def table(rows: Sequence[Row], peers: Sequence[str], what: str = "added") -> str:
    """Markdown: one row a kind, one column a peer, MB added or MB of the edit a second."""
    heads = ("kind", "raw", *peers)
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        found = [row[what].get(peer) for peer in peers]
        cells = [
            "-" if one is None else f"{one / 1e6:.3f}" if what == "added" else f"{one:.0f}" for one in found
        ]
        mark = "" if what != "added" or not (ahead := behind(row)) else f" (behind {', '.join(ahead)})"
        lines.append(f"| {row['kind']}{mark} | {row['raw_bytes'] / 1e6:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def known_rows(path: Path | None) -> dict[str, Row]:
    """Rows of an earlier run, by kind, in the order of the kinds."""
    found = {} if path is None or not path.exists() else json.loads(path.read_text())
    rows = {row["kind"]: {**empty_row(row["kind"]), **row} for row in found.get("rows", [])}
    return {kind: rows.get(kind, empty_row(kind)) for kind in KINDS}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """The file anew, in place of the old one at once."""
    meta = {"machine": platform.processor() or platform.machine(), "peers": PINNED}
    measured = [row for row in rows if row["added"] or row["failed"]]
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**meta, "rows": measured}, indent=1) + "\n")
    part.replace(path)


def available(wanted: Sequence[str]) -> tuple[list[str], Path]:
    """Peers that can be run here, and the Python that runs them."""
    needs_peers = any(not peer.startswith(("pbstore", "tensors")) for peer in wanted)
    python = peers_python() if needs_peers else Path(sys.executable)
    if needs_peers:
        install_tools()
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    reasons = {peer: lacking(PEERS[peer], path) for peer in wanted}
    for peer, reason in reasons.items():
        if reason:
            print(f"{peer} is left out: {reason}", file=sys.stderr)
    return [peer for peer, reason in reasons.items() if not reason], python


def bench(rows: dict[str, Row], kinds: Sequence[str], options: argparse.Namespace, out: Path | None) -> None:
    """Measure the cells that are wanted and not known."""
    wanted = options.peer or (QUICK if options.quick else COMPARED)
    peers, python = available(wanted)
    open_cells = {
        kind: [one for one in peers if options.again or one not in rows[kind]["mb_cpu_s"]] for kind in kinds
    }
    made = sources()
    with tempfile.TemporaryDirectory(dir=options.work or cache_root()) as folder:
        work = Path(folder)
        stores = {peer: work / "filled" / peer.replace(" ", "-") for peer in peers}
        (work / "filled").mkdir()
        for peer in sorted({peer for cells in open_cells.values() for peer in cells}):
            for name, source in (("base", made.base), ("tuned", made.tuned)):
                put(peer, stores[peer], name, source, python)
        for kind, cells in open_cells.items():
            for _ in bench_kind(rows[kind], made, cells, stores, work, python) if cells else ():
                if out is not None:
                    write_rows(out, rows.values())
            print(table([rows[kind]], wanted).splitlines()[-1], flush=True)


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ours and tensor dedup only, written nowhere")
    parser.add_argument("--only", action="append", choices=list(KINDS), help="default: all kinds")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all that are compared")
    parser.add_argument("--again", action="store_true", help="measure what the file has, too")
    parser.add_argument("--table", action="store_true", help="print the file, measure nothing")
    parser.add_argument("--work", type=Path, default=None, help="where stores are made")
    parser.add_argument("--out", type=Path, default=None, help=f"JSON file (default: {RESULTS})")
    options = parser.parse_args()
    out = options.out or (None if options.quick else RESULTS)
    rows, kinds = known_rows(out), options.only or list(KINDS)
    if not options.table:
        bench(rows, kinds, options, out)
    peers = options.peer or (QUICK if options.quick else COMPARED)
    for what, title in (("added", "MB added"), ("mb_cpu_s", "MB of the edit a second of processor")):
        print(f"\n{title}\n\n{table([rows[kind] for kind in kinds], peers, what)}")


if __name__ == "__main__":
    main()
