"""Unmodified clients push: models come back equal, and a fine-tune costs what is new in it."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.http.push import push_routes
from pbstore.serve.push import Intake
from pbstore.serve.wire.xet import chunk_hash, to_hex
from pbstore.serve.wire.xet_chunks import chunks
from pbstore.serve.wire.xet_upload import parse_shard
from tests.pbstore.folders import folder_content, write_model
from tests.pbstore.serve.clients import PULL, PUSH, Relay, relayed, run_client, web
from tests.pbstore.serve.stores import hashes_of_folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with open_store(tmp_path / "store", durable=False) as opened:
        yield opened


@pytest.fixture
def node(store: DiskBlockStore) -> Iterator[Relay]:
    library = StoreLibrary(store)
    app = create_app(library, groups=[push_routes(Intake(store, library))])
    with serving(app) as url, relayed(url) as relay:
        yield relay


def family(root: Path) -> tuple[Path, Path, int]:
    """A base, a fine-tune, and how many bytes of weights are new in it."""
    rng = np.random.default_rng(0)
    base = {f"layer.{n}.weight": rng.normal(0, 1, (700, 700)).astype(np.float32) for n in range(5)}
    tuned = {name: array + np.float32(1e-3) * (name == "layer.4.weight") for name, array in base.items()}
    write_model(root / "base", base, notes__md=b"# base", vocab__txt=bytes(range(256)) * 200)
    write_model(root / "tuned", tuned, notes__md=b"# tuned", vocab__txt=bytes(range(256)) * 200)
    (root / "tuned" / "more").mkdir()
    (root / "tuned" / "more" / "extra.json").write_bytes(b"{}")
    return root / "base", root / "tuned", 700 * 700 * 4


@pytest.mark.slow
def test_a_family_is_pushed_and_the_second_costs_what_is_new(
    store: DiskBlockStore, node: Relay, tmp_path: Path
) -> None:
    """The fine-tune comes from another machine, which has never seen the base."""
    base, tuned, new_bytes = family(tmp_path)
    total = sum(map(len, folder_content(base).values()))
    commits = run_client(PUSH, node.url, tmp_path / "one", "org/base", str(base))
    first = node.given()
    commits += run_client(PUSH, node.url, tmp_path / "two", "org/tuned", str(tuned))
    second = node.given()
    pulled = run_client(PULL, node.url, tmp_path / "three", "org/base", "org/tuned")

    assert pulled == {"org/base": hashes_of_folder(base), "org/tuned": hashes_of_folder(tuned)}
    assert commits == [web.get(f"{node.url}/api/models/{name}").json()["sha"] for name in pulled]
    assert first <= 1.05 * total
    assert second <= new_bytes + 0.1 * total
    assert not list((store.path / "serve" / "push").glob("*.xorb"))
    assert store.verify().ok


@pytest.mark.slow
def test_a_push_again_changes_adds_and_keeps(store: DiskBlockStore, node: Relay, tmp_path: Path) -> None:
    base, tuned, _ = family(tmp_path)
    run_client(PUSH, node.url, tmp_path / "home", "org/model", str(base))
    first = store.manifest("org/model")
    node.given()
    run_client(PUSH, node.url, tmp_path / "another", "org/model", str(base))
    assert node.given() < 0.02 * first.raw_bytes  # nothing is new: nothing is sent
    assert store.manifest("org/model") == first
    run_client(PUSH, node.url, tmp_path / "home", "org/model", str(tuned))
    expected = hashes_of_folder(base) | hashes_of_folder(tuned)
    assert run_client(PULL, node.url, tmp_path / "other", "org/model") == {"org/model": expected}
    assert store.models() == ("org/model",)


def commit(url: str, *lines: dict) -> httpx.Response:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return web.post(f"{url}/api/models/org/model/commit/main", content=body)


HEADER = {"key": "header", "value": {"summary": "x"}}


def test_a_bad_commit_changes_nothing(store: DiskBlockStore, node: Relay, tmp_path: Path) -> None:
    base, _, _ = family(tmp_path)
    store.add(base, "org/model")
    before = store.manifest("org/model")
    file = {"content": "eA==", "encoding": "base64"}
    large = {"path": "w.bin", "algo": "sha256", "size": 5}
    wrong = [
        [{"key": "file", "value": {**file, "path": "../x"}}],
        [{"key": "file", "value": {**file, "path": "/x"}}],
        [{"key": "file", "value": {**file, "path": "a/../../x"}}],
        [{"key": "file", "value": {**file, "path": "config.json/x"}}],
        [{"key": "file", "value": {"path": "x", "content": "no base64!"}}],
        [{"key": "file", "value": "x"}],
        [{"key": "copyFile", "value": {"path": "x"}}],
        [{"key": "lfsFile", "value": {**large, "oid": "0" * 64}}],
        [{"key": "lfsFile", "value": {**large, "oid": hashlib.sha256(b"x").hexdigest(), "size": "many"}}],
        [{"key": "header", "value": {"summary": "x", "parentCommit": "0" * 40}}],
    ]
    for lines in wrong:
        answer = commit(node.url, HEADER, *lines)
        assert answer.status_code == 400, lines
        assert store.manifest("org/model") == before
    assert store.models() == ("org/model",)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".pbcast")] == []


def test_files_are_deleted_and_copied_by_their_hash(
    store: DiskBlockStore, node: Relay, tmp_path: Path
) -> None:
    _, tuned, _ = family(tmp_path)
    store.add(tuned, "org/model")
    weights = store.manifest("org/model").files
    entry = next(file for file in weights if file.path == "model.safetensors")
    copied = {"path": "copy/m.safetensors", "algo": "sha256", "oid": entry.sha256, "size": entry.size_bytes}
    answer = commit(
        node.url,
        HEADER,
        {"key": "lfsFile", "value": copied},
        {"key": "deletedFolder", "value": {"path": "more/"}},
        {"key": "deletedFile", "value": {"path": "notes.md"}},
    )
    assert answer.status_code == 200
    found = {file.path: file.sha256 for file in store.manifest("org/model").files}
    assert found == {
        **{p: h for p, h in hashes_of_folder(tuned).items() if not p.startswith(("more", "notes"))},
        "copy/m.safetensors": entry.sha256,
    }


def test_what_is_no_xorb_or_shard_is_refused(store: DiskBlockStore, node: Relay) -> None:
    token = web.get(f"{node.url}/api/models/org/new/xet-write-token/main").json()["accessToken"]
    headers = {"Authorization": f"Bearer {token}"}
    for path in (f"/v1/xorbs/default/{'0' * 64}", "/v1/xorbs/default/none", "/v1/shards"):
        for body in (b"", b"x", b"\0" * 8, b"\xff" * 5000):
            assert web.post(f"{node.url}{path}", content=body, headers=headers).status_code == 400
        assert web.post(f"{node.url}{path}", content=b"x").status_code in (400, 401)
    assert web.get(f"{node.url}/v1/chunks/default-merkledb/{'0' * 64}", headers=headers).status_code == 404
    assert list((store.path / "serve" / "push").glob("*.part")) == []


@pytest.mark.slow
def test_a_base_that_was_not_pushed_is_known_by_its_chunks(
    store: DiskBlockStore, node: Relay, tmp_path: Path
) -> None:
    base, tuned, new_bytes = family(tmp_path)
    store.add(base, "org/base", form="hot")
    library = StoreLibrary(store)
    index = Intake(store, library).chunk_index()
    assert index.add("org/base") == 2  # weights and vocabulary
    assert index.add("org/base") == 0
    run_client(PUSH, node.url, tmp_path / "home", "org/tuned", str(tuned))
    assert node.given() <= new_bytes + 0.1 * sum(map(len, folder_content(base).values()))
    pulled = run_client(PULL, node.url, tmp_path / "other", "org/tuned")
    assert pulled == {"org/tuned": hashes_of_folder(tuned)}
    asyncio.run(library.close())


def test_chunks_of_models_are_filed_while_a_server_runs(store: DiskBlockStore, tmp_path: Path) -> None:
    base, _, _ = family(tmp_path)
    store.add(base, "org/base")
    library = StoreLibrary(store)
    intake = Intake(store, library)
    first = next(chunks([(base / "model.safetensors").read_bytes()]))
    app = create_app(library, groups=[push_routes(intake)], beside=[intake.chunk_index().running])
    with serving(app) as url:
        token = web.get(f"{url}/api/models/org/base/xet-write-token/main").json()["accessToken"]
        headers = {"Authorization": f"Bearer {token}"}
        path = f"{url}/v1/chunks/default-merkledb/{to_hex(chunk_hash(first))}"
        deadline = time.monotonic() + 120
        while (answer := web.get(path, headers=headers)).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
    (told,) = parse_shard(answer.content).xorbs.values()
    assert told[0].digest == chunk_hash(first)
