"""A server serves every revision of a model under the Hub's words: main, tags, commits, refs and a log."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, create_app, serving
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model
from tests.pbstore.serve.clients import web


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    base = base_tensors(rows=40)
    with open_store(tmp_path / "store", durable=False) as opened:
        for number, tensors in enumerate((base, tuned(base, ("layer.weight",)))):
            opened.add(write_model(tmp_path / f"v{number}", tensors), "org/m")
        opened.history.tag("org/m@~1", "v0/rc")
        yield opened


@pytest.fixture
def client(store: DiskBlockStore) -> Iterator[httpx.Client]:
    with serving(create_app(StoreLibrary(store))) as url, web.Client(base_url=url) as opened:
        yield opened


def test_each_revision_is_served_under_all_its_names(
    client: httpx.Client, store: DiskBlockStore, tmp_path: Path
) -> None:
    new, old = (item.commit for item in store.history.log("org/m"))
    for number, names in ((0, (old, "v0%2Frc")), (1, ("main", new))):
        content = folder_content(tmp_path / f"v{number}")
        for revision in names:
            answer = client.get(f"/org/m/resolve/{revision}/model.safetensors")
            assert answer.status_code == 200
            assert answer.content == content["model.safetensors"]
            assert answer.headers["x-repo-commit"] == (old, new)[number]


def test_refs_and_commits_are_those_of_the_store(client: httpx.Client, store: DiskBlockStore) -> None:
    new, old = (item.commit for item in store.history.log("org/m"))
    refs = client.get("/api/models/org/m/refs").json()
    assert [(item["name"], item["targetCommit"]) for item in refs["branches"]] == [("main", new)]
    assert [(item["ref"], item["targetCommit"]) for item in refs["tags"]] == [("refs/tags/v0/rc", old)]
    assert [item["id"] for item in client.get("/api/models/org/m/commits/main").json()] == [new, old]
    assert [item["id"] for item in client.get(f"/api/models/org/m/commits/{old}").json()] == [old]


def test_what_is_added_while_it_serves_is_served_at_once(
    client: httpx.Client, store: DiskBlockStore, tmp_path: Path
) -> None:
    _, old = (item.commit for item in store.history.log("org/m"))
    assert client.get("/api/models/org/m").json()["sha"] != old
    store.history.copy("org/m@v0/rc", "org/m")
    assert client.get("/api/models/org/m").json()["sha"] == old
    assert client.get("/api/models/org/m/revision/~1").json()["sha"] != old
    assert client.get("/api/models/org/m/revision/nothing").status_code == 404
