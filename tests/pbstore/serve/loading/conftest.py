"""A family in a store, at a node and on an object store; every test's caches lie in its own folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.fetch import copies
from tests.pbstore.serve.stores import FAMILY, family_store


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("loading")) as store:
        yield store


@pytest.fixture(scope="session")
def places(family: DiskBlockStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    origin = f"file://{tmp_path_factory.mktemp('origin')}"
    for name in FAMILY:
        copies.push(family, name, origin)
    with serving(create_app(StoreLibrary(family))) as node:
        yield {"store": str(family.path), "node": node, "origin": origin}


@pytest.fixture(params=["store", "node", "origin"])
def place(
    places: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("PBCAST_CACHE", str(tmp_path / "cache"))
    return places[request.param]
