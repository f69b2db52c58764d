"""A node that is killed again and again while it serves, takes blocks and fetches: what must hold then."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from pbstore import open_store
from pbstore.blocks import RAW, StoredBlock
from pbstore.hashing import BlockId, hash_block
from pbstore.serve.fetch.http_source import HttpNode
from pbstore.serve.fetch.source import SourceError
from tests.pbstore.serve.stores import family_folders

COMMAND = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]
ROOT = Path(__file__).resolve().parents[3]
FILE = "model.safetensors"
LIFE_S = 2.5
"""Longest life of a node that takes requests."""


@dataclass
class Round:
    """What was seen in all rounds."""

    right_bytes: int = 0
    broken_reads: int = 0
    problems: list[str] = field(default_factory=list)
    acknowledged: dict[BlockId, bytes] = field(default_factory=dict)


def start(store: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A node, and its address."""
    command = [*COMMAND, "serve", "--store", str(store), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        process.wait()
        raise RuntimeError(f"the node did not start: exit {process.returncode}")
    return process, line.split()[-1]


def kill_rounds(work: Path, rounds: int, seed: int = 0) -> Round:
    """Kill a node with an empty disk before an origin, so many times, under load.

    Half of its clients read models that it must fetch, in ranges; the other half put blocks. Every byte that
    comes is compared; every block whose put was acknowledged must be there after the next start.
    """
    folders = family_folders(work / "folders")
    files = {name: (folder / FILE).read_bytes() for name, folder in folders.items()}
    with open_store(work / "origin", durable=False) as opened:
        for name, folder in folders.items():
            opened.add(folder, name)
    origin, url = start(work / "origin")
    seen, rng = Round(), random.Random(seed)
    try:
        for number in range(rounds):
            node, address = start(work / "node", "--upstream", url)
            try:
                _check_acknowledged(address, seen)
                _load(address, files, seen, node, rng.uniform(0.1, LIFE_S), seed=1000 * seed + number)
            finally:
                node.kill()
                node.wait()
                if node.stdout:
                    node.stdout.close()
    finally:
        origin.terminate()
        origin.wait(60)
        if origin.stdout:
            origin.stdout.close()
    with open_store(work / "node") as opened:
        if not opened.verify().ok:
            seen.problems.append("the store is damaged")
        lost = [block for block in seen.acknowledged if not opened.has(block)]
        if lost:
            seen.problems.append(f"{len(lost)} acknowledged blocks are lost at the end")
    return seen


def _load(
    address: str, files: dict[str, bytes], seen: Round, node: subprocess.Popen[str], life_s: float, seed: int
) -> None:
    """Readers and a writer, until the node is killed."""
    jobs = [
        threading.Thread(target=_read, args=(address, files, seen, seed * 10 + number)) for number in range(3)
    ]
    jobs.append(threading.Thread(target=_put, args=(address, seen, seed)))
    for job in jobs:
        job.start()
    time.sleep(life_s)
    node.kill()
    for job in jobs:
        job.join()


def _read(address: str, files: dict[str, bytes], seen: Round, seed: int) -> None:
    rng = random.Random(seed)
    with httpx.Client(base_url=address, timeout=30) as client, suppress(httpx.HTTPError):
        while True:
            name = rng.choice(sorted(files))
            data = files[name]
            first = rng.randrange(len(data))
            last = min(len(data) - 1, first + rng.randrange(1 << 19))
            got, right = b"", data[first : last + 1]
            try:
                about = {"range": f"bytes={first}-{last}"}
                with client.stream("GET", f"/{name}/resolve/main/{FILE}", headers=about) as answer:
                    if answer.status_code != 206:
                        seen.problems.append(f"{answer.status_code} for a range of {name}")
                        return
                    for part in answer.iter_raw():
                        got += part
            except httpx.HTTPError:
                seen.broken_reads += 1
                if got != right[: len(got)]:
                    seen.problems.append(f"wrong bytes before the end of a broken answer for {name}")
                raise
            if got != right:
                seen.problems.append(f"wrong bytes of {name}, {first} to {last}")
            seen.right_bytes += len(got)


def _put(address: str, seen: Round, seed: int) -> None:
    """Put blocks until the node is gone; those that were acknowledged are noted."""
    rng = np.random.default_rng(seed)

    async def work() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                raws = [rng.bytes(int(rng.integers(1, 30_000))) for _ in range(3)]
                await HttpNode(address, client).put_blocks([_stored(raw) for raw in raws])
                seen.acknowledged.update({hash_block(raw): raw for raw in raws})

    with suppress(SourceError, httpx.HTTPError, OSError):
        asyncio.run(work())


def _stored(raw: bytes) -> StoredBlock:
    return StoredBlock(block_id=hash_block(raw), raw_bytes=len(raw), codec=RAW, payload=raw)


def _check_acknowledged(address: str, seen: Round) -> None:
    """Every acknowledged block is there."""

    async def ask(block_ids: Sequence[BlockId]) -> int:
        async with httpx.AsyncClient(timeout=30) as client:
            return len(await HttpNode(address, client).infos(block_ids))

    known = list(seen.acknowledged)
    if known and asyncio.run(ask(known[-500:])) != len(known[-500:]):
        seen.problems.append("an acknowledged block is lost")
