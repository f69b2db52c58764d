"""The Hub's read protocol: what a client asks for is what the store has, in the Hub's words."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from pbstore import DiskBlockStore, Manifest, open_store
from pbstore.serve import ServeSettings, StoreLibrary, create_app, serving
from tests.pbstore.folders import folder_content
from tests.pbstore.serve.clients import web
from tests.pbstore.serve.stores import FAMILY, family_store

SMALL_PAGES = ServeSettings(page_entries=2, part_bytes=50_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        opened.add(opened.path.parent / "folders/org/base", "solo")
        opened.add(opened.path.parent / "folders/org/base", "tree")
        yield opened


@pytest.fixture(scope="module")
def client(store: DiskBlockStore) -> Iterator[httpx.Client]:
    app = create_app(StoreLibrary(store, SMALL_PAGES), SMALL_PAGES)
    with serving(app) as url, web.Client(base_url=url) as opened:
        yield opened


def folder_of(store: DiskBlockStore, name: str) -> Path:
    return store.path.parent / "folders" / ("org/base" if name in ("solo", "tree") else name)


NAMES = (*FAMILY, "solo", "tree")


def tree(client: httpx.Client, name: str, **asked: str) -> list[dict]:
    """All pages of a tree."""
    found, url = [], f"/api/models/{name}/tree/main?" + "&".join(f"{k}={v}" for k, v in asked.items())
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) <= SMALL_PAGES.page_entries
        found += answer.json()
        url = answer.links.get("next", {}).get("url")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_lists_every_file_with_true_hashes(
    client: httpx.Client, store: DiskBlockStore, name: str
) -> None:
    listed = {entry["path"]: entry for entry in tree(client, name, recursive="true")}
    content = folder_content(folder_of(store, name))

    assert {path for path, entry in listed.items() if entry["type"] == "file"} == set(content)
    assert [path for path, entry in listed.items() if entry["type"] == "directory"] == [
        "nested",
        "nested/a b",
    ]
    for path, data in content.items():
        entry = listed[path]
        assert entry["size"] == len(data)
        if path == "model.safetensors":
            assert entry["lfs"]["oid"] == hashlib.sha256(data).hexdigest()
            oid = entry["lfs"]["oid"]
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"
            assert entry["lfs"]["pointerSize"] == len(pointer)
            data = pointer.encode()
        assert entry["oid"] == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.mark.parametrize(("folder", "recursive"), [("", "false"), ("nested", "false"), ("nested", "true")])
def test_a_tree_of_a_folder_is_what_lies_in_it(client: httpx.Client, folder: str, recursive: str) -> None:
    every = [entry["path"] for entry in tree(client, "org/base", recursive="true")]
    inside = [path for path in every if path.startswith(f"{folder}/" if folder else "")]
    expected = [p for p in inside if recursive == "true" or "/" not in p[len(folder) + bool(folder) :]]
    found, url = [], f"/api/models/org/base/tree/main/{folder}?recursive={recursive}"
    while url:
        answer = client.get(url)
        found += [entry["path"] for entry in answer.json()]
        url = answer.links.get("next", {}).get("url")

    assert found == expected


def test_a_tree_and_a_head_agree(client: httpx.Client) -> None:
    for entry in tree(client, "org/tuned", recursive="true", expand="true"):
        if entry["type"] == "directory":
            continue
        head = client.head(f"/org/tuned/resolve/main/{quote(entry['path'])}")
        assert head.status_code == 200
        assert int(head.headers["content-length"]) == entry["size"]
        assert head.headers["etag"].strip('"') == (entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])
        assert head.headers.get("x-xet-hash") == entry.get("xetHash")
        assert ("xet-auth" in head.links) == ("xetHash" in entry)
        assert entry["lastCommit"]["id"] == head.headers["x-repo-commit"]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_every_name_and_revision_comes_back(
    client: httpx.Client, store: DiskBlockStore, name: str
) -> None:
    commit = client.get(f"/api/models/{name}").json()["sha"]
    for revision in ("main", commit):
        for path, data in folder_content(folder_of(store, name)).items():
            answer = client.get(f"/{name}/resolve/{revision}/{quote(path)}")
            assert answer.content == data
            assert answer.headers["x-repo-commit"] == commit


def test_what_is_not_there_is_named_as_the_hub_names_it(client: httpx.Client) -> None:
    commit = client.get("/api/models/org/base").json()["sha"]
    cases = {
        "/api/models/org/none": "RepoNotFound",
        "/api/models/none": "RepoNotFound",
        "/api/models/org/none/tree/main": "RepoNotFound",
        "/api/models/a b/c/revision/main": "RepoNotFound",
        "/org/none/resolve/main/config.json": "RepoNotFound",
        "/api/models/org/base/revision/nope": "RevisionNotFound",
        "/api/models/org/base/revision/refs%2Fpr%2F1": "RevisionNotFound",
        "/api/models/org/base/tree/0123456789012345678901234567890123456789": "RevisionNotFound",
        "/org/base/resolve/nope/config.json": "RevisionNotFound",
        "/org/base/resolve/main/none.json": "EntryNotFound",
        "/org/base/resolve/main/nested": "EntryNotFound",
        "/org/base/resolve/main/..%2f..%2fSTORE.json": "EntryNotFound",
        "/api/models/org/base/tree/main/none": "EntryNotFound",
        "/api/agent-harnesses": "",
        "/api/telemetry/x": "",
        "/api/datasets/org/base": "",
        "/": "",
        "/org/base/resolve": "",
        "/%ff/resolve/main/x": "",
    }
    for path, code in cases.items():
        answer = client.send(
            client.build_request("GET", httpx.URL(client.base_url.copy_with(raw_path=path.encode())))
        )
        assert answer.status_code in (400, 404), path
        assert answer.headers.get("x-error-code", "") == code, path
        assert answer.headers.get("x-repo-commit", "") == (commit if code == "EntryNotFound" else ""), path
        assert answer.json()["error"]


def test_paths_info_takes_a_form_and_json(client: httpx.Client) -> None:
    asked = {"paths": ["model.safetensors", "none", "nested", "nested/a b/ü 中.txt"], "expand": False}
    form = client.post("/api/models/org/base/paths-info/main", data=asked)
    as_json = client.post("/api/models/org/base/paths-info/main", json=asked)
    listed = {entry["path"]: entry for entry in tree(client, "org/base", recursive="true")}

    assert form.json() == as_json.json()
    assert form.json() == [listed[path] for path in asked["paths"] if path != "none"]
    many = client.post("/api/models/org/base/paths-info/main", data={"paths": ["x"] * 1001})
    assert many.status_code == 400


def test_models_are_listed_by_author_and_part_of_the_name(client: httpx.Client) -> None:
    def listed(query: str) -> list[str]:
        names, url = [], f"/api/models?{query}"
        while url:
            answer = client.get(url)
            names += [model["id"] for model in answer.json()]
            url = answer.links.get("next", {}).get("url")
        return names

    assert listed("") == sorted(NAMES)
    assert listed("author=org") == sorted(FAMILY)
    assert listed("search=TUN") == ["org/tuned"]
    assert listed("limit=1") == sorted(NAMES)


FILE = "/org/tuned/resolve/main/model.safetensors"


@pytest.mark.parametrize(
    "header", ["bytes=0-0", "bytes=100-4999", "bytes=-77", "bytes=5000-", "bytes=0-99999999"]
)
def test_a_range_is_those_bytes(client: httpx.Client, store: DiskBlockStore, header: str) -> None:
    data = (folder_of(store, "org/tuned") / "model.safetensors").read_bytes()
    first, _, last = header.removeprefix("bytes=").partition("-")
    expected = data[int(first) : int(last) + 1 if last else None] if first else data[-int(last) :]
    answer = client.get(FILE, headers={"Range": header})

    assert (answer.status_code, answer.content) == (206, expected)
    start = data.index(expected) if first == "" else int(first)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(data)}"


def test_several_ranges_are_parts(client: httpx.Client, store: DiskBlockStore) -> None:
    data = (folder_of(store, "org/tuned") / "model.safetensors").read_bytes()
    answer = client.get(FILE, headers={"Range": "bytes=0-9, 3000-5999,-5"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + answer.content).get_payload()

    assert answer.status_code == 206
    assert [part.get_payload(decode=True) for part in parts] == [data[:10], data[3000:6000], data[-5:]]
    assert parts[1]["Content-Range"] == f"bytes 3000-5999/{len(data)}"


def test_a_range_outside_of_the_file_is_refused(client: httpx.Client, store: DiskBlockStore) -> None:
    size = (folder_of(store, "org/tuned") / "model.safetensors").stat().st_size
    answer = client.get(FILE, headers={"Range": f"bytes={size}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")


def test_conditions_hold(client: httpx.Client) -> None:
    etag = client.head(FILE).headers["etag"]
    some = {"Range": "bytes=0-9"}
    assert client.get(FILE, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(FILE, headers={"If-None-Match": f'"x", {etag}'}).content == b""
    assert client.get(FILE, headers={"If-None-Match": '"x"'}).status_code == 200
    assert client.get(FILE, headers={"If-Match": '"x"'}).status_code == 412
    assert client.get(FILE, headers={**some, "If-Range": etag}).status_code == 206
    assert client.get(FILE, headers={**some, "If-Range": '"x"'}).status_code == 200
    assert client.get(FILE, headers={**some, "If-Range": f"W/{etag}"}).status_code == 200


def test_a_damaged_file_is_an_error_before_its_first_byte(tmp_path: Path) -> None:
    with family_store(tmp_path) as store:
        pack = next(store.disk.layout.packs.iterdir())
        file = next(f for f in store.manifest("org/base").files if f.path == "model.safetensors")
        block = file.pieces[0].block_id
        with pack.open("r+b") as opened:
            opened.seek(store.disk.locate(block).record.payload_offset)
            opened.write(b"\xff\xff\xff")
        with serving(StoreLibrary(store)) as url:
            answer = web.get(f"{url}/org/base/resolve/main/model.safetensors")
        assert answer.status_code == 500
        assert "corrupt" not in answer.text


def test_a_commit_is_the_content_whoever_serves_it(tmp_path: Path) -> None:
    with family_store(tmp_path) as store, open_store(tmp_path / "other", durable=False) as other:
        for name in FAMILY:
            for block in store.blocks(name):
                other.import_block(store.export_block(block))
            other.put_manifest(store.manifest(name))
        seen = []
        for one in (store, other):
            with serving(StoreLibrary(one)) as url:
                seen.append([web.get(f"{url}/api/models/{name}").json()["sha"] for name in FAMILY])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == len(FAMILY)


def test_models_that_come_and_go_are_seen(tmp_path: Path) -> None:
    with family_store(tmp_path) as store, serving(StoreLibrary(store)) as url:
        first = web.get(f"{url}/api/models/org/tuned").json()["sha"]
        store.remove("org/tuned")
        assert web.get(f"{url}/api/models/org/tuned").status_code == 404
        renamed: Manifest = replace(store.manifest("org/base"), name="org/tuned")
        store.put_manifest(renamed)
        second = web.get(f"{url}/api/models/org/tuned").json()["sha"]
        assert first != second
        assert (
            web.get(f"{url}/api/models/org/tuned/revision/{first}").headers["x-error-code"]
            == "RevisionNotFound"
        )
