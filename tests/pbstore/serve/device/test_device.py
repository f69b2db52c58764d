"""The stock client behind a device's cache: what it has does not travel again."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.device import BlockCache, create_device_app
from pbstore.serve.http.guard import Guards
from pbstore.serve.wire.signed import Signer
from pbstore.serve.wire.xet import framed_bytes
from tests.pbstore.folders import folder_content, write_model
from tests.pbstore.serve.clients import PULL, Relay, relayed, run_client, web
from tests.pbstore.serve.nodes import mostly_slow
from tests.pbstore.serve.stores import hashes_of_folder

CHANGED = ("layer.3.weight", "head.bias")


def family(root: Path) -> dict[str, Path]:
    """A base of 13 MB, and a sibling with 3.3 MB of other weights."""
    rng = np.random.default_rng(0)
    base = {f"layer.{n}.weight": rng.normal(0, 1, (900, 900)).astype(np.float32) for n in range(4)}
    base["head.bias"] = rng.normal(0, 1, (900,)).astype(np.float32)
    tuned = {name: array + np.float32(1e-3) * (name in CHANGED) for name, array in base.items()}
    vocabulary = rng.bytes(256_000)  # nothing in it repeats: what does moves once
    write_model(root / "base", base, vocab__txt=vocabulary)
    write_model(root / "tuned", tuned, vocab__txt=vocabulary)
    return {"org/base": root / "base", "org/tuned": root / "tuned"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    root = tmp_path_factory.mktemp("served")
    with open_store(root / "store", durable=False) as opened:
        for name, folder in family(root).items():
            opened.add(folder, name, form="hot" if name == "org/base" else "cold")
        opened.add(root / "base", "other/copy")
        yield opened


@pytest.fixture
def edge(store: DiskBlockStore) -> Iterator[Relay]:
    with serving(StoreLibrary(store)) as url, relayed(url) as relay:
        yield relay


def test_a_sibling_costs_what_changed_and_a_copy_nothing(
    store: DiskBlockStore, edge: Relay, tmp_path: Path
) -> None:
    root = store.path.parent
    cache, path = BlockCache(tmp_path / "cache", 1 << 30), tmp_path / "socket"
    changed = 900 * 900 * 4 + 900 * 4
    total = sum(map(len, folder_content(root / "base").values()))
    with serving(create_device_app(edge.url, cache), unix=path):
        pulled = run_client(PULL, edge.url, tmp_path / "one", "org/base", socket_path=path)
        first = edge.taken()
        pulled |= run_client(PULL, edge.url, tmp_path / "one", "org/tuned", socket_path=path)
        sibling = edge.taken()
        pulled |= run_client(PULL, edge.url, tmp_path / "one", "other/copy", socket_path=path)
        copy = edge.taken()

    assert pulled["org/base"] == pulled["other/copy"] == hashes_of_folder(root / "base")
    assert pulled["org/tuned"] == hashes_of_folder(root / "tuned")
    assert total <= first <= 1.02 * total
    assert changed <= sibling <= 1.02 * changed
    assert copy <= 0.002 * total  # trees, tokens, terms; no weight


def minilm(changed: bool) -> dict[str, np.ndarray]:
    """Tensors of the shapes of all-MiniLM-L6-v2, random; two of its six layers may be changed."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"words": (30522, 384), "positions": (512, 384), "types": (2, 384)}
    for layer in range(6):
        for name in ("query", "key", "value", "output"):
            shapes |= {f"{layer}.{name}.weight": (384, 384), f"{layer}.{name}.bias": (384,)}
        shapes |= {f"{layer}.up.weight": (1536, 384), f"{layer}.up.bias": (1536,)}
        shapes |= {f"{layer}.down.weight": (384, 1536), f"{layer}.down.bias": (384,)}
        shapes |= {f"{layer}.norm.{n}.{kind}": (384,) for n in (1, 2) for kind in ("weight", "bias")}
    tensors = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    return {
        name: array + np.float32(1e-4) * (changed and name.startswith(("4.", "5.")))
        for name, array in tensors.items()
    }


@pytest.mark.slow
def test_a_sibling_of_a_real_size_costs_what_changed(tmp_path: Path) -> None:
    base, tuned = minilm(False), minilm(True)
    changed = sum(array.nbytes for name, array in tuned.items() if not np.array_equal(array, base[name]))
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(write_model(tmp_path / "org/base", base), "org/base", form="hot")
        store.add(write_model(tmp_path / "org/tuned", tuned), "org/tuned")
        path, cache = tmp_path / "socket", BlockCache(tmp_path / "cache", 1 << 30)
        with (
            serving(StoreLibrary(store)) as url,
            relayed(url) as edge,
            serving(create_device_app(edge.url, cache), unix=path),
        ):
            run_client(PULL, edge.url, tmp_path / "home", "org/base", socket_path=path)
            edge.taken()
            pulled = run_client(PULL, edge.url, tmp_path / "home", "org/tuned", socket_path=path)
            sibling = edge.taken()
    sys.stdout.write(f"a sibling with {changed} changed bytes moved {sibling}: {sibling / changed:.4f}\n")
    assert pulled == {"org/tuned": hashes_of_folder(tmp_path / "org/tuned")}
    assert changed <= sibling <= 1.02 * changed


WRONG = [
    (asked, wrong_at, room)
    for asked, wrong_at in (
        ((0.0, 1.0), 0.0),
        ((0.0, 1.0), 0.999),
        ((0.0, 0.3), 0.7),
        ((0.5, 1.0), 0.2),
        ((0.2, 0.2), 0.9),
    )
    for room in (1 << 30, 1 << 10)
]


@pytest.mark.parametrize(("asked", "wrong_at", "room"), mostly_slow(WRONG, [WRONG[4]]))
def test_no_client_gets_all_of_a_wrong_answer(
    store: DiskBlockStore, tmp_path: Path, asked: tuple[float, float], wrong_at: float, room: int
) -> None:
    """Whatever part of a block is asked for, kept or not: its last byte waits for the whole hash."""
    block_id = max(store.block_ids(), key=lambda one: store.info(one).raw_bytes)
    whole = framed_bytes(store.info(block_id).raw_bytes)
    signer, lies = Signer.fresh(), [wrong_at, None]
    address = f"/-/xorbs/{block_id}"
    query = signer.query("GET", address, 1 << 40, ((0, whole - 1),))
    start, stop = int(asked[0] * whole), max(int(asked[0] * whole) + 1, int(asked[1] * whole))
    path, transport = tmp_path / "socket", httpx.HTTPTransport(uds=str(tmp_path / "socket"))
    with (
        serving(create_app(StoreLibrary(store), guards=Guards(signer=signer))) as url,
        serving(lying(url, lies, whole)) as liar,
        serving(create_device_app(liar, BlockCache(tmp_path / "cache", room)), unix=path),
        web.Client(base_url="http://edge", transport=transport) as client,
    ):
        ask = partial(client.get, f"{address}?{query}", headers={"Range": f"bytes={start}-{stop - 1}"})
        with pytest.raises(httpx.RemoteProtocolError):
            ask()
        direct = web.get(f"{url}{address}?{query}", headers={"Range": f"bytes={start}-{stop - 1}"})
        answers = [ask() for _ in range(1 + (room > whole))]
    assert len(direct.content) == stop - start
    for answer in answers:
        assert answer.content == direct.content
        assert answer.headers["content-range"] == direct.headers["content-range"]
    assert not lies


def lying(url: str, lies: list[float | None], whole: int) -> Starlette:
    """Passes on what a server says, with a wrong byte there where the next lie says so; no lie, no answer."""

    def answer(request: Request) -> Response:
        lie = lies.pop(0)
        headers = {"range": request.headers["range"]}
        told = web.get(f"{url}{request.url.path}?{request.url.query}", headers=headers)
        data = bytearray(told.content)
        if lie is not None:
            data[int(lie * whole)] ^= 1
        return Response(bytes(data), told.status_code, {"content-range": told.headers["content-range"]})

    return Starlette(routes=[Route("/{rest:path}", answer)])


def test_without_the_edge_node_the_device_says_so(tmp_path: Path) -> None:

    path = tmp_path / "socket"
    app = create_device_app("http://127.0.0.1:9", BlockCache(tmp_path / "cache", 1 << 20))
    transport = httpx.HTTPTransport(uds=str(path))
    with serving(app, unix=path), web.Client(base_url="http://edge", transport=transport) as client:
        assert client.get("/anything").status_code == 502
        block = f"/-/xorbs/{'0' * 64}?expires=1&signature=x"
        whole, part = f"{block}&bytes=0-99", f"{block}&bytes=0-9"
        asked = [client.get(url, headers={"Range": "bytes=10-19"}) for url in (whole, part)]
        assert [answer.status_code for answer in asked] == [502, 400]
    assert not path.exists()


def serve_once_each(listener: socket.socket, asked: list[bytes]) -> None:
    """Answer the first request of each connection, keep it open, and hang up at the second."""
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                for number in range(2):
                    asked.append(client.recv(65536))
                    if number == 0 and asked[-1]:
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_a_connection_that_the_edge_node_closes_meanwhile_is_no_failure(tmp_path: Path) -> None:
    path, asked = tmp_path / "socket", []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_once_each, args=(listener, asked), daemon=True).start()
        edge = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = create_device_app(edge, BlockCache(tmp_path / "cache", 1 << 20))
        transport = httpx.HTTPTransport(uds=str(path))
        with serving(app, unix=path), web.Client(base_url="http://edge", transport=transport) as client:
            assert [client.get("/anything").text for _ in range(3)] == ["ok"] * 3
            assert client.post("/anything", content=b"x").status_code in (200, 502)  # it may have been done
        listener.shutdown(socket.SHUT_RDWR)
