"""Blocks of one download come from the nodes that hold them, by placement; one that dies is not missed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import open_store
from pbstore.hashing import BlockId
from pbstore.serve import StoreLibrary, serving
from pbstore.serve.fetch.neighbours import Neighbours
from pbstore.serve.fetch.peers import Holdings, Speed
from pbstore.serve.http.guard_key import KeyFileError, signer_of
from tests.pbstore.folders import write_model
from tests.pbstore.serve.clients import PULL, run_client, web
from tests.pbstore.serve.nodes import Proxy, edge_node
from tests.pbstore.serve.stores import family_store, hashes_of_folder
from tests.ports import free_ports

PBCAST = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]
IDS = [BlockId(f"{number:064x}") for number in range(12)]


def seen_by(me: str, others: Sequence[str], known: dict[str, set[BlockId]]) -> Neighbours:
    """The neighbours of a node that believes of others that they have some blocks."""
    around = Neighbours.__new__(Neighbours)
    around._me = me
    around.peer_lanes = []
    for other in others:
        holdings = Holdings()
        have = known.get(other, set())
        holdings.note(IDS, {one: one for one in have})  # type: ignore[misc]
        lane = SimpleNamespace(node_id=other, speed=Speed(), holdings=holdings, name=other)
        around.peer_lanes.append(lane)  # type: ignore[arg-type]
    return around


@settings(max_examples=30)
@given(data=st.data())
def test_no_client_is_sent_in_a_circle_whatever_nodes_believe(data: st.DataObject) -> None:
    nodes = [f"node-{number}" for number in range(4)]
    belief = st.dictionaries(st.sampled_from(nodes), st.sets(st.sampled_from(IDS)))
    around = {me: seen_by(me, [one for one in nodes if one != me], data.draw(belief)) for me in nodes}
    for block_id in IDS:
        at, hops = nodes[0], 0
        while following := around[at].before_me(block_id):
            at, hops = data.draw(st.sampled_from(following)), hops + 1
        assert hops < len(nodes)


def test_blocks_are_spread_over_all_that_hold_them() -> None:
    nodes = ["one", "two", "three"]
    ids = [BlockId(f"{number:064x}") for number in range(600)]
    around = seen_by("one", nodes[1:], {})
    for lane in around.peer_lanes:
        lane.holdings.note(ids, {one: one for one in ids})  # type: ignore[misc]
    first = [(around.before_me(one) or ["one"])[0] for one in ids]
    assert all(150 < first.count(node) < 250 for node in nodes)


def test_who_asks_for_the_same_file_a_moment_later_does_not_come_back(tmp_path: Path) -> None:
    with (
        family_store(tmp_path) as store,
        serving(StoreLibrary(store)) as url,
        web.Client(base_url=url) as client,
    ):
        token = client.get("/api/models/org/base/xet-read-token/main").json()["accessToken"]
        xet = client.head("/org/base/resolve/main/model.safetensors").headers["x-xet-hash"]
        seen = set[str]()
        for _ in range(50):
            reply = client.get(f"/v2/reconstructions/{xet}", headers={"authorization": f"Bearer {token}"})
            urls = {one["url"] for fetches in reply.json()["xorbs"].values() for one in fetches}
            assert not urls & seen
            seen |= urls


def test_a_key_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for text, mode, problem in (("x" * 31, 0o600, "at least 32"), ("x" * 32, 0o644, "chmod 600")):
        path.write_text(text)
        path.chmod(mode)
        with pytest.raises(KeyFileError, match=problem):
            signer_of(path)
    path.write_text("x" * 44 + "\n")
    path.chmod(0o600)
    query = signer_of(path).query("GET", "/a", 10)
    signer_of(path).check("GET", "/a", query, None, 0)


@contextmanager
def two_nodes(root: Path) -> Iterator[tuple[str, Proxy, subprocess.Popen[str]]]:
    """Two nodes with the same model, peers of each other: the front, the way to the other, the other."""
    rng = np.random.default_rng(0)
    tensors = {f"{number}.weight": rng.normal(size=(256, 256)).astype(np.float32) for number in range(24)}
    folder = write_model(root / "model", tensors)
    for number in range(2):
        with open_store(root / str(number)) as store:
            store.add(folder, "org/model", form="hot")
    key = root / "key"
    key.write_bytes(os.urandom(32).hex().encode())
    key.chmod(0o600)
    ports = free_ports(2)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with ExitStack() as stack:
        other_way = stack.enter_context(Proxy(urls[1]))
        nodes = []
        for number, peer in enumerate((other_way.url, urls[0])):
            words = ["--store", str(root / str(number)), "--port", str(ports[number])]
            words += ["--peer", peer, "--key", str(key)]
            node = subprocess.Popen([*PBCAST, "serve", *words], stdout=subprocess.PIPE, text=True)
            nodes.append(node)
            stack.callback(end, node)
        for node in nodes:
            assert node.stdout is not None
            assert "serving" in node.stdout.readline()
        yield urls[0], other_way, nodes[1]


def end(node: subprocess.Popen[str]) -> None:
    node.kill()
    node.wait()
    if node.stdout is not None:
        node.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["never", "before", "on the way"])
def test_blocks_of_one_download_come_from_two_nodes(tmp_path: Path, dies: str) -> None:
    with two_nodes(tmp_path) as (url, other_way, other), Proxy(url) as front, ThreadPoolExecutor(1) as pool:
        for number in range(4):  # until they know each other, which a busy machine may put off
            run_client(PULL, front.url, tmp_path / f"first-{number}", "org/model")
            if other_way.counted.to_client > 200_000:
                break
        else:
            pytest.fail("no block came from the other node")
        first = other_way.counted.to_client
        if dies == "before":
            end(other)
        elif dies == "on the way":
            other_way.delay_s = 0.01
            killed = pool.submit(end_after, other, other_way, first + 100_000)
        for number in range(4):  # a front that is too busy to ask the other node answers by itself
            before = front.counted.to_client, other_way.counted.to_client
            pulled = run_client(PULL, front.url, tmp_path / f"home-{number}", "org/model")
            moved = front.counted.to_client - before[0], other_way.counted.to_client - before[1]
            if dies == "before" or moved[1] > 100_000:
                break
    size = sum(path.stat().st_size for path in (tmp_path / "model").iterdir())
    assert pulled == {"org/model": hashes_of_folder(tmp_path / "model")}
    assert sum(moved) > size
    if dies == "never":
        assert min(moved) > 0.05 * size
        assert sum(moved) < 1.02 * size + 100_000
    elif dies == "on the way":
        assert killed.result()
        assert moved[1] > 100_000


def end_after(node: subprocess.Popen[str], way: Proxy, num_bytes: int) -> bool:
    """Kill a node when so many bytes have come from it; whether they came."""
    since = time.monotonic()
    while way.counted.to_client < num_bytes:
        if time.monotonic() > since + 240:
            return False
        time.sleep(0.001)
    end(node)
    return True


def test_a_node_whose_upstream_is_gone_does_not_say_that_there_is_no_such_model(tmp_path: Path) -> None:
    """Clients would tell their users to create it; also through a node in between."""
    with (
        edge_node(tmp_path / "one", upstream="http://127.0.0.1:9") as one,
        edge_node(tmp_path / "two", upstream=one.url) as two,
    ):
        for node in (one, two):
            answer = web.get(f"{node.url}/api/models/org/model")
            assert answer.status_code == 503
            assert "x-error-code" not in answer.headers
            assert "cannot be reached" in answer.json()["error"]
