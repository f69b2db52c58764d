"""Serving a store beside nginx, olah and http.server: rates, processor time, memory, and bytes on the wire.

Run: `python tests/benchmarks/bench_serve.py [--quick] [--only rates|cold|clients|bytes]...`. The models are
the small zoo. nginx comes from Debian (`make serve-peers`), olah and granian from PyPI into environments of
their own (granian runs our application, which uvicorn runs otherwise); what cannot be had is left out with
a line. Every server has one worker and the same files, warm; rounds alternate between servers, medians are
shown. Rates on a busy machine say little: processor time per GB, and its ratio to that of nginx in the same
rounds, say more. Clients throw bodies away in the kernel; what is served is compared with the files once.
Bytes are counted on the sockets by a relay before the server.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import serve_peers
from serve_bytes import wire_bytes
from serve_peers import Server, Skipped

from demo.zoo import build_zoo
from pbstore import open_store
from pbstore.manifest import FileEntry
from tests.pbstore.serve.clients import PULL, run_client

RESULTS = Path(__file__).parent / "results" / "serve.json"
SECTIONS = ("rates", "cold", "clients", "bytes")
CLIENTS = 64
RANGES = {"1 MiB": 1 << 20, "4 MiB": 4 << 20, "16 MiB": 16 << 20, "whole files": 0}
UNITS = {"cpu_s_per_gb": "CPU-s/GB", "p50_ms": "ms p50", "p99_ms": "ms p99", "rss_mb": "MB RSS"}
HOT = 3
"""Models that are served hot."""
Models = dict[str, Path]
CHECKOUT = """
import json, os, sys, time
from pathlib import Path
from pbstore import open_store
import pbstore.codecs
with open_store(sys.argv[1], read_only=True) as store:
    start, before = time.perf_counter(), sum(os.times()[:2])
    for name in sys.argv[3:]:
        store.checkout(name, Path(sys.argv[2]) / name)
    print(json.dumps([time.perf_counter() - start, sum(os.times()[:2]) - before]))
"""


def zoo_models() -> Models:
    """Whole models of the zoo that share blocks, the base first."""
    found = {one.name: one.folder for one in build_zoo("small", progress=False)}
    whole = {name: path for name, path in found.items() if (path / "model.safetensors").exists()}
    minilm = {name: path for name, path in whole.items() if "minilm" in name.lower()}
    return {f"zoo/{name.rpartition('/')[2]}": path for name, path in minilm.items()}


def large_files(store: Path, names: Sequence[str]) -> list[tuple[str, FileEntry]]:
    with open_store(store, read_only=True) as opened:
        return [
            (name, file)
            for name in names
            for file in opened.manifest(name).files
            if file.size_bytes > 1 << 20
        ]


def make_store(work: Path, models: Models, form: str) -> Path:
    store = work / f"store-{form}"
    with open_store(store, durable=False) as opened:
        for name, folder in models.items():
            opened.add(folder, name, form=form)
    return store


def taken(server: Server, name: str, file: FileEntry) -> bytearray:
    """A file as one reader takes it, into memory that is there: what a client adds to the time is little."""
    content = bytearray(file.size_bytes)
    room = memoryview(content)
    with urllib.request.urlopen(server.url + server.path(name, file.path), timeout=120) as answer:
        while room and (count := answer.readinto(room[: 1 << 20])):
            room = room[count:]
    return content


def is_right(content: bytearray, file: FileEntry) -> bool:
    """Whether a file came as it was added."""
    return hashlib.sha256(content).hexdigest() == file.sha256


def fetched(server: Server, name: str, file: FileEntry) -> bool:
    """Whether a file comes as it was added; it is warm afterwards."""
    return is_right(taken(server, name, file), file)


def loaded(
    server: Server, files: Sequence[tuple[str, FileEntry]], count: int, seconds: float
) -> dict[str, Any]:
    """One round of load: what the clients saw, and what the server spent."""
    job = {
        "host": "127.0.0.1",
        "port": server.port,
        "clients": CLIENTS,
        "seconds": seconds,
        "range_bytes": count,
        "files": [(server.path(name, file.path), file.size_bytes) for name, file in files],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as handle:
        json.dump(job, handle)
        handle.flush()
        before = server.cpu_s()
        command = [sys.executable, str(Path(__file__).with_name("serve_load.py")), handle.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    spent = server.cpu_s() - before
    rate = found["bytes"] / found["wall_s"] / 1e6
    return {
        "mb_s": rate,
        "cpu_s_per_gb": spent / found["bytes"] * 1e9 if found["bytes"] else None,
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "rss_mb": server.rss_bytes() / 1e6,
    }


@contextmanager
def servers(work: Path, store: Path, files: Path, large: Sequence[tuple[str, FileEntry]]) -> Iterator[Any]:
    """All servers that can be had, and why others cannot."""
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        found = {"pbcast": stack.enter_context(serve_peers.ours(store, work))}
        upstream = found["pbcast"].url
        wanted = [(name, file.path) for name, file in large]
        makers = {
            "pbcast, a node": lambda: serve_peers.ours(work / "node", work, "--upstream", upstream),
            "pbcast on granian": lambda: serve_peers.granian(store, work),
            "nginx": lambda: serve_peers.nginx(files, work),
            "olah": lambda: serve_peers.olah(upstream, wanted, work),
            "http.server": lambda: serve_peers.http_server(files, work),
        }
        for name, make in makers.items():
            try:
                found[name] = stack.enter_context(make())
            except (Skipped, OSError) as error:
                skipped[name] = str(error)
                print(f"  {name} is left out: {error}", file=sys.stderr)
        yield found, skipped


def bench_rates(work: Path, models: Models, quick: bool) -> dict[str, Any]:
    """Many range readers of warm hot models."""
    hot = dict(list(models.items())[:HOT])
    store, plain = make_store(work, hot, "hot"), work / "plain"
    with open_store(store, read_only=True) as opened:
        for name in hot:
            opened.checkout(name, plain / name)
    large, rows, against = large_files(store, list(hot)), [], {}
    with servers(work, store, plain, large) as (found, skipped):
        right = {peer: all(fetched(server, *one) for one in large) for peer, server in found.items()}
        for label, count in RANGES.items():
            rounds: dict[str, list[dict[str, Any]]] = {peer: [] for peer in found}
            for _ in range(2 if quick else 5):
                for peer, server in found.items():
                    if server.has_ranges or not count:
                        rounds[peer].append(loaded(server, large, count, 1.5 if quick else 4.0))
            rows += [
                {"server": peer, "range": label, "bytes_right": right[peer], **medians(each)}
                for peer, each in rounds.items()
                if each
            ]
            print_rates([row for row in rows if row["range"] == label])
            if "nginx" in found:
                against[label] = against_nginx(rounds)
                print(f"  {label:12} " + json.dumps(against[label]), flush=True)
    return {"clients": CLIENTS, "rows": rows, "skipped": skipped, "against_nginx": against}


def medians(rounds: Sequence[dict[str, Any]]) -> dict[str, float]:
    keys = rounds[0].keys()
    values = {key: [one[key] for one in rounds if one[key] is not None] for key in keys}
    found = {key: statistics.median(each) for key, each in values.items() if each}
    return {**found, "rss_mb": max(one["rss_mb"] for one in rounds)}


def against_nginx(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Ours to nginx, medians over pairs of rounds: rate, and bytes for each second of processor time."""
    pairs = list(zip(rounds["pbcast"], rounds["nginx"], strict=True))
    spent = [nginx["cpu_s_per_gb"] / ours["cpu_s_per_gb"] for ours, nginx in pairs]
    return {
        "rate": round(statistics.median(ours["mb_s"] / nginx["mb_s"] for ours, nginx in pairs), 3),
        "bytes_per_cpu_s": round(statistics.median(spent), 3),
    }


def print_rates(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        shown = [f"{row['range']:12} {row['server']:12} {row['mb_s']:7.0f} MB/s"]
        for key, unit in UNITS.items():
            shown.append(f"{row[key]:9.3f} {unit}" if key in row else f"        - {unit}")
        print("  " + "  ".join(shown))


def bench_cold(work: Path, models: Models, quick: bool) -> dict[str, Any]:
    """Cold models through a server that has decoded nothing, beside the store's own checkout."""
    store = make_store(work, models, "cold")
    large = large_files(store, list(models))
    total = sum(file.size_bytes for _, file in large)
    rounds = []
    for number in range(1 if quick else 5):
        command = [sys.executable, "-c", CHECKOUT, str(store), str(work / f"out-{number}"), *models]
        environment = {**os.environ, "PYTHONPATH": str(serve_peers.ROOT)}
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        checkout_s, checkout_cpu = json.loads(told.stdout)
        with serve_peers.ours(store, work) as server:
            idle, start = server.cpu_s(), time.perf_counter()
            contents = [taken(server, *one) for one in large]  # hashed below: no server waits for its reader
            served_s, served_cpu = time.perf_counter() - start, server.cpu_s() - idle
            rss = server.rss_bytes() / 1e6
        right = [is_right(content, file) for content, (_, file) in zip(contents, large, strict=True)]
        rounds.append(
            {
                "checkout_mb_s": total / checkout_s / 1e6,
                "checkout_mb_per_cpu_s": total / checkout_cpu / 1e6,
                "served_mb_s": total / served_s / 1e6,
                "served_mb_per_cpu_s": total / served_cpu / 1e6,
                "served_to_checkout": checkout_s / served_s,
                "served_to_checkout_per_cpu_s": checkout_cpu / served_cpu,
                "rss_mb": rss,
                "bytes_right": all(right),
            }
        )
    found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    print("  cold: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()))
    return found


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bench_clients(work: Path, models: Models, quick: bool) -> dict[str, Any]:
    """The unmodified client of the Hub, with and without Xet."""
    name = next(iter(models))
    store = make_store(work, {name: models[name]}, "hot")
    total = sum(path.stat().st_size for path in models[name].rglob("*") if path.is_file())
    found = {}
    with serve_peers.ours(store, work) as server:
        for label, more in {"http": {"HF_HUB_DISABLE_XET": "1"}, "xet": {}}.items():
            rounds = []
            for number in range(1 if quick else 3):
                before, start, spent = children_cpu(), time.perf_counter(), server.cpu_s()
                run_client(PULL, server.url, work / f"home-{label}-{number}", name, **more)
                seconds = time.perf_counter() - start
                rounds.append((total / seconds / 1e6, children_cpu() - before, server.cpu_s() - spent))
            rate, client, spent = (statistics.median(values) for values in zip(*rounds, strict=True))
            found[label] = {"mb_s": rate, "client_cpu_s": client, "server_cpu_s": spent, "mb": total / 1e6}
            print(
                f"  hf client, {label}: {rate:.0f} MB/s, client {client:.2f} CPU-s, server {spent:.2f} CPU-s"
            )
    return found


def bench_bytes(work: Path, models: Models, quick: bool) -> dict[str, Any]:
    """Bytes on the wire, by each of the ways to a client."""
    return wire_bytes(work, make_store(work, models, "cold"), list(models))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="one part; can be given again")
    arguments = parser.parse_args()
    models = zoo_models()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for section in arguments.only or SECTIONS:
        print(f"{section}:")
        with tempfile.TemporaryDirectory(prefix="pbcast-serve-") as work:
            found[section] = globals()[f"bench_{section}"](Path(work), models, arguments.quick)
        found[section] |= {"quick": arguments.quick, "machine": machine()}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
