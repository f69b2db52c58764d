"""Stores of checkpoints side by side: stored bytes, put, get, CPU, peak RSS, every file compared, edits.

Run: `python tests/benchmarks/bench_store.py [--quick] [--family one|two]... [--peer NAME]... [--runs N]`.
`--quick` takes the small zoo in place of the trained families (`family.py` makes those first: about an hour).
Peers from PyPI go into an environment of their own in the cache, at pinned versions; borg, restic and casync
come from Debian when this is run as root, else they are left out with a line. The page cache is warm; the
disk is at rest and memory at hand before each action. Without options: all peers, both families, a JSON file
and a picture each.
"""

import argparse
import ctypes
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from environment import make_environment
from family import FAMILIES, make_family
from peers import PEERS, Peer, same_folders, stored_bytes
from store_report import RESULTS, Catalog, Cost, Row, report, table_line

from demo.zoo import build_zoo, cache_root

PINNED = ("hf-xet==1.8.0", "lmzip==1.3.0", "zipnn==0.5.4", "tensorfs==0.17.2")
AT_HAND_BYTES = 3 << 30
"""More than any peer needs, what it writes included."""
DEBIAN = {"borg": "borgbackup", "restic": "restic", "casync": "casync"}


def peers_python() -> Path:
    """Python of the peers' own environment; it sees the packages of this one: torch is not fetched again."""
    home = cache_root() / "peers" / "-".join(PINNED).replace("==", "_")

    def install(pip: list[str]) -> None:
        print(f"making the peers' environment: {', '.join(PINNED)}", file=sys.stderr)
        subprocess.run([*pip, *PINNED], check=True)

    return make_environment(home, install)


def install_tools() -> None:
    """Debian's backup tools, where we may install them."""
    missing = [package for tool, package in DEBIAN.items() if shutil.which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", *missing], check=False, stdout=subprocess.DEVNULL)


def lacking(peer: Peer, path: str) -> str | None:
    """Why a peer cannot be run here, or None."""
    absent = [tool for tool in peer.tools if shutil.which(tool, path=path) is None]
    return f"{', '.join(absent)} is not installed" if absent else None


def settle() -> None:
    """Let the disk come to rest, and see to it that free memory is there when it is first written to.

    A virtual machine hands free memory back to its host, and gets it again at 0.3 to 1 GB/s: whoever runs
    first after a pause would pay for it.
    """
    os.sync()
    with mmap.mmap(-1, AT_HAND_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        start = ctypes.c_char.from_buffer(pages)
        ctypes.memset(ctypes.addressof(start), 1, AT_HAND_BYTES)
        del start  # or the map cannot be closed


def measured(peer: str, action: str, job: dict[str, Any], python: Path) -> Cost:
    """Run one action in a process of its own; its costs are without those of its imports."""
    settle()
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    environment["HF_HOME"] = str(Path(job["store"]).with_name("hf"))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(job, handle)
        handle.flush()
        command = [str(python), str(Path(__file__).with_name("peers.py")), peer, action, handle.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{peer} could not {action}: exit {done.returncode}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def bench_peer(peer: str, catalog: Catalog, work: Path, python: Path) -> Row:
    """Put every model, get every model back, compare, then put the edits one by one."""
    store, out = work / "store", work / "out"
    models = {name: str(folder) for name, folder in catalog.models.items()}
    job = {"store": str(store), "out": str(out), "models": models}
    put = measured(peer, "put", job, python)
    stored = stored_bytes(store)
    get = measured(peer, "get", job, python)
    exact = tuple(name for name, folder in catalog.models.items() if same_folders(folder, out / name))
    shutil.rmtree(out)
    edits = {}
    if PEERS[peer].grows:
        before = stored
        for name, folder in catalog.edits.items():
            measured(peer, "put", {**job, "models": {folder.name: str(folder)}}, python)
            after = stored_bytes(store)
            edits[name], before = after - before, after
        for number, (name, (first, second)) in enumerate(catalog.alone.items()):
            lone = {**job, "store": str(work / f"alone{number}")}
            sizes = []
            for folder in (first, second):
                measured(peer, "put", {**lone, "models": {folder.name: str(folder)}}, python)
                sizes.append(stored_bytes(Path(lone["store"])))
            edits[name] = sizes[1] - sizes[0]
    return Row(peer=peer, stored_bytes=stored, put=put, get=get, models=len(models), exact=exact, edits=edits)


def median_row(rows: Sequence[Row]) -> Row:
    """Medians of the costs over runs; sizes and exactness of the last run."""

    def middle(costs: list[Cost]) -> Cost:
        return Cost(
            wall_s=statistics.median(cost.wall_s for cost in costs),
            cpu_s=statistics.median(cost.cpu_s for cost in costs),
            peak_rss_bytes=max(cost.peak_rss_bytes for cost in costs),
        )

    last = rows[-1]
    return Row(
        peer=last.peer,
        stored_bytes=last.stored_bytes,
        put=middle([row.put for row in rows]),
        get=middle([row.get for row in rows]),
        models=last.models,
        exact=last.exact,
        edits=last.edits,
    )


def family_catalog(family: str) -> Catalog:
    """A trained family and its edits."""
    from edits import make_edits

    folder = make_family(family)
    models = {name: folder / name for name in FAMILIES[family]}
    base, copy, tuned, adapter = {
        "one": ("minilm-base", "minilm-bf16", "minilm-frozen-debsection", "minilm-lora-docmodule"),
        "two": ("sre-base", "sre-bf16", "sre-frozen-docmodule", "sre-lora-docmodule"),
    }[family]
    edits = make_edits(folder.with_name(f"{folder.name}-edits"), models[base], models[tuned], models[adapter])
    alone = {"bf16 copy of the base": (models[base], models[copy])}
    return Catalog(name=f"family {family}", models=models, edits=edits, alone=alone)


def without(catalog: Catalog, prefix: str) -> Catalog:
    """A catalog without some models: the de-quantised ones are easier than real ones (values on a grid)."""
    models = {name: folder for name, folder in catalog.models.items() if not name.startswith(prefix)}
    return Catalog(name=f"{catalog.name} without {prefix}", models=models, edits={})


def zoo_catalog() -> Catalog:
    """The small zoo, under short names."""
    models = {model.name.replace("/", "--"): model.folder for model in build_zoo("small")}
    return Catalog(name="small zoo", models=models, edits={})


def warm(catalog: Catalog) -> None:
    """Read every file once: the page cache has it then."""
    for folder in catalog.models.values():
        for path in folder.rglob("*"):
            if path.is_file():
                path.read_bytes()


def bench_catalog(
    catalog: Catalog, peers: Sequence[str], runs: int, python: Path, work: Path | None
) -> list[Row]:
    """All peers on one catalog; round by round, so that other load on the machine hits them alike."""
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    absent = {peer: reason for peer in peers if (reason := lacking(PEERS[peer], path))}
    warm(catalog)
    done: dict[str, list[Row]] = {peer: [] for peer in peers if peer not in absent}
    for _ in range(runs):
        for peer in list(done):
            try:
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    done[peer].append(bench_peer(peer, catalog, Path(folder), python))
            except RuntimeError as error:
                absent[peer] = str(error)
                del done[peer]
            else:
                print(table_line(done[peer][-1], catalog.raw_bytes), file=sys.stderr, flush=True)
    for peer, reason in absent.items():
        print(f"{peer} is left out: {reason}", file=sys.stderr)
    return [median_row(rows) for rows in done.values()]


def main() -> None:
    """Parse, measure, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small zoo, one run")
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="default: all")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=None, help="where stores are made (default: the temporary folder)"
    )
    parser.add_argument("--no-edits", action="store_true", help="whole models only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where JSON and the picture go")
    options = parser.parse_args()
    python = peers_python()
    install_tools()
    families = [] if options.quick else options.family or list(FAMILIES)
    catalogs = [family_catalog(one) for one in families] or [zoo_catalog()]
    if "one" in families:
        catalogs.append(without(catalogs[families.index("one")], "smol"))
    if options.no_edits:
        catalogs = [replace(catalog, edits={}, alone={}) for catalog in catalogs]
    for catalog in catalogs:
        rows = bench_catalog(catalog, options.peer or list(PEERS), options.runs, python, options.work)
        report(catalog, rows, options.runs, PINNED, options.out)


if __name__ == "__main__":
    main()
