"""A node in front of a Hub that speaks no block protocol: files become blocks while they come in."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from pbstore import DiskBlockStore
from pbstore.blocks import PIECE_BYTES
from pbstore.folders.ingest import cut
from pbstore.formats.split import split_stream
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch.hub_cut import StreamCutter
from pbstore.serve.wire.blocks import PREFIX
from tests.pbstore.folders import base_tensors, safetensors_bytes
from tests.pbstore.serve.families import NAMES, family_files
from tests.pbstore.serve.nodes import Node, Proxy, edge_node, mostly_slow
from tests.pbstore.serve.stores import changed_byte

CLIENT = httpx.Client(verify=False, timeout=30)  # reading certificates takes a tenth of a second


@pytest.fixture(scope="module", autouse=True)
def _client() -> Iterator[None]:
    yield
    CLIENT.close()


def test_a_stream_is_cut_where_a_file_is_cut() -> None:
    whole = safetensors_bytes(base_tensors(rows=300))

    @given(st.lists(st.integers(1, len(whole)), max_size=20))
    @settings(max_examples=30)
    def check(cuts: list[int]) -> None:
        for name in ("model.safetensors", "other.bin"):
            cutter, pieces = StreamCutter(name, len(whole)), []
            edges = [0, *sorted(cuts), len(whole)]
            for start, stop in pairwise(edges):
                pieces += cutter.feed(whole[start:stop])
            assert b"".join(pieces) == whole
            if name.endswith(".safetensors"):
                wanted = list(cut(split_stream(io.BytesIO(whole), len(whole), name)))
                assert [len(piece) for piece in pieces] == [piece.length for piece in wanted]

    check()


@pytest.mark.parametrize("head", [b"", b"\xff" * 16, b"\x10" + bytes(7) + b"not json at all!", bytes(8)])
def test_a_file_that_is_not_what_its_name_says_comes_all_the_same(head: bytes) -> None:
    whole = head + np.random.default_rng(0).bytes(1000)
    cutter = StreamCutter("model.safetensors", len(whole))
    assert b"".join([piece for byte in whole for piece in cutter.feed(bytes([byte]))]) == whole
    assert len(whole) < PIECE_BYTES


FAMILY = {"rows": 6000}


@contextmanager
def hub_of(library: StoreLibrary) -> Iterator[Proxy]:
    """A server that speaks the Hub's protocol only."""
    app = create_app(library)
    app.router.routes[:] = [
        route for route in app.router.routes if not getattr(route, "path", "").startswith(PREFIX)
    ]
    assert isinstance(app, Starlette)
    with serving(app) as url, Proxy(url) as proxy:
        yield proxy


@pytest.fixture
def hub(family: DiskBlockStore) -> Iterator[Proxy]:
    with hub_of(StoreLibrary(family)) as proxy:
        yield proxy


@contextmanager
def front(root: Path, hub: Proxy, capacity: int | None = None) -> Iterator[Node]:
    with edge_node(root / "edge", upstream=hub.url, capacity=capacity) as node:
        yield node


def get(node: Node, name: str, path: str, **headers: str) -> httpx.Response:
    return CLIENT.get(f"{node.url}/{name}/resolve/main/{path}", headers=headers)


def check_equal(node: Node, root: Path, name: str) -> None:
    files = family_files(root, name)
    listed = CLIENT.get(f"{node.url}/api/models/{name}/tree/main?recursive=true").json()
    assert {entry["path"] for entry in listed} == set(files)
    for path, data in files.items():
        assert get(node, name, path).content == data


def test_a_model_of_a_hub_comes_once(family: DiskBlockStore, hub: Proxy, root: Path, tmp_path: Path) -> None:
    with front(tmp_path, hub) as node:
        for name in NAMES:
            check_equal(node, root, name)
            reply = get(node, name, "model.safetensors")
            assert (
                reply.headers["X-Repo-Commit"]
                == CLIENT.get(f"{hub.url}/api/models/{name}/revision/main").json()["sha"]
            )
        raw = sum(len(data) for name in NAMES for data in family_files(root, name).values())
        assert raw < hub.counted.to_client < 1.02 * raw + 40_000
        stored = node.library.inner.store.used_bytes
        blocks = {piece for name in NAMES for piece in family.manifest(name).pieces()}
        assert stored == sum(size for _, size in blocks)  # what siblings share is kept once
        hub.is_dead = True
        for name in NAMES:
            check_equal(node, root, name)
    with front(tmp_path, hub) as node:  # started anew, while the Hub is gone
        for name in NAMES:
            check_equal(node, root, name)


def test_ranges_of_a_file_that_still_comes(hub: Proxy, root: Path, tmp_path: Path) -> None:
    whole = family_files(root, NAMES[0])["model.safetensors"]
    rng = np.random.default_rng(3)
    with front(tmp_path, hub) as node:
        for _ in range(5):
            start, stop = sorted(rng.integers(0, len(whole), 2))
            reply = get(node, NAMES[0], "model.safetensors", Range=f"bytes={start}-{stop}")
            assert (reply.status_code, reply.content) == (206, whole[start : stop + 1])


def test_what_does_not_fit_is_fetched_again_by_its_place(
    family: DiskBlockStore, hub: Proxy, root: Path, tmp_path: Path
) -> None:
    capacity = family.used_bytes // 3
    with front(tmp_path, hub, capacity) as node:
        for name in (*NAMES, *NAMES):
            check_equal(node, root, name)
            assert node.library.inner.store.used_bytes <= capacity


@pytest.mark.parametrize("share", mostly_slow([0.1, 0.5, 0.9], [0.5]))
def test_a_hub_that_breaks_off_is_gone_on_with(hub: Proxy, root: Path, tmp_path: Path, share: float) -> None:
    whole = family_files(root, NAMES[0])["model.safetensors"]
    hub.cut_after, hub.dies_once = int(share * len(whole)), True
    with front(tmp_path, hub) as node:
        assert get(node, NAMES[0], "model.safetensors").content == whole
    assert hub.counted.to_client < 1.02 * len(whole) + 20_000


class Tampered(StoreLibrary):
    """A library that gives one wrong byte of large files."""

    async def read_all(self, file, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        position = start
        async for part in super().read(file, start, stop):
            at = file.size_bytes // 2 - position
            yield changed_byte(bytes(part), at) if 0 <= at < len(part) else part
            position += len(part)

    def read(self, file, start, stop):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        large = file.size_bytes > 10_000
        return self.read_all(file, start, stop) if large else super().read(file, start, stop)


def test_a_file_that_is_not_as_the_hub_listed_it_never_ends(
    family: DiskBlockStore, root: Path, tmp_path: Path
) -> None:
    wrong = hashlib.sha256(family_files(root, NAMES[0])["model.safetensors"]).hexdigest()
    with hub_of(Tampered(family)) as hub, front(tmp_path, hub) as node:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                assert hashlib.sha256(get(node, NAMES[0], "model.safetensors").content).hexdigest() != wrong


def test_a_model_that_a_hub_does_not_have_is_not_found(hub: Proxy, tmp_path: Path) -> None:
    with front(tmp_path, hub) as node:
        reply = CLIENT.get(f"{node.url}/api/models/org/nobody/revision/main")
        assert (reply.status_code, reply.headers["X-Error-Code"]) == (404, "RepoNotFound")
        reply = CLIENT.get(f"{node.url}/api/models/{NAMES[0]}/revision/{'0' * 40}")
        assert (reply.status_code, reply.headers["X-Error-Code"]) == (404, "RevisionNotFound")


def test_nodes_behind_a_node_behind_a_hub(hub: Proxy, root: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = stack.enter_context(front(tmp_path, hub))
        behind = stack.enter_context(edge_node(tmp_path / "behind", upstream=node.url))
        before = hub.counted.to_client
        check_equal(behind, root, NAMES[0])
        check_equal(behind, root, NAMES[1])
        raw = sum(len(data) for name in NAMES[:2] for data in family_files(root, name).values())
        assert hub.counted.to_client - before < 1.02 * raw + 40_000
