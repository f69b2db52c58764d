"""What is removed or brought back costs what it is, however many models the store has."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.disk.index import model_rows
from pbstore.errors import ModelMissingError
from pbstore.manifest import Manifest
from tests.pbstore.folders import base_tensors, write_model


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What of models is read: rows of the index, and manifests."""
    seen: list[str] = []
    row, parse = model_rows._row, Manifest.from_json
    monkeypatch.setattr(model_rows, "_row", lambda one: (seen.append("row"), row(one))[1])
    monkeypatch.setattr(Manifest, "from_json", lambda text: (seen.append("manifest"), parse(text))[1])
    return seen


def filled(path: Path, count: int) -> DiskBlockStore:
    store = open_store(path, durable=False)
    with store.disk.writing():
        for number in range(count):
            folder = write_model(path.parent / "folder", base_tensors(number, rows=2, width=2))
            store.add(folder, f"org/m{number}")
    return store


VERBS: dict[str, Callable[[DiskBlockStore], object]] = {
    "remove": lambda store: store.remove("org/m0"),
    "remove for good": lambda store: store.remove("org/m1", trash=False),
    "remove three": lambda store: store.trash.put(["org/m2", "org/m3", "org/m4"]),
    "dependents": lambda store: store.trash.dependents_of_all(["org/m5", "org/m6"]),
    "restore": lambda store: store.trash.restore("org/m3"),
    "rename": lambda store: store.history.rename("org/m5", "org/n5"),
    "copy": lambda store: store.history.copy("org/m6", "org/n6"),
    "tag": lambda store: store.history.tag("org/m6", "v1"),
    "pin": lambda store: store.pin("org/m6"),
}


def test_what_is_removed_or_moved_reads_nothing_of_the_others(tmp_path: Path, read: list[str]) -> None:
    costs = []
    for count in (10, 40):
        with filled(tmp_path / f"store-{count}", count) as store:
            spent = {}
            for verb, call in VERBS.items():
                read.clear()
                call(store)
                spent[verb] = sorted(read)
            costs.append(spent)
            assert store.verify().ok
    assert costs[0] == costs[1]


def test_all_go_or_none(tmp_path: Path) -> None:
    with filled(tmp_path / "store", 5) as store:
        with pytest.raises(ModelMissingError):
            store.trash.put(["org/m0", "org/m1", "org/none"])
        assert len(store.models()) == 5
        assert store.trash.models() == []
        store.trash.put(["org/m0", "org/m1"])
        assert store.models() == ("org/m2", "org/m3", "org/m4")
        assert [item.name for item in store.trash.models()] == ["org/m0", "org/m1"]
        assert store.verify().ok
