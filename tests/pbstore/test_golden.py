"""Stores made by earlier code open for ever."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pbstore import open_store

GOLDEN = Path(__file__).parent.parent / "golden"
CODECS = {"raw", "zstd", "planes", "delta", "cast", "rows", "lora", "grid"}


@pytest.fixture(params=["store-v1", "store-v1b"])
def frozen(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / str(request.param)


@pytest.fixture
def copy(frozen: Path, tmp_path: Path) -> Path:
    shutil.copytree(frozen, tmp_path / "store")
    return tmp_path / "store"


def assert_same_files(path: Path, out: Path, *, read_only: bool = False) -> None:
    sums = json.loads((GOLDEN / "store-v1.json").read_text())
    with open_store(path, read_only=read_only) as store:
        assert store.verify().ok
        assert set(store.models()) == set(sums)
        assert {store.info(block_id).codec for block_id in store.block_ids()} == CODECS
        for name, files in sums.items():
            store.checkout(name, out / name)
            found = {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in (out / name).iterdir()
                if p.is_file()
            }
            assert found == files


def test_a_store_of_version_1_opens_where_it_lies(frozen: Path, tmp_path: Path) -> None:
    assert_same_files(frozen, tmp_path / "out", read_only=True)


def test_a_store_of_version_1_opens(copy: Path, tmp_path: Path) -> None:
    assert_same_files(copy, tmp_path / "out")


def test_a_store_of_version_1_opens_without_its_index(copy: Path, tmp_path: Path) -> None:
    (copy / "index.sqlite").unlink()
    assert_same_files(copy, tmp_path / "out")


def test_a_store_of_version_1_goes_on_living(copy: Path, tmp_path: Path) -> None:
    with open_store(copy) as store:
        store.checkout("org/tuned", tmp_path / "tuned")
        assert store.add(tmp_path / "tuned", "org/again").new_blocks == 0
        store.heat("org/half")
        store.cool("org/half")
        store.remove("org/base")
        store.gc()
        assert store.verify().ok
