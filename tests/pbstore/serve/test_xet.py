"""Xet's read protocol over HTTP: tokens, terms and xorbs, and who may have them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hf_xet
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbstore import DiskBlockStore
from pbstore.serve import ServeSettings, StoreLibrary, create_app, serving
from pbstore.serve.http.attempts import Attempts
from pbstore.serve.http.guard import Guards
from pbstore.serve.wire.signed import Signer
from tests.pbstore.serve.clients import PULL, relayed, run_client, web
from tests.pbstore.serve.stores import FAMILY, family_store, hashes_of_folder
from tests.pbstore.serve.wire.test_xet import unframed


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(store: DiskBlockStore) -> Iterator[httpx.Client]:
    with serving(StoreLibrary(store)) as url, web.Client(base_url=url) as opened:
        yield opened


def content(store: DiskBlockStore, name: str) -> bytes:
    return (store.path.parent / "folders" / name / "model.safetensors").read_bytes()


def xet_hash(client: httpx.Client, name: str) -> str:
    return client.head(f"/{name}/resolve/main/model.safetensors").headers["x-xet-hash"]


def authorization(client: httpx.Client, name: str) -> dict[str, str]:
    link = client.head(f"/{name}/resolve/main/model.safetensors").links["xet-auth"]["url"]
    answer = client.get(link)
    assert answer.json()["casUrl"] == answer.headers["x-xet-cas-url"] == str(client.base_url).rstrip("/")
    assert answer.json()["exp"] == int(answer.headers["x-xet-token-expiration"]) > time.time() + 60
    return {"Authorization": f"Bearer {answer.headers['x-xet-access-token']}"}


@pytest.mark.parametrize("name", FAMILY)
def test_the_hash_of_a_file_is_the_one_that_hf_xet_computes(
    client: httpx.Client, store: DiskBlockStore, name: str
) -> None:
    path = store.path.parent / "folders" / name / "model.safetensors"
    assert xet_hash(client, name) == hf_xet.hash_files([str(path)])[0].hash


def put_together(client: httpx.Client, plan: dict, xorbs: list[tuple[str, dict, dict, str]]) -> bytes:
    chunks = {}
    for block, span, in_bytes, url in xorbs:
        answer = client.get(url, headers={"Range": f"bytes={in_bytes['start']}-{in_bytes['end']}"})
        assert answer.status_code == 206
        for number, chunk in enumerate(unframed(answer.content), span["start"]):
            chunks[block, number] = chunk
    result = b""
    for term in plan["terms"]:
        span = term["range"]
        raw = b"".join(chunks[term["hash"], number] for number in range(span["start"], span["end"]))
        assert len(raw) == term["unpacked_length"]
        result += raw
    return result[plan["offset_into_first_range"] :]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("asked", [None, (0, 99), (1000, 700_000), (500_000, 9_999_999)])
def test_a_file_is_put_together_from_xorbs(
    client: httpx.Client, store: DiskBlockStore, name: str, version: str, asked: tuple[int, int] | None
) -> None:
    headers = authorization(client, name)
    if asked is not None:
        headers["Range"] = f"bytes={asked[0]}-{asked[1]}"
    plan = client.get(f"/{version}/reconstructions/{xet_hash(client, name)}", headers=headers).json()
    if version == "v1":
        xorbs = [
            (block, entry["range"], entry["url_range"], entry["url"])
            for block, entries in plan["fetch_info"].items()
            for entry in entries
        ]
    else:
        xorbs = [
            (block, span["chunks"], span["bytes"], entry["url"])
            for block, entries in plan["xorbs"].items()
            for entry in entries
            for span in entry["ranges"]
        ]
    start, stop = (0, None) if asked is None else (asked[0], asked[1] + 1)
    expected = content(store, name)[start:stop]
    assert put_together(client, plan, xorbs)[: len(expected)] == expected


def test_terms_need_a_token_and_a_file(client: httpx.Client, store: DiskBlockStore) -> None:
    headers, path = authorization(client, "org/base"), f"/v2/reconstructions/{xet_hash(client, 'org/base')}"
    size = len(content(store, "org/base"))
    assert client.get(path).status_code == 401
    assert (
        client.get(path, headers={"Authorization": "Bearer read.9999999999." + "0" * 64}).status_code == 401
    )
    assert client.get(path, headers={**headers, "Range": f"bytes={size}-{size + 9}"}).status_code == 416
    assert client.get(f"/v2/reconstructions/{'0' * 64}", headers=headers).status_code == 404
    assert client.get("/v2/reconstructions/nothing", headers=headers).status_code == 400


def first_url(client: httpx.Client, name: str) -> tuple[str, str]:
    """Address of a xorb, and the range that it permits."""
    plan = client.get(
        f"/v2/reconstructions/{xet_hash(client, name)}", headers=authorization(client, name)
    ).json()
    entry = next(iter(plan["xorbs"].values()))[0]
    span = entry["ranges"][0]["bytes"]
    return entry["url"], f"bytes={span['start']}-{span['end']}"


def test_the_address_of_a_xorb_permits_what_it_says(client: httpx.Client) -> None:
    url, span = first_url(client, "org/base")
    other = first_url(client, "org/tuned")[0].split("?")[0]
    assert client.get(url, headers={"Range": span}).status_code == 206
    assert client.get(url).status_code == 403
    assert client.get(url, headers={"Range": "bytes=0-99999999"}).status_code == 403
    assert client.get(url.split("?")[0], headers={"Range": span}).status_code == 403
    assert client.get(f"{other}?{url.split('?')[1]}", headers={"Range": span}).status_code in (206, 403)
    altered = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert client.get(altered, headers={"Range": span}).status_code == 403


def test_hashes_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with family_store(tmp_path) as store:
        seen = []
        for _ in range(2):
            with serving(StoreLibrary(store)) as url, web.Client(base_url=url) as client:
                seen.append([xet_hash(client, name) for name in FAMILY])
            monkeypatch.setattr(
                "pbstore.serve.library.hasher.xet_hash", lambda *_: pytest.fail("hashed again")
            )
        assert seen[0] == seen[1]


def test_a_damaged_book_of_hashes_is_made_anew(tmp_path: Path) -> None:
    with family_store(tmp_path) as store:
        book = store.path / "serve" / "hashes.sqlite"
        seen = []
        for damage in (None, b"no database at all" * 1000, b""):
            if damage is not None:
                book.write_bytes(damage)
            with serving(StoreLibrary(store)) as url, web.Client(base_url=url) as client:
                seen.append(xet_hash(client, "org/base"))
        assert len(set(seen)) == 1


def test_without_its_hash_in_time_a_file_is_plain_lfs(
    store: DiskBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def slowly(*_: object) -> str:
        begun.wait(120)
        return ""

    monkeypatch.setattr("pbstore.serve.library.hasher.xet_hash", slowly)
    monkeypatch.setattr(StoreLibrary, "_book_path", lambda _: None)
    settings = ServeSettings(hash_wait_s=0)
    with serving(create_app(StoreLibrary(store, settings), settings)) as url:
        try:
            head = web.head(f"{url}/org/base/resolve/main/model.safetensors").headers
            (listed,) = web.post(
                f"{url}/api/models/org/base/paths-info/main", data={"paths": ["model.safetensors"]}
            ).json()
        finally:
            begun.set()
    assert "x-xet-hash" not in head
    assert "xetHash" not in listed
    assert head["x-linked-etag"].strip('"') == listed["lfs"]["oid"]


def test_blocks_come_from_the_nodes_that_hold_them(store: DiskBlockStore, tmp_path: Path) -> None:
    """No weight passes the front: it sends the client on."""
    guards = Guards(signer=Signer.fresh())
    behind = create_app(StoreLibrary(store), guards=guards)
    with serving(behind) as holder_url, relayed(holder_url) as holder:
        front = create_app(StoreLibrary(store), guards=guards, holders=lambda _: [holder.url])
        with serving(front) as url, relayed(url) as between:
            pulled = run_client(PULL, between.url, tmp_path, "org/base")
            through_front, through_holder = between.taken(), holder.taken()
    assert pulled == {"org/base": hashes_of_folder(store.path.parent / "folders/org/base")}
    assert through_holder > len(content(store, "org/base")) > 10 * through_front


def test_who_comes_back_is_sent_to_the_next_and_answered_in_the_end(store: DiskBlockStore) -> None:
    front = create_app(StoreLibrary(store), holders=lambda _: ["http://one.test", "http://two.test/"])
    with serving(front) as url, web.Client(base_url=url) as client:
        address, span = first_url(client, "org/base")
        answers = [client.get(address, headers={"Range": span}) for _ in range(4)]
    path = address.removeprefix(url)
    assert [answer.status_code for answer in answers] == [302, 302, 206, 206]
    assert [answer.headers.get("location") for answer in answers[:2]] == [
        f"http://one.test{path}",
        f"http://two.test{path}",
    ]


@settings(max_examples=40)
@given(asked=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=30))
def test_attempts_are_counted_for_a_while(asked: list[tuple[int, int]]) -> None:
    now = 0.0
    attempts = Attempts(lambda: now)
    seen: list[tuple[int, float]] = []
    for what, wait in asked:
        now += wait
        before = attempts.earlier(what)
        runs = [at for one, at in seen if one == what] + [now]
        expected = 0
        while expected < len(runs) - 1 and runs[-1 - expected] - runs[-2 - expected] <= 300:
            expected += 1
        assert before == expected
        seen.append((what, now))
