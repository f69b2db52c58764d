"""Stores made by earlier code, of version 1 and of version 2, which has sheaves, open for ever."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pbstore import open_store

GOLDEN = Path(__file__).parent.parent / "golden"
CODECS = {"raw", "zstd", "planes", "delta", "cast", "rows", "lora", "grid"}
SUMS = {
    "store-v1": "store-v1",
    "store-v1b": "store-v1",
    "store-v1c": "store-v1c",
    "store-v2": "store-v1c",
    "store-v2b": "store-v2b",
}


@pytest.fixture(params=list(SUMS))
def frozen(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / str(request.param)


@pytest.fixture
def copy(frozen: Path, tmp_path: Path) -> Path:
    shutil.copytree(frozen, tmp_path / "store")
    return tmp_path / "store"


def assert_same_files(frozen: Path, path: Path, out: Path, *, read_only: bool = False) -> None:
    sums = json.loads((GOLDEN / f"{SUMS[frozen.name]}.json").read_text())
    codecs = CODECS | ({"recast"} if "org/tuned-half" in sums else set())
    codecs |= {"derive2"} if "org/group-merged" in sums else set()
    with open_store(path, read_only=read_only) as store:
        assert store.verify().ok
        assert set(store.models()) == set(sums)
        assert {store.info(block_id).codec for block_id in store.block_ids()} == codecs
        for name, files in sums.items():
            store.checkout(name, out / name)
            found = {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in (out / name).iterdir()
                if p.is_file()
            }
            assert found == files


def test_a_store_opens_where_it_lies(frozen: Path, tmp_path: Path) -> None:
    assert_same_files(frozen, frozen, tmp_path / "out", read_only=True)


def test_a_store_opens(frozen: Path, copy: Path, tmp_path: Path) -> None:
    assert_same_files(frozen, copy, tmp_path / "out")


def test_a_store_opens_without_its_index(frozen: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "index.sqlite").unlink()
    assert_same_files(frozen, copy, tmp_path / "out")


def test_a_store_goes_on_living(copy: Path, tmp_path: Path) -> None:
    with open_store(copy) as store:
        store.checkout("org/tuned", tmp_path / "tuned")
        assert store.add(tmp_path / "tuned", "org/again").new_blocks == 0
        store.forms.heat("org/half")
        store.forms.cool("org/half")
        store.remove("org/base", trash=False)
        store.gc()
        assert store.verify().ok


@pytest.mark.parametrize("lose_index", [False, True])
def test_the_trash_of_a_store_is_restored(tmp_path: Path, lose_index: bool) -> None:
    files = json.loads((GOLDEN / "store-v1c.json").read_text())["org/tuned-half"]
    shutil.copytree(GOLDEN / "store-v1-trash", tmp_path / "store")
    if lose_index:
        (tmp_path / "store" / "index.sqlite").unlink()
    with open_store(tmp_path / "store") as store:
        assert [(item.name, item.removed_at) for item in store.trash.models()] == [
            ("org/tuned-half", 1795979215.409)
        ]
        assert store.disk.settings.trash_days == 30
        assert "org/tuned-half" not in store.models()
        store.gc()
        assert store.trash.restore("org/tuned-half").name == "org/tuned-half"
        store.checkout("org/tuned-half", tmp_path / "out")
        assert store.verify().ok
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").iterdir()
    }
    assert found == files
