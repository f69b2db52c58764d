"""Nodes with misses: each block once from upstream, past nodes that die or lie, within the capacity."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from pbstore import DiskBlockStore, ModelMissingError, open_store
from pbstore.blocks import StoredBlock
from pbstore.serve import create_app, serving
from pbstore.serve.fetch.node import NodeLibrary
from tests.pbstore.serve.families import NAMES, family_files
from tests.pbstore.serve.measures import origin_ratio, sibling_ratios
from tests.pbstore.serve.nodes import (
    Liar,
    Node,
    Proxy,
    edge_node,
    get_file,
    get_model,
    mostly_slow,
    proxied,
    store_node,
)
from tests.pbstore.serve.stores import changed_byte
from tests.ports import free_ports

FAMILY = {"rows": 6_000}


@pytest.fixture(scope="module")
def origin(family: DiskBlockStore) -> DiskBlockStore:
    return family


@pytest.fixture
def upstream(origin: DiskBlockStore) -> Iterator[Proxy]:
    with store_node(origin) as url, Proxy(url) as proxy:
        yield proxy


def check_equal(url: str, origin: DiskBlockStore, root: Path, name: str) -> None:
    assert get_model(url, origin.manifest(name)) == family_files(root, name)


def test_three_nodes_get_each_block_from_upstream_once(
    origin: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    ratio = origin_ratio(
        tmp_path, origin, NAMES, lambda url, name: check_equal(url, origin, root, name), clients=9
    )
    assert 1 < ratio <= 1.05


def test_a_sibling_costs_its_own_stored_bytes(origin: DiskBlockStore, root: Path, tmp_path: Path) -> None:
    def pull_twice(url: str, name: str) -> None:
        for _ in range(2):
            check_equal(url, origin, root, name)

    ratios = sibling_ratios(tmp_path, origin, NAMES[0], NAMES[1:], pull_twice)
    assert all(1 < ratio <= 1.02 for ratio in ratios), ratios


def test_a_hundred_clients_cost_one_fetch(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    name = NAMES[1]
    stored = sum(origin.info(block_id).stored_bytes for block_id in origin.blocks(name))
    wanted = family_files(root, name)["model.safetensors"]
    with edge_node(tmp_path / "edge", upstream=upstream.url) as node, ThreadPoolExecutor(100) as pool:
        together = threading.Barrier(100)

        def ask(_: int) -> bool:
            together.wait()
            return get_file(node.url, name, "model.safetensors") == wanted

        assert all(pool.map(ask, range(100)))
    assert upstream.counted.to_client <= 1.05 * stored


@pytest.mark.parametrize("share", mostly_slow([0.02, 0.4, 0.9], [0.4]))
def test_a_peer_that_dies_on_the_way_is_passed_by(
    origin: DiskBlockStore, root: Path, tmp_path: Path, share: float
) -> None:
    with store_node(origin) as first, store_node(origin) as second, proxied([first, second]) as peers:
        peers[0].cut_after = int(share * origin.used_bytes)
        with edge_node(tmp_path / "edge", peers=[peers[0].url, peers[1].url]) as node:
            for name in NAMES:
                check_equal(node.url, origin, root, name)
    assert peers[0].counted.to_client + peers[1].counted.to_client <= 1.1 * origin.used_bytes + (1 << 16)


def test_upstream_that_dies_and_comes_back_goes_on_where_it_ended(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    name = NAMES[0]
    stored = sum(origin.info(block_id).stored_bytes for block_id in origin.blocks(name))
    upstream.cut_after = stored // 2
    upstream.dies_once = True
    with edge_node(tmp_path / "edge", upstream=upstream.url) as node:
        check_equal(node.url, origin, root, name)
    assert stored < upstream.counted.to_client <= 1.05 * stored


def flipped(stored: StoredBlock) -> StoredBlock:
    return replace(stored, payload=changed_byte(bytes(stored.payload), len(stored.payload) // 2))


LIES: dict[str, Callable[[StoredBlock], StoredBlock]] = {
    "one bit": flipped,
    "zeros, said to be raw": lambda s: replace(s, codec="raw", payload=bytes(s.raw_bytes), needs=()),
    "a short payload": lambda s: replace(s, payload=s.payload[:-1]),
    "another size": lambda s: replace(s, raw_bytes=s.raw_bytes + 4),
    "no needs": lambda s: replace(s, needs=(), codec="planes"),
    "an unknown codec": lambda s: replace(s, codec="new"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("lie", mostly_slow(LIES, ["one bit", "no needs"]))
def test_a_peer_that_lies_is_passed_by_and_named(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path, lie: str
) -> None:
    app = create_app(Liar(origin, LIES[lie]))
    with (
        serving(app) as liar,
        edge_node(tmp_path / "edge", peers=[liar], upstream=upstream.url) as node,
    ):
        for name in NAMES[:2]:
            check_equal(node.url, origin, root, name)
        assert set(node.counts.corrupt_blocks) == {liar}
        assert node.library.inner.store.verify().ok


def test_peers_serve_when_upstream_is_gone(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    with (
        edge_node(tmp_path / "one", upstream=upstream.url) as one,
        edge_node(tmp_path / "two", upstream=upstream.url, peers=[one.url]) as two,
    ):
        for name in NAMES:
            check_equal(one.url, origin, root, name)
        upstream.is_dead = True
        for name in NAMES:
            check_equal(two.url, origin, root, name)


def test_a_node_serves_what_it_has_when_all_others_are_gone(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    with edge_node(tmp_path / "edge", upstream=upstream.url) as node:
        check_equal(node.url, origin, root, NAMES[1])
    upstream.is_dead = True
    with edge_node(tmp_path / "edge", upstream=upstream.url) as node:  # started anew, on the same disk
        check_equal(node.url, origin, root, NAMES[1])


def test_nodes_that_ask_in_a_circle_come_to_an_end(
    origin: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    ports = free_ports(3)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with ExitStack() as stack:
        nodes: list[Node] = []
        for index, port in enumerate(ports):
            peers = [url for url in urls if url != urls[index]]
            upstream = urls[(index + 1) % 3]
            folder = tmp_path / str(index)
            nodes.append(stack.enter_context(edge_node(folder, peers=peers, upstream=upstream, port=port)))
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(get_file, url, "org/nobody", "config.json") for url in urls * 2]
            assert all(one.exception(timeout=120) is not None for one in asked)


@pytest.mark.parametrize("share", mostly_slow([0.2, 0.7], [0.2]))
def test_a_node_keeps_within_its_capacity_and_leaves_filed_models_alone(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path, share: float
) -> None:
    with open_store(tmp_path / "edge") as store:
        store.add(root / "tuned-0", "my/own")
        own = store.used_bytes
    capacity = own + int(share * origin.used_bytes)
    with edge_node(tmp_path / "edge", upstream=upstream.url, capacity=capacity) as node:
        for name in (*NAMES, *NAMES):
            check_equal(node.url, origin, root, name)
            assert node.library.inner.store.used_bytes <= capacity
        assert node.library.inner.store.models() == ("my/own",)
        assert node.library.inner.store.verify().ok
        assert node.counts.evicted_blocks > 0
        check_equal(node.url, origin, root, "org/tuned-0")


def test_what_a_gc_takes_is_fetched_again(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    with edge_node(tmp_path / "edge", upstream=upstream.url) as node:
        check_equal(node.url, origin, root, NAMES[0])
        with open_store(tmp_path / "edge") as other:
            assert other.gc().orphan_blocks > 0
        check_equal(node.url, origin, root, NAMES[0])


def test_a_client_that_leaves_takes_nothing_from_the_others(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    manifest = origin.manifest(NAMES[0])
    file = next(entry for entry in manifest.files if entry.path == "model.safetensors")

    async def read(library: NodeLibrary) -> bytes:
        return b"".join([bytes(part) async for part in library.read(file, 0, file.size_bytes)])

    async def run() -> bytes:
        with open_store(tmp_path / "edge", durable=False) as store:
            library = NodeLibrary(store, upstream=upstream.url)
            leaving = [asyncio.ensure_future(read(library)) for _ in range(3)]
            staying = asyncio.ensure_future(read(library))
            await asyncio.sleep(0.05)
            for task in leaving:
                task.cancel()
            data = await staying
            await library.close()
            return data

    assert asyncio.run(run()) == family_files(root, NAMES[0])["model.safetensors"]


def test_a_model_that_nobody_has_is_said_so(upstream: Proxy, tmp_path: Path) -> None:
    async def run() -> None:
        with open_store(tmp_path / "edge", durable=False) as store:
            library = NodeLibrary(store, upstream=upstream.url)
            try:
                await library.revision("org/nobody")
            finally:
                await library.close()

    with pytest.raises(ModelMissingError):
        asyncio.run(run())


@pytest.mark.slow
def test_a_peer_that_answers_nothing_is_waited_for_once(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with edge_node(tmp_path / "edge", peers=[url], upstream=upstream.url) as node:
            check_equal(node.url, origin, root, NAMES[0])
            start = time.monotonic()
            check_equal(node.url, origin, root, NAMES[1])
            assert time.monotonic() - start < 4


@pytest.mark.slow
def test_the_command_serves_what_is_elsewhere(
    origin: DiskBlockStore, upstream: Proxy, root: Path, tmp_path: Path
) -> None:
    store, words = tmp_path / "edge", ["--upstream", upstream.url, "--capacity", "1GB", "--port", "0"]
    command = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]
    command += ["serve", "--store", str(store), "--peer", "http://127.0.0.1:9", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            path = f"{url}/{NAMES[1]}/resolve/main/model.safetensors"
            with urlopen(path, timeout=60) as reply:
                assert reply.read() == family_files(root, NAMES[1])["model.safetensors"]
            with urlopen(f"{url}/metrics", timeout=60) as reply:
                text = reply.read().decode()
            assert 'pbcast_block_requests_total{result="upstream"}' in text
            assert 'pbcast_peer_up{peer="http://127.0.0.1:9"} 0.0' in text
        finally:
            process.terminate()
