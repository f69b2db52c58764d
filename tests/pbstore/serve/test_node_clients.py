"""Unmodified clients at nodes with misses: what they get is right, and costs what is new."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pbstore import DiskBlockStore
from tests.pbstore.serve.clients import PULL, run_client
from tests.pbstore.serve.families import NAMES
from tests.pbstore.serve.measures import Pull, origin_ratio, sibling_ratios
from tests.pbstore.serve.nodes import Proxy, edge_node, proxied
from tests.pbstore.serve.stores import hashes_of_folder

PBCAST = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]
pytestmark = pytest.mark.slow

FAMILY = {"rows": 40_000}


def puller(root: Path, homes: Path, **more: str) -> Pull:
    """Pulls with the stock client, each time into a new cache, and compares every file."""
    numbers = iter(range(1 << 20))

    def pull(url: str, name: str) -> None:
        got = run_client(PULL, url, homes / str(next(numbers)), name, **more)
        assert got == {name: hashes_of_folder(root / name.removeprefix("org/"))}

    return pull


@pytest.mark.parametrize("xet", ["0", "1"], ids=["xet", "http"])
def test_a_sibling_costs_its_stored_bytes_through_a_node_on_the_device(
    family: DiskBlockStore, root: Path, tmp_path: Path, xet: str
) -> None:
    pull = puller(root, tmp_path / "homes", HF_HUB_DISABLE_XET=xet)
    ratios = sibling_ratios(tmp_path, family, NAMES[0], NAMES[1:], pull)
    assert all(1 < ratio <= 1.02 for ratio in ratios), ratios


def test_three_nodes_take_each_block_from_the_origin_once(
    family: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    ratio = origin_ratio(tmp_path, family, NAMES, puller(root, tmp_path / "homes"), clients=3)
    assert 1 < ratio <= 1.05


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_node_that_is_killed_on_the_way_is_not_missed(
    family: DiskBlockStore, root: Path, tmp_path: Path, share: float
) -> None:
    """The client asks a node that has the model from two others: the one that is first so far is killed."""
    serve = [*PBCAST, "serve", "--port", "0", "--store", str(family.path)]
    nodes = [subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    largest = max(family.info(block_id).stored_bytes for block_id in family.blocks(NAMES[1]))
    try:
        urls = [node.stdout.readline().split()[-1] for node in nodes]
        with proxied(urls) as peers:
            for peer in peers:
                peer.delay_s = 0.005
            ended = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                killing = pool.submit(kill_one, nodes, peers, share * largest, ended)
                with edge_node(tmp_path / "edge", peers=[peer.url for peer in peers]) as node:
                    puller(root, tmp_path / "homes")(node.url, NAMES[1])
                    ended.set()
                    assert node.library.inner.store.verify().ok
                assert killing.result()
    finally:
        for one in nodes:
            one.kill()
            one.wait()
            one.stdout.close()


def kill_one(
    nodes: "Sequence[subprocess.Popen[str]]",
    peers: Sequence[Proxy],
    sent_bytes: float,
    ended: threading.Event,
) -> bool:
    """Kill the node that has sent so many bytes first; False if none has before the end."""
    while not ended.is_set():
        for node, peer in zip(nodes, peers, strict=True):
            if peer.counted.to_client >= sent_bytes:
                node.kill()
                node.wait()
                return not ended.is_set()
        ended.wait(0.001)
    return False
